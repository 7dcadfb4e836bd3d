"""What lies in each cell of the latent, as the scene that was drawn tells: a second aim for the joint denoiser.

A transformer learns to draw slowly from the velocity alone. Yu et al. (2025, arXiv:2410.06940) found that it learns
sooner where its middle layers have to agree with the features of a vision model as well; here the scene itself is
known, and they have to say what stands where. The head that says it is thrown away after training.
"""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from training.grounds import CELL, SIDE
from training.render import Scene
from training.words import NOUNS

CELLS = SIDE // CELL
"""Along a side of the latent."""
PARTS = 4
"""Numbers that tell a cell: what stands there, how far across and down it the cell lies, its size."""
WHERE_WEIGHT = 2.0
"""Of the squared error of the last three against the cross-entropy of the first."""


def layout_of(scene: Scene) -> np.ndarray:
    """Of each cell, uint8 `(CELLS, CELLS, PARTS)`.

    The number of its noun from 1, 0 for ground; how far across and how far down the thing's square the middle of the
    cell lies, in 255ths; the side of that square in 255ths of the picture's. Of two things the later one counts.
    """
    cells = np.zeros((CELLS, CELLS, PARTS), np.uint8)
    middles = CELL * (np.arange(CELLS) + 0.5)
    for placed in scene.placed:
        across, down = ((middles - edge) / placed.size for edge in (placed.left, placed.top))
        columns, rows = (np.flatnonzero((part >= 0) & (part < 1)) for part in (across, down))
        window = np.ix_(rows, columns)
        cells[..., 0][window] = NOUNS.index(placed.thing.noun) + 1
        cells[..., 1][window] = 255 * across[None, columns]
        cells[..., 2][window] = 255 * down[rows, None]
        cells[..., 3][window] = 255 * placed.size / SIDE
    return cells


class LayoutHead(nn.Module):
    """Says of each cell what lies there, from one layer's image tokens."""

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.nouns = len(NOUNS) + 1
        self.line = nn.Linear(width, patch * patch * (self.nouns + PARTS - 1))

    def loss(self, tokens: Tensor, layouts: Tensor) -> Tensor:
        """How wrong it is. tokens: `(image, token, width)`, by rows; layouts: `(image, CELLS, CELLS, PARTS)`, uint8."""
        told = rearrange(
            self.line(tokens), "b (h w) (p q c) -> b (h p) (w q) c", h=CELLS // self.patch, p=self.patch, q=self.patch
        )
        nouns, where = told[..., : self.nouns], told[..., self.nouns :]
        what = layouts[..., 0].long()
        there = what > 0
        wrong = F.cross_entropy(nouns.flatten(0, 2), what.flatten())
        if not there.any():
            return wrong
        far = F.mse_loss(where[there], layouts[..., 1:][there].float() / 255)
        return wrong + WHERE_WEIGHT * far


def heard(module: nn.Module) -> list[Tensor]:
    """A list that holds what a joint block last made of the image tokens, from now on."""
    kept: list[Tensor] = []

    def keep(_: nn.Module, __: object, output: tuple[Tensor, Tensor]) -> None:
        kept[:] = [output[1]]

    module.register_forward_hook(keep)
    return kept


def as_tensor(layouts: list[np.ndarray]) -> Tensor:
    """Layouts of pictures, `(picture, CELLS, CELLS, PARTS)`."""
    return torch.from_numpy(np.stack(layouts))
