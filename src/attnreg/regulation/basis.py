"""The spatial basis of an edit: Gaussians that cover a map of any height and width evenly, edges included."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from attnreg.types import AttnregError, Grid

FAINT = 1e-12
"""Values of a Gaussian below it are 0: beside its neighbours they are below the rounding of double precision."""


@lru_cache(maxsize=64)
def gaussian_basis(
    grid: Grid,
    spacing: float = 0.125,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Float[Tensor, "basis pixel"]:
    """`G_k(x) = exp(-|x - c_k|^2 / (2 sigma^2)) / n(x)` with evenly spread centres `c_k` (arXiv:2403.06381, section 4).

    `spacing` is the distance of neighbouring centres as a share of the map's side (the geometric mean of height and
    width); `sigma` is half the distance, as published. On a 16 x 16 map the default gives 8 x 8 centres and sigma 1
    (published: 7 x 7 and 1). Centres are never closer than one pixel: a small map has one function a pixel.

    Where we differ: centres lie in the middle of equal cells instead of on multiples of `2 sigma`, so that the far edge
    is covered as the near one and mirrored maps have mirrored bases; height and width are counted apart; and `n(x)`
    makes `sum_k G_k(x) = pi / 2` at every pixel, the value inside an endless published lattice, so that weights (and
    the term that keeps them small) mean what they mean in the paper, up to the edge.

    Do not write to the tensor: it is kept. Raises `AttnregError` for an empty grid or a spacing outside (0, 1].
    """
    # Even under `inference_mode` a normal tensor is made, for a later caller may be outside of it.
    with torch.inference_mode(False):
        product = einsum(*_bells(grid, spacing), "row height, column width -> row column height width")
        # Far from its centre a Gaussian adds nothing, but products with denormal numbers take a CPU ten times as long.
        product = torch.where(product < FAINT, 0.0, product)
        return rearrange(product, "row column height width -> (row column) (height width)").to(device, dtype)


def _bells(grid: Grid, spacing: float) -> tuple[Float[Tensor, "row height"], Float[Tensor, "column width"]]:
    if min(grid) < 1:
        raise AttnregError(f"expected a map of at least 1 x 1, got {grid.height} x {grid.width}; check the layer")
    if not 0 < spacing <= 1:
        raise AttnregError(f"expected a spacing above 0 and up to 1, got {spacing}; 0.125 is the default")
    distance = spacing * math.sqrt(grid.pixels)
    return _row_of_gaussians(grid.height, distance), _row_of_gaussians(grid.width, distance)


def _row_of_gaussians(side: int, distance: float) -> Float[Tensor, "centre side"]:
    # Cells are at least a pixel wide; the last digits of the division must not decide about a whole centre.
    count = max(1, min(side, round(round(side / distance, 6))))
    cell = side / count
    position = torch.arange(side, dtype=torch.float64)
    centre = (torch.arange(count, dtype=torch.float64) + 0.5) * cell - 0.5
    bells = torch.exp(-((position - centre[:, None]) ** 2) / (2 * (cell / 2) ** 2))
    return bells / bells.sum(0) * math.sqrt(math.pi / 2)
