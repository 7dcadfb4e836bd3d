"""What a bias on some columns makes of a row: by how much each column grows, the row's new sum, the masses.

With `g_c = (exp(S_c) - 1) P_c` a row's sum becomes `1 + sum g`, and column `c` is attended to by
`(P_c + g_c) / (1 + sum g)`. Few operations, and none over more than those columns: each launch costs, more so on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from attnreg.regulation.columns import Bias, ColumnAttention
from attnreg.types import Measured


@dataclass(eq=False)
class BiasEffect:
    """One layer's attention to some columns, and what an edit adds to them."""

    attention: ColumnAttention
    bias: Bias
    after: Float[Tensor, "image head 1 column"] | None = None
    """What `Masses.after` holds, once the output was corrected by a kernel that tells it as well."""

    @cached_property
    def growth(self) -> Float[Tensor, "image head #pixel column"]:
        """`exp(S) - 1`; 0 in columns that stand in no target."""
        columns = self.attention.columns
        return self.bias.growth if columns.alone else self.bias.growth * columns.heeded

    @property
    def is_even(self) -> bool:
        """Whether it is one number a column and head, the same for all pixels."""
        return self.growth.shape[-2] == 1

    @cached_property
    def gains(self) -> Float[Tensor, "image head pixel column"]:
        """`g`: what each column gains before the row is divided by its new sum."""
        return self.attention.probabilities * self.growth

    @property
    def share(self) -> Float[Tensor, "image head pixel 1"]:
        """`1 / (1 + sum g)`: what is left of everything else in the row. Exactly 1 where nothing is added."""
        return self._divided[..., :1]

    @cached_property
    def _divided(self) -> Float[Tensor, "image head pixel _"]:
        """The share, and beside it, where the edit is not even, what makes a mean over the pixels."""
        images, heads, pixels, columns = self.attention.probabilities.shape
        kind = self.attention.probabilities.dtype, self.attention.probabilities.device
        if self.is_even:
            whole, factors = _all(1.0, 1, *kind), self.growth.flatten(0, 1)
            of_columns = self.attention.probabilities
        else:
            whole, factors = _with_pixels(pixels, columns, *kind)
            factors, of_columns = factors.expand(images * heads, -1, -1), self.gains
        total = torch.baddbmm(whole, factors, of_columns.flatten(0, 1).mT)
        return total.reciprocal().view(images, heads, -1, pixels).mT

    def measure(self) -> Masses:
        """The masses without and with the edit, as far as they must be computed now; without gradient."""
        told = self.attention.columns.members, self.bias.loss_before, self.bias.loss_after
        pixels = self.attention.probabilities.shape[-2]
        if self.after is not None:
            growth = self.growth if self.is_even else None
            return Masses(self.attention.by_column, self.after, growth, pixels, *told)
        # What is kept for the correction of the output keeps its gradient.
        probabilities, divided = self.attention.probabilities.detach(), self._divided.detach()
        sums = (probabilities.mT @ divided).mT
        if self.is_even:
            return Masses(self.attention.by_column, sums, self.growth.detach(), pixels, *told)
        gained = self.gains.detach().flatten(0, 1).mT, divided[..., :1].flatten(0, 1)
        after = torch.baddbmm(sums[..., :1, :].flatten(0, 1).mT, *gained).view_as(sums[..., :1, :].mT)
        return Masses(sums[..., 1:, :], after.mT, None, pixels, *told)


@dataclass(frozen=True)
class Masses:
    """What tells the mean attention to each target, a few numbers a head: put together when someone asks."""

    before: Float[Tensor, "image head 1 column"]
    after: Float[Tensor, "image head 1 column"]
    """Sum over the pixels; of an even edit before it grew."""
    growth: Float[Tensor, "image head 1 column"] | None
    pixels: int
    members: Float[Tensor, "image column target"]
    loss_before: Float[Tensor, "image head"] | None
    loss_after: Float[Tensor, "image head"] | None

    @staticmethod
    def of_all_heads(parts: Sequence[Masses]) -> Masses:
        """What tells the masses of all heads, of parts that tell those of some each, all of as many."""
        if len(parts) == 1:
            return parts[0]
        growths = [one.growth for one in parts if one.growth is not None]
        losses = ([one.loss_before for one in parts], [one.loss_after for one in parts])
        return replace(
            parts[0],
            before=torch.cat([one.before for one in parts], 1),
            after=torch.cat([one.after for one in parts], 1),
            growth=torch.cat(growths, 1) if growths else None,
            loss_before=_of_all(losses[0]),
            loss_after=_of_all(losses[1]),
        )

    @torch.no_grad()
    def measured(self) -> Measured:
        """Mean probability of each target over heads and pixels, without and with the edit."""
        after = self.after / self.pixels
        if self.growth is not None:
            after = after * (1 + self.growth)
        before, after = ((one.mean(1) @ self.members).squeeze(1) for one in (self.before, after))
        losses = (None if one is None else one.mean(1) for one in (self.loss_before, self.loss_after))
        return Measured(before, after, *losses)


def _of_all(losses: Sequence[Float[Tensor, "image _"] | None]) -> Float[Tensor, "image head"] | None:
    told = [one for one in losses if one is not None]
    return torch.cat(told, 1) if told else None


@lru_cache(maxsize=64)
def _all(number: float, columns: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "1 1 column"]:
    """Do not write to it: it is kept."""
    with torch.inference_mode(False):
        return torch.full((1, 1, columns), number, dtype=dtype, device=device)


@lru_cache(maxsize=64)
def _with_pixels(
    pixels: int, columns: int, dtype: torch.dtype, device: torch.device
) -> tuple[Float[Tensor, "1 2 1"], Float[Tensor, "1 2 column"]]:
    """1 and the number of pixels, and how columns count in each: all and none. Do not write to them: they are kept."""
    with torch.inference_mode(False):
        whole = torch.tensor([1.0, pixels], dtype=dtype, device=device)
        counted = torch.tensor([1.0, 0.0], dtype=dtype, device=device)
        return whole[None, :, None], counted[None, :, None].repeat(1, 1, columns)
