"""`attnreg models`: which model families there are, and what works there."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from attnreg.commands.terminal import tell

if TYPE_CHECKING:
    from attnreg.catalogue import FamilyRow

COLUMNS = ("family", "denoiser", "pipelines", "default layers", "edits", "methods", "tested")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="the same as JSON")
def models(as_json: bool) -> None:
    """List the model families: denoiser, pipelines, default layers, what can be edited, how it is tested.

    Where it is piped, one line a family, its columns separated by tabs.
    """
    from attnreg.models.quiet import quiet_libraries

    quiet_libraries()
    from attnreg.catalogue import family_rows

    rows = family_rows()
    if as_json:
        tell(json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False))
    elif sys.stdout.isatty():
        for row in rows:
            _tell(row)
        tell("a model of another class: --family NAME treats it as one of these, --family probe finds out by itself")
    else:
        tell("\t".join(COLUMNS))
        for row in rows:
            tell("\t".join(_cells(row)))


def _cells(row: FamilyRow) -> Sequence[str]:
    return (row.name, row.denoiser, *(", ".join(one) if isinstance(one, tuple) else one for one in (
        row.pipelines, row.default_layers, row.edits, row.methods, row.tested
    )))  # fmt: skip


def _tell(row: FamilyRow) -> None:
    name, denoiser, *cells = _cells(row)
    tell(f"{name}: {denoiser}")
    lines = click.HelpFormatter(indent_increment=4, max_width=110)
    lines.indent()
    lines.write_dl([(what, text or "none") for what, text in zip(COLUMNS[2:], cells, strict=True)])
    tell(lines.getvalue(), nl=False)
