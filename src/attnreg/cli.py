"""The command line: parse, call, print."""

from __future__ import annotations

import dataclasses
import difflib
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import click

import attnreg.commands.distances  # adds distances to bench
import attnreg.commands.report  # noqa: F401  (adds report, table, export and import to bench)
from attnreg.commands.bench import bench
from attnreg.commands.compare import compare
from attnreg.commands.parameters import MODEL, TARGETS, Seeds, drawing_options, quiet_libraries
from attnreg.commands.prompts import prompts
from attnreg.methods import DEFAULT, METHODS
from attnreg.types import AttnregError


def setting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add one option for every setting of every method, made from the config dataclasses."""
    made: dict[str, tuple[Any, str, dict[str, str]]] = {}
    for name, method in METHODS.items():
        if method.config is None:
            continue
        hints = get_type_hints(method.config)
        for one in dataclasses.fields(method.config):  # type: ignore[arg-type]
            _, _, defaults = made.setdefault(one.name, (hints[one.name], one.metadata["help"], {}))
            defaults[name] = " ".join(map(str, one.default)) if isinstance(one.default, tuple) else str(one.default)
    for name, (kind, text, defaults) in reversed(made.items()):
        options: dict[str, Any] = {"type": kind}
        if get_origin(kind) is tuple:
            inner = get_args(kind)
            if inner[-1] is Ellipsis:
                options = {"type": get_args(inner[0]) or inner[0], "multiple": True}
            else:
                options = {"type": inner, "nargs": len(inner)}
        only = (
            "" if len(defaults) == sum(m.config is not None for m in METHODS.values()) else f" ({', '.join(defaults)})"
        )
        first = next(iter(defaults.values()))
        others = "".join(f"; {method}: {default}" for method, default in defaults.items() if default != first)
        flag = f"--{name.replace('_', '-')}"
        command = click.option(flag, f"set_{name}", help=f"{text}{only} [{first}{others}]", **options)(command)
    return command


class _Method(click.ParamType[str]):
    name = "method"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        if unknown := [name for name in value.split("+") if name not in METHODS]:
            close = difflib.get_close_matches(unknown[0], METHODS, n=1)
            meant = f"did you mean {close[0]}? " if close else ""
            self.fail(f"{unknown[0]!r} is none of {', '.join(METHODS)}; {meant}several are joined by +", param, ctx)
        return str(value)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="attnreg")
@click.option("--debug", is_flag=True, help="show the whole traceback of an error")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Text-to-image pictures in which every word of the prompt is heeded."""


@cli.command()
@click.argument("prompt")
@TARGETS
@click.option("--no-adjectives", is_flag=True, help="leave adjectives out of the targets found automatically")
@MODEL
@click.option("--method", type=_Method(), default=DEFAULT, show_default=True, help="see methods; a+b composes two")
@click.option("--seeds", type=Seeds(), default="0", show_default=True, help="one picture a seed: 0, 0-3 or 1,5,9")
@drawing_options
@click.option("--alone", is_flag=True, help="draw the regulated picture only: no unmodified one, no sheet")
@setting_options
def generate(
    prompt: str, targets: Sequence[str], no_adjectives: bool, seeds: list[int], device: str, out: Path, alone: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Draw PROMPT, unmodified and regulated side by side.

    Every picture is a PNG that carries its own recipe: `attnreg rerun PICTURE.png` draws it again.
    """
    studio = _studio()
    settings = {key[4:]: value for key, value in options.items() if key.startswith("set_") and value not in (None, ())}
    rest = {key: value for key, value in options.items() if not key.startswith("set_")}
    session = studio.Session.open(
        prompt, targets=list(targets) or None, adjectives=not no_adjectives, settings=settings, device=device, **rest
    )
    for target in session.targets:
        click.echo(f"target: {target}")
    for path in session.draw(seeds, out, beside_unmodified=not alone, say=click.echo):
        click.echo(f"saved {path}")


@cli.command()
@click.argument("picture", type=click.Path(path_type=Path))
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps or auto")
@click.option("--out", type=click.Path(path_type=Path), default="out", show_default=True, help="folder of the picture")
def rerun(picture: Path, device: str, out: Path) -> None:
    """Draw PICTURE, a PNG saved by attnreg, again from the recipe in it, and say whether it came out the same."""
    path, same, changed = _studio().draw_again(picture, device, out)
    click.echo(f"saved {path}")
    click.echo("the same, bit for bit" if same else "different from the picture given")
    if changed:
        click.echo(f"other releases than then: {', '.join(changed)}")


@cli.command()
def methods() -> None:
    """List the methods: what each does and changes, what it needs and costs, and the paper it is from."""
    for name, method in METHODS.items():
        click.echo(f"{name}: {method.summary}")
        told = {
            "changes": method.edits,
            "needs": ", ".join(method.needs),
            "extra passes of the denoiser": "" if method.passes == "none" else method.passes,
            "paper": method.paper,
        }
        for what, text in told.items():
            if text:
                click.echo(f"    {what}: {text}")
    click.echo("methods that change different parts compose: --method prompt-weighting+attention-balance")


@cli.command()
@click.pass_context
def doctor(context: click.Context) -> None:
    """Say what is installed, which devices there are, and whether the bundled model is whole."""
    from attnreg.doctor import examine

    report = list(examine())
    for well, line in report:
        click.echo(f"{'ok   ' if well else 'FAULT'} {line}")
    context.exit(0 if all(well for well, _ in report) else 1)


cli.add_command(bench)
cli.add_command(compare)
cli.add_command(prompts)


def _studio() -> Any:
    quiet_libraries()
    from attnreg import studio

    return studio


def main() -> None:
    """The entry point: errors of the library become one line, with exit code 1; usage errors exit with 2."""
    warnings.showwarning = _warn
    try:
        status = cli.main(standalone_mode=False)
    except AttnregError as error:
        _fail(str(error))
    except click.UsageError as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted: pictures reported as saved are kept, the one in hand is not")
    except Exception as error:
        _fail(f"unexpected {type(error).__name__}: {error} (please report it; --debug shows where it happened)")
    sys.exit(status if isinstance(status, int) else 0)


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"attnreg: {' '.join(str(message).removeprefix('attnreg:').split())}", err=True)


def _fail(message: str) -> None:
    if "--debug" in sys.argv:
        traceback.print_exc()
    click.echo(f"attnreg: {' '.join(message.split())}", err=True)
    sys.exit(1)
