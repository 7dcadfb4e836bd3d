"""What several commands take. Help and usage errors are quick: nothing here loads torch."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from attnreg.errors import AttnregError
from attnreg.limits import MOST_STEPS
from attnreg.methods import DEFAULT, METHODS
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


class MethodName(click.ParamType[str]):
    """A name of `METHODS`, or several joined by "+"."""

    name = "method"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """The text as it is; a usage error if a name in it is none."""
        names = str(value).split("+")
        if unknown := [name for name in names if name not in METHODS]:
            self.fail(f"{unknown[0]!r} is none of {', '.join(METHODS)}; {meant(unknown[0])}several are joined by +")
        if len(names) > 1 and DEFAULT in names:
            self.fail(f"{DEFAULT} decides by itself what acts: name the methods, such as best-start+attention-balance")
        return str(value)

    def shell_complete(self, ctx: Any, param: Any, incomplete: str) -> list[CompletionItem]:
        """The methods that go on from what is written, after its last "+"."""
        before, plus, last = incomplete.rpartition("+")
        return [
            CompletionItem(f"{before}{plus}{name}", help=one.summary)
            for name, one in METHODS.items()
            if name.startswith(last)
        ]


class SettingText(click.ParamType[tuple[str, str]]):
    """NAME=VALUE: whether the method has it, and takes the value, is found out when the method is loaded."""

    name = "setting"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, str]:
        """The name, with hyphens as underscores, and the text of the value."""
        if isinstance(value, tuple):
            return value
        name, sign, text = str(value).partition("=")
        if not (sign and name.strip()):
            self.fail(f"expected NAME=VALUE, got {value!r}; write for example --set gain=2.5", param, ctx)
        return name.strip().replace("-", "_"), text


def settings_given(context: Any, param: Any, given: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Settings by name; a usage error if one is given twice."""
    found: dict[str, str] = {}
    for name, text in given:
        if name in found:
            raise click.BadParameter(f"{name} is given twice; several values are one: {name}=a,b", context, param)
        found[name] = text
    return found


def meant(name: str) -> str:
    """ "did you mean conform? ", where a method is spelt nearly so; else nothing."""
    close = difflib.get_close_matches(name, METHODS, n=1)
    return f"did you mean {close[0]}? " if close else ""


TARGETS = click.option(
    "--targets", "-t", multiple=True, metavar="WORDS",
    help="a word or phrase that must be heeded; repeat it  [default: the noun phrases]",
)  # fmt: skip
MODEL = click.option(
    "--model",
    default="pocket",
    show_default=True,
    metavar="NAME",
    help="pocket, pocket-joint, a directory, a .safetensors file or a hub id",
)

_DRAWING = (
    click.option(
        "--family",
        metavar="NAME",
        help="of the model, where its class does not tell it: see attnreg models; probe: find out [by its class]",
    ),
    click.option("--steps", type=click.IntRange(1, MOST_STEPS), metavar="N", help="denoising steps [the model's own]"),
    click.option(
        "--guidance-scale",
        type=click.FloatRange(min=0),
        metavar="X",
        help="classifier-free guidance; 1: none [the model's own]",
    ),
    click.option("--negative-prompt", metavar="TEXT", help="what guidance moves away from"),
    click.option("--height", type=click.IntRange(min=1), metavar="PIXELS", help="of the picture [the model's own]"),
    click.option("--width", type=click.IntRange(min=1), metavar="PIXELS", help="of the picture [the model's own]"),
    click.option("--scheduler", metavar="NAME", help="ddim, dpm++, euler, heun, ... [the model's own]"),
    click.option(
        "--dtype", default="auto", show_default=True, metavar="NAME", help="float32, float16, bfloat16 or auto"
    ),
    click.option("--device", default="auto", show_default=True, metavar="NAME", help="cpu, cuda, cuda:1, mps or auto"),
    click.option(
        "--out",
        type=click.Path(path_type=Path),
        default="out",
        show_default=True,
        metavar="FOLDER",
        help="where the pictures go",
    ),
)


def drawing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what every command that draws takes."""
    for add in reversed(_DRAWING):
        command = add(command)
    return command
