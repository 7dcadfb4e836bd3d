"""`attnreg app`: the library behind a page in the browser."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from attnreg.commands.kinds import FOLDER
from attnreg.commands.terminal import tell


@click.command()
@click.option(
    "--model", "models", multiple=True, default=("pocket",), show_default=True, metavar="NAME",
    help="a model that the page offers: pocket, pocket-joint, a directory, a .safetensors checkpoint or a hub id; "
    "repeat it for more",
)  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True, help="the address to listen on: this machine's alone")
@click.option("--port", type=click.IntRange(0, 65535), default=7860, show_default=True, help="0: one that is free")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps or auto")
@click.option("--dtype", default="auto", show_default=True, help="float32, float16, bfloat16 or auto")
@click.option("--out", type=FOLDER, default="out/app", show_default=True, help="folder of the history")
def app(models: Sequence[str], host: str, port: int, device: str, dtype: str, out: Path) -> None:
    """Open the app: draw in a browser, unmodified and regulated side by side.

    It runs on this machine, and no other can reach it unless --host says so. What it draws goes to a folder, as PNGs
    that carry their recipes: the history is read from them. Needs pip install 'attnreg[app]'.
    """
    from attnreg.app.serving import serve

    serve(models, out, host=host, port=port, device=device, dtype=dtype, say=tell)
