"""`attnreg prompts`: list, show and export the prompt sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from attnreg.commands.kinds import FILE, PROMPTS, SEED
from attnreg.commands.terminal import tell


def which(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument and the options that choose prompts: those of `attnreg.evaluation.prompts.prompt_set`."""
    for add in (
        click.option("--find-things", is_flag=True, help="where a set does not list its things, find noun phrases"),
        click.option("--half", type=click.Choice(["development", "test"]), help="one half of every category [both]"),
        click.option("--seed", type=SEED, default=0, show_default=True, help="decides colours, halves and the limit"),
        click.argument("name"),
    ):
        command = add(command)
    return command


@click.group()
def prompts() -> None:
    """List, show and export prompt sets, yours or the field's."""


@prompts.command("list")
def list_sets() -> None:
    """List the prompt sets: what each is, its paper and its licence."""
    from attnreg.evaluation.prompts import PROMPT_SETS

    for name, row in PROMPT_SETS.items():
        after = {"file": ":PATH", "model": "[:MODEL]", "parts": "[:PARTS]" if row.parts else ""}[row.takes]
        parts = f"; parts: {', '.join(row.parts)}" if row.parts else ""
        source = f" ({row.paper})" if row.paper else ""
        tell(f"{name + after:28}{row.summary}{parts}{source} [{row.licence}]")
    tell(f"{'PATH':28}your own: a .txt of one prompt a line, or .csv, .tsv, .jsonl, .json with more")


@prompts.command()
@which
@click.option("--limit", type=PROMPTS, default=20, show_default=True, help="at most so many prompts")
@click.option("--all", "every", is_flag=True, help="all of them, whatever --limit says")
@click.option("--known", is_flag=True, help="say what is known of each: things, relations, questions")
def show(name: str, limit: int, every: bool, known: bool, **options: Any) -> None:
    """Show the prompts of NAME: a set (see list), a set with a path such as geneval:PATH, or a file of yours.

    With a limit, prompts are drawn from every category in proportion; a smaller limit shows a part of a larger one's.
    """
    from attnreg.evaluation.prompts import prompt_set

    made = prompt_set(name, **options)
    counts = Counter(prompt.category for prompt in made)
    told = ", ".join(f"{count} {category}" for category, count in counts.items() if category)
    tell(f"{len(made)} prompt{'s' if len(made) > 1 else ''}{f': {told}' if told else ''}")
    for prompt in made if every else prompt_set(name, limit=limit, **options):
        tell(prompt.text)
        for line in _known(prompt) if known else ():
            tell(f"    {line}")


@prompts.command()
@which
@click.argument("file", type=FILE)
@click.option("--limit", type=PROMPTS, help="at most so many prompts [all]")
def export(name: str, file: Path, **options: Any) -> None:
    """Write the prompts of NAME to FILE: .txt (one a line), .csv or .jsonl; reading FILE gives the same prompts."""
    from attnreg.evaluation.prompts import prompt_set
    from attnreg.evaluation.prompts.plain import write

    made = prompt_set(name, **options)
    write(made, file)
    tell(f"saved {len(made)} prompts to {file}")
    if file.suffix.lower() == ".txt" and any(prompt.category or _known(prompt) for prompt in made):
        tell("only the texts: categories, things and questions need .csv or .jsonl", err=True)


def _known(prompt: Any) -> list[str]:
    """What is known of a prompt besides its text, one line a thing, relation and question."""
    things = [f"{thing.count} x {thing.phrase}" if thing.count > 1 else thing.phrase for thing in prompt.things]
    return [
        *(f"thing: {thing}" for thing in things),
        *(f"relation: {things[one.first]} {one.where} {things[one.second]}" for one in prompt.relations),
        *(f"question: {question} {answer}" for question, answer in prompt.questions),
    ]
