"""What the losses of latent edits look at: a map of the picture for each thing, made from cross-attention.

Attend-and-Excite (Chefer et al., 2023, arXiv:2301.13826, section 4.1) prepares the maps like this, and the methods
after it do the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from attnreg.regulation.edit import PromptColumns
from attnreg.types import Grid

SHARPNESS = 100.0
"""Attention probabilities are multiplied by it before they compete in a second softmax over the words."""
_SIDE = math.exp(-1) / (1 + 2 * math.exp(-1))
KERNEL = (_SIDE, 1 - 2 * _SIDE, _SIDE)
"""Three weights, .212 .576 .212: the published smoothing, which is Gaussian but for a factor in its exponent."""
FLOOR = 1e-20
"""Added to every pixel before a map becomes a distribution, so that its logarithm exists where attention underflows."""

TargetMaps = Float[Tensor, "target height width"]
"""One map a thing, each value between 0 and 1."""


def sharpened(
    cross: Float[Tensor, "pixel token"], columns: PromptColumns, padding: bool = True
) -> Float[Tensor, "pixel token"]:
    """`M = softmax(100 A)` over the words of the prompt; 0 at the columns left out, so that columns keep their numbers.

    padding: whether end-of-text and padding compete as well, all but the very last column: so the public code for
    Stable Diffusion 1 (its `1:-1`). Else the words alone compete. They always do where `columns.words` tells them:
    there padding is masked, and would count as much as a word that nothing looks at, or it fills hundreds of columns.
    """
    tokens = cross.shape[-1]
    competing = word_columns(columns, tokens)
    if padding and isinstance(competing, range):
        competing = range(competing.start, max(competing.stop, tokens - 1))
    at = torch.tensor(competing, device=cross.device)
    return cross.new_zeros(cross.shape).index_copy(1, at, (SHARPNESS * cross[:, at]).softmax(-1))


def word_columns(columns: PromptColumns, tokens: int) -> range | tuple[int, ...]:
    """The columns of the prompt's own words, among so many tokens."""
    if columns.words is not None:
        return tuple(sorted({*columns.words, *(column for target in columns.targets for column in target)}))
    first = 0 if columns.start_of_text is None else columns.start_of_text + 1
    return range(first, tokens if columns.end_of_text is None else columns.end_of_text)


def maps_of(
    attention: Float[Tensor, "pixel token"], groups: Sequence[Sequence[int]], grid: Grid
) -> Float[Tensor, "target height width"]:
    """One map a group of columns: the sum of its tokens' attention."""
    summed = torch.stack([attention[:, list(group)].sum(-1) for group in groups])
    return rearrange(summed, "target (height width) -> target height width", height=grid.height, width=grid.width)


def smoothed(
    maps: Float[Tensor, "target height width"], kernel: tuple[float, float, float] = KERNEL
) -> Float[Tensor, "target height width"]:
    """Each map under the 3 x 3 kernel that `kernel` spans, mirrored at its edges (a single row or column: repeated)."""
    weights = torch.tensor(kernel, dtype=maps.dtype, device=maps.device)
    for axis in (1, 2):
        mode = "reflect" if maps.shape[axis] > 1 else "replicate"
        padded = F.pad(maps[None], (0, 0, 1, 1) if axis == 1 else (1, 1, 0, 0), mode=mode)[0]
        maps = (padded.unfold(axis, 3, 1) * weights).sum(-1)
    return maps


def neglect(maps: Float[Tensor, "target height width"]) -> Float[Tensor, ""]:
    """`max_s max(0, 1 - max_x M_s(x))`: how far the most neglected thing is from being seen anywhere (equation 1)."""
    return (1 - maps.flatten(1).amax(-1)).clamp(min=0).amax()


def overlap(maps: Float[Tensor, "target height width"]) -> Float[Tensor, ""]:
    """`sum min(A, B) / sum (A + B)`, the mean over all pairs of maps: 0 apart, 1/2 the same; 0 for one map."""
    pairs = [
        torch.minimum(one, other).sum() / (one + other).sum().clamp(min=1e-6) for one, other in combinations(maps, 2)
    ]
    return torch.stack(pairs).mean() if pairs else maps.new_zeros(())


def distributions(maps: Float[Tensor, "target ..."]) -> Float[Tensor, "target pixel"]:
    """Each map divided by its sum over the pixels."""
    raised = maps.flatten(1) + FLOOR
    return raised / raised.sum(-1, keepdim=True)
