"""The one way in which commands print: what is told of files and runs commands no terminal."""

from __future__ import annotations

import click

from attnreg.shown import visible


def tell(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a line as `click.echo` does, with control characters spelled out, whatever it is made of."""
    click.echo(visible(str(text)), err=err, nl=nl)
