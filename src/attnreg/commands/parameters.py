"""What several commands take, and what all that draw do first."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from attnreg.errors import AttnregError
from attnreg.seeds import seeds_of


class Seeds(click.ParamType[list[int]]):
    """0, 0-3 or 1,5,9."""

    name = "seeds"

    def convert(self, value: Any, param: Any, ctx: Any) -> list[int]:
        """The seeds of a text; a usage error if it holds none."""
        try:
            return list(seeds_of(value))
        except AttnregError as error:
            self.fail(str(error), param, ctx)


TARGETS = click.option(
    "--targets", "-t", multiple=True, help="a word or phrase that must be heeded; repeat it (default: the noun phrases)"
)
MODEL = click.option(
    "--model", default="pocket", show_default=True, help="pocket, a directory, a .safetensors checkpoint or a hub id"
)

_DRAWING = (
    click.option("--steps", type=click.IntRange(1, 1000), help="denoising steps [the model's own]"),
    click.option("--guidance-scale", type=click.FloatRange(min=0), help="classifier-free guidance [the model's own]"),
    click.option("--negative-prompt", help="what guidance moves away from"),
    click.option("--height", type=click.IntRange(min=1), help="of the picture, in pixels [the model's own]"),
    click.option("--width", type=click.IntRange(min=1), help="of the picture, in pixels [the model's own]"),
    click.option("--scheduler", help="ddim, dpm++, euler, euler-a, heun, ... [the model's own]"),
    click.option("--dtype", default="auto", show_default=True, help="float32, float16, bfloat16 or auto"),
    click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps or auto"),
    click.option(
        "--out", type=click.Path(path_type=Path), default="out", show_default=True, help="folder of the pictures"
    ),
)


def drawing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what every command that draws takes."""
    for add in reversed(_DRAWING):
        command = add(command)
    return command


def quiet_libraries() -> None:
    """Load diffusers and transformers without what they tell while they load: it is no part of our account.

    Called by the commands that draw, not when the command line starts: what only prints need not wait for them.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
