"""Which map the picture's positions form, told by what a denoiser is given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from attnreg.types import AttnregError, Grid


def grid_of(arguments: Mapping[str, Any], sample: str, queries: slice, count: int) -> Grid:
    """The map of the positions among a call's queries that are the picture's.

    Told by the latent, where it is an image; else by a table of positions, or by a height and a width, among the
    arguments: by whatever makes as many positions as there are.

    Args:
        arguments: of the denoiser, by name.
        sample: the argument that holds the latents.
        queries: which queries are the picture's.
        count: how many queries there are in all.

    Returns:
        Height and width.

    Raises:
        AttnregError: nothing tells it, or there are several that do, and differ.
    """
    pixels = queries.stop - queries.start
    found = set(_of_latent(arguments[sample], pixels))
    if not found:
        others = {name: value for name, value in arguments.items() if name != sample}
        found = set(_told(others, pixels, queries, count))
    if len(found) != 1:
        said = " or ".join(f"{one.height} x {one.width}" for one in sorted(found)) or "nothing that tells it"
        raise AttnregError(
            f"expected arguments of the denoiser that tell which map {pixels} positions of the picture form, got {said}"
            "; this model cannot be probed, its family needs an entry of its own"
        )
    return found.pop()


def _of_latent(sample: Any, pixels: int) -> Iterator[Grid]:
    """The latent's height and width in patches."""
    latent = sample[0]
    while isinstance(latent, list | tuple):
        latent = latent[0]
    if not isinstance(latent, Tensor) or latent.ndim < 3:
        return
    height, width = latent.shape[-2:]
    for side in range(1, min(height, width) + 1):
        grid = Grid(-(-height // side), -(-width // side))
        if grid.pixels == pixels:
            yield grid


def _told(value: Any, pixels: int, queries: slice, count: int) -> Iterator[Grid]:
    """Maps that tables of positions, or numbers beside one another, tell."""
    if isinstance(value, Tensor):
        table = value[0] if value.ndim == 3 else value
        if table.ndim == 2 and table.shape[1] in (2, 3, 4) and len(table) in (pixels, count):
            own = table if len(table) == pixels else table[queries]
            if (grid := _of_positions(own)) is not None:
                yield grid
        return
    if isinstance(value, Mapping):
        height, width = value.get("height"), value.get("width")
        if isinstance(height, int) and isinstance(width, int) and height * width == pixels:
            yield Grid(height, width)
        value = list(value.values())
    if isinstance(value, list | tuple):
        if 2 <= len(value) <= 3 and all(isinstance(one, int) for one in value):
            *frames, height, width = value
            if height * width == pixels and frames in ([], [1]):
                yield Grid(height, width)
            return
        for inner in value:
            yield from _told(inner, pixels, queries, count)


def _of_positions(table: Tensor) -> Grid | None:
    """The map whose rows and columns two columns of a table count, row by row; `None` if none do."""
    numbers = [torch.unique(column, return_inverse=True) for column in table.T]
    moving = [(len(values), places) for values, places in numbers if len(values) > 1]
    if len(moving) == 1 and moving[0][0] == len(table):  # a single row or column
        return None
    if len(moving) != 2 or moving[0][0] * moving[1][0] != len(table):
        return None
    (height, rows), (width, columns) = moving
    inorder = torch.equal(rows * width + columns, torch.arange(len(table), device=rows.device))
    return Grid(height, width) if inorder else None
