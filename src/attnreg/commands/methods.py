"""`attnreg methods`: what there is to choose from, and what each can be told."""

from __future__ import annotations

import click

from attnreg.commands.parameters import MethodName
from attnreg.commands.terminal import tell
from attnreg.methods import METHODS
from attnreg.methods.setting import written
from attnreg.presets import bundled, presets_of


@click.command()
@click.argument("name", required=False, type=MethodName())
def methods(name: str | None) -> None:
    """List the methods, or what NAME can be told: its settings, their defaults and what they mean."""
    if name is None:
        for one in METHODS:
            _tell(one)
        tell("methods that change different parts compose: --method prompt-weighting+attention-balance")
        return
    for part in name.split("+"):
        _tell(part)
        _settings(part)
        _presets(part)


def _tell(name: str) -> None:
    method = METHODS[name]
    tell(f"{name}: {method.summary}")
    told = {
        "changes": method.edits,
        "needs": ", ".join(method.needs),
        "extra passes of the denoiser": "" if method.passes == "none" else method.passes,
        "paper": method.paper,
    }
    for what, text in told.items():
        if text:
            tell(f"    {what}: {text}")


def _settings(name: str) -> None:
    settings = METHODS[name].settings()
    if not settings:
        tell("    settings: it has none")
        return
    tell("    settings, each given as --set NAME=VALUE:")
    lines = click.HelpFormatter(indent_increment=8, max_width=100)
    lines.indent()
    lines.write_dl([(f"{one.name}={one.written}", one.help) for one in settings.values()], col_max=40)
    tell(lines.getvalue(), nl=False)


def _presets(name: str) -> None:
    for model in bundled():
        for preset, settings in presets_of(name, model).items():
            tell(f"    --preset {preset}, chosen for {model}: {_spelled(settings)}")


def _spelled(settings: dict[str, object]) -> str:
    return " ".join(f"{name}={written(value)}" for name, value in settings.items()) or "the published settings"
