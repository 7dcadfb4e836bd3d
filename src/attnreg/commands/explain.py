"""`attnreg explain`: what the model attended to, in one figure and one JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from attnreg.commands.libraries import load_libraries
from attnreg.commands.parameters import MODEL, TARGETS, MethodName, SettingText, drawing_options, settings_given
from attnreg.commands.terminal import tell
from attnreg.methods import DEFAULT

WITH_A_PICTURE = ("prompt", "device", "out")
"""What may be given beside a picture: all else its recipe says."""


@click.command()
@click.argument("prompt", metavar="PROMPT|PICTURE.png")
@TARGETS
@MODEL
@click.option(
    "--method", type=MethodName(), default=DEFAULT, show_default=True, metavar="NAME",
    help="see attnreg methods; none: the unmodified model alone",
)  # fmt: skip
@click.option(
    "--set", "settings", type=SettingText(), multiple=True, callback=settings_given, metavar="NAME=VALUE",
    help="a setting of the method: see attnreg methods NAME; repeat it",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, metavar="N")
@drawing_options
@click.pass_context
def explain(
    context: click.Context, /, prompt: str, method: str, settings: dict[str, str], seed: int, targets: Sequence[str],
    out: Path, **options: Any,
) -> None:  # fmt: skip
    """Show what the model attended to: each word's map over the picture, its share of attention, what was neglected.

    Draws PROMPT without the method and with it, or a PICTURE that attnreg saved again, and writes one figure and one
    JSON beside the pictures.
    """
    from attnreg.recipe import read_recipe

    again = prompt.lower().endswith(".png")
    if again:
        _check_alone(context)
    load_libraries(read_recipe(Path(prompt)).model if again else options["model"])
    from attnreg.explain import saving
    from attnreg.sampling import read_settings
    from attnreg.studio import Session
    from attnreg.writing import check_writable

    if again:
        for path in saving.explain_picture(Path(prompt), options["device"], out, tell):
            tell(f"saved {path}")
        return
    check_writable(out)
    session = Session.open(
        prompt, targets=list(targets) or None, method=method, settings=read_settings(method, settings), **options
    )
    for path in saving.save(saving.explain_session(session, seed), session.recipe, out, tell):
        tell(f"saved {path}")


def _check_alone(context: click.Context) -> None:
    """A usage error if something is given that the picture's recipe says."""
    for parameter in context.command.params:
        name = parameter.name or ""
        given = context.get_parameter_source(name) == ParameterSource.COMMANDLINE
        if given and name not in WITH_A_PICTURE:
            raise click.UsageError(
                f"{parameter.opts[-1]} goes with a prompt; of a picture its recipe says it: leave it out", context
            )
