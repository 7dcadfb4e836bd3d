"""The command line: parse, call, print."""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

import attnreg.commands.distances  # adds distances to bench
import attnreg.commands.report
import attnreg.commands.tune  # noqa: F401  (adds tune to bench)
from attnreg.commands.app import app
from attnreg.commands.bench import bench
from attnreg.commands.calibrate import calibrate
from attnreg.commands.compare import compare
from attnreg.commands.explain import explain
from attnreg.commands.libraries import OURS, load_libraries
from attnreg.commands.methods import methods
from attnreg.commands.models import models
from attnreg.commands.parameters import (
    MODEL,
    TARGETS,
    MethodName,
    Seeds,
    SettingText,
    drawing_options,
    settings_given,
)  # fmt: skip
from attnreg.commands.prompts import prompts
from attnreg.commands.terminal import tell
from attnreg.errors import AttnregError
from attnreg.methods import DEFAULT


class GenerateCommand(click.Command):
    """A command whose settings were options of their own once, one for each setting of each method."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As ever; an unknown option is told how settings are given now."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            name, close = error.option_name.lstrip("-").replace("-", "_"), error.possibilities or ()
            raise click.UsageError(
                f"No such option: {error.option_name}. {f'Did you mean {close[0]}? ' if close else ''}"
                f"A setting of the method is given as --set {name}=VALUE; attnreg methods NAME lists them.",
                ctx,
            ) from error


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="attnreg")
@click.option("--debug", is_flag=True, help="show the whole traceback of an error")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Text-to-image pictures in which every word of the prompt is heeded."""


@cli.command(cls=GenerateCommand)
@click.argument("prompt")
@TARGETS
@click.option("--no-adjectives", is_flag=True, help="leave adjectives out of the targets found automatically")
@MODEL
@click.option(
    "--method",
    type=MethodName(),
    default=DEFAULT,
    show_default=True,
    metavar="NAME",
    help="how they are heeded: see attnreg methods; a+b composes two",
)
@click.option(
    "--set",
    "settings",
    type=SettingText(),
    multiple=True,
    callback=settings_given,
    metavar="NAME=VALUE",
    help="a setting of the method: see attnreg methods NAME; repeat it",
)
@click.option(
    "--preset",
    default="",
    metavar="NAME",
    help="settings chosen for this model, such as tuned, or a file of bench tune",
)
@click.option("--seeds", type=Seeds(), default="0", show_default=True, help="one picture a seed: 0, 0-3 or 1,5,9")
@drawing_options
@click.option("--alone", is_flag=True, help="draw the regulated pictures only: no unmodified ones, no sheet")
def generate(
    prompt: str, targets: Sequence[str], no_adjectives: bool, settings: dict[str, str], seeds: list[int], out: Path,
    alone: bool, method: str, preset: str, **options: Any,
) -> None:  # fmt: skip
    """Draw PROMPT, unmodified and regulated side by side.

    Every picture is a PNG that carries its own recipe: `attnreg rerun PICTURE.png` draws it again.
    """
    studio = _studio(options["model"])
    from attnreg.presets import settings_of_preset
    from attnreg.sampling import read_settings

    chosen = settings_of_preset(preset, method, options["model"]) if preset else {}
    session = studio.Session.open(
        prompt, targets=list(targets) or None, adjectives=not no_adjectives, method=method,
        settings={**chosen, **read_settings(method, settings)}, preset=preset, **options,
    )  # fmt: skip
    for target in session.targets:
        tell(f"target: {target}")
    for path in session.draw(seeds, out, beside_unmodified=not alone, say=tell):
        tell(f"saved {path}")


@cli.command()
@click.argument("picture", type=click.Path(path_type=Path))
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps or auto")
@click.option("--out", type=click.Path(path_type=Path), default="out", show_default=True, help="folder of the picture")
def rerun(picture: Path, device: str, out: Path) -> None:
    """Draw PICTURE, a PNG saved by attnreg, again from the recipe in it, and say whether it came out the same."""
    from attnreg.recipe import read_recipe

    path, same, changed = _studio(read_recipe(picture).model).draw_again(picture, device, out)
    tell(f"saved {path}")
    tell("the same, bit for bit" if same else "different from the picture given")
    if changed:
        tell(f"other releases than then: {', '.join(changed)}")


@cli.command()
@click.pass_context
def doctor(context: click.Context) -> None:
    """Say what is installed, which devices there are, and whether the bundled models are whole."""
    from attnreg.doctor import examine

    report = list(examine())
    for well, line in report:
        tell(f"{'ok   ' if well else 'FAULT'} {line}")
    context.exit(0 if all(well for well, _ in report) else 1)


cli.add_command(app)
cli.add_command(bench)
cli.add_command(calibrate)
cli.add_command(compare)
cli.add_command(explain)
cli.add_command(methods)
cli.add_command(models)
cli.add_command(prompts)


def _studio(model: str) -> Any:
    load_libraries(model)
    from attnreg import studio

    return studio


def main() -> None:
    """The entry point: errors of the library become one line, with exit code 1; usage errors exit with 2."""
    warnings.showwarning = _warn
    try:
        status = cli.main(standalone_mode=False, obj=OURS)
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
    tell(f"attnreg: {' '.join(str(message).removeprefix('attnreg:').split())}", err=True)


def _fail(message: str) -> None:
    if "--debug" in sys.argv:
        traceback.print_exc()
    tell(f"attnreg: {' '.join(message.split())}", err=True)
    sys.exit(1)
