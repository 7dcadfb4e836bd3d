"""`attnreg compare`: one prompt under several methods, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from attnreg.commands.libraries import load_libraries
from attnreg.commands.parameters import MODEL, TARGETS, Seeds, drawing_options
from attnreg.commands.terminal import tell


@click.command()
@click.argument("prompt")
@click.option(
    "--methods",
    required=True,
    multiple=True,
    metavar="METHOD,...",
    help="such as attention-regulation,attention-scaling(shift=2),syngen+attention-regulation; repeat it for more",
)
@click.option("--seeds", type=Seeds(), default="0-3", show_default=True, help="one row a seed: 0, 0-3 or 1,5,9")
@TARGETS
@MODEL
@drawing_options
def compare(
    prompt: str, methods: Sequence[str], seeds: list[int], targets: Sequence[str], out: Path, **options: Any
) -> None:  # fmt: skip
    """Draw PROMPT with every method and seed: one labelled sheet, verdicts and costs under each, a JSON beside it."""
    load_libraries(options["model"])
    from attnreg.comparison import compare as compared
    from attnreg.evaluation.spelling import split_methods

    named = [one for text in methods for one in split_methods(text)]
    for path in compared(prompt, named, seeds, out, say=tell, targets=list(targets) or None, **options):
        tell(f"saved {path}")
