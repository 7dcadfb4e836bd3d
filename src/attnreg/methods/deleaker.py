"""DeLeaker: what the positions of one thing take from another is cut, while a picture is drawn (arXiv:2510.15015)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from attnreg.regulation.edit import PromptWords
from attnreg.regulation.joint import JointAttention, JointChange
from attnreg.regulation.settings import EditSettings, in_layers, in_window, number, setting
from attnreg.types import Grid

Bodies = Bool[Tensor, "target pixel"]
CLEANED_FROM = 30
"""Positions of a map's shorter side, of which three are a tenth: on smaller maps so few are a thing, not a speck."""


@dataclass(frozen=True, kw_only=True)
class DeLeaker(EditSettings):
    """For every two targets A, B: `L(A, tokens of B) = L(A, B where it leaks) = -inf`, `L(A, tokens of A) *= g`.

    Ventura et al., ICLR 2026. Where text and picture share one softmax, the positions of a target are those whose
    attention to its tokens, mean over heads, tokens and all layers (of maps as large) and steps so far, is above the
    mean by `spread` standard deviations; the mask is opened once and closed twice, 3 x 3, where that is small beside
    the map (from 30 positions on; published for 64). Between A and B leaks what is above the mean of their attention in
    this layer by `leak` standard deviations. g is `gain`.

    As published: attention is observed from the first fifth of the first step's layers on (12 of 57) to the twelfth of
    20 steps, and edited from the third on (18 of 57). A logit below 0 falls when it is multiplied. Below a strength of
    1 nothing is cut altogether: weights in the softmax are multiplied with what is missing to 1. Unlike in the public
    code a gain counts once, however many targets there are, and a position in the masks of both A and B, which would
    lose sight of either, is left alone between the two. A prompt of one target is left as it is.
    """

    window: tuple[float, float] = in_window(0.0, 1.0)
    layers: tuple[str, ...] = in_layers("all")
    gain: float = setting(1.2, number(0.0, above_low=True), "g: multiplies the logits from a target to its own tokens")
    spread: float = setting(1.0, number(), "standard deviations above the mean from which a position is a target's")
    leak: float = setting(1.0, number(), "standard deviations above the mean from which attention between two is cut")
    observed_from: float = setting(12 / 57, number(0.0, 1.0), "share of the first step's layers that is not observed")
    observed_until: float = setting(0.6, number(0.0, 1.0), "share of the steps in which positions are observed")
    edited_from: float = setting(18 / 57, number(0.0, 1.0), "share of the first step's layers that is not edited")

    def over_joint(
        self, attention: JointAttention, words: PromptWords, total: int, memory: dict[str, Any]
    ) -> JointChange | None:
        """What is cut and what is raised in one layer; see `joint.JointEdit`."""
        targets = [list(columns) for columns in words.columns.targets]
        if len(targets) < 2 or not self.strength:
            return None
        looked = torch.stack([attention.text[:, columns].mean(-1) for columns in targets])
        observed: dict[Grid, tuple[int, Tensor]] = memory.setdefault("observed", {})
        count, mean = observed.get(attention.grid, (0, looked))
        if self.observed_from <= attention.when < self.observed_until * total:
            observed[attention.grid] = count + 1, mean + (looked - mean) / (count + 1)
        if attention.when < self.edited_from:
            return None
        _, maps = observed.get(attention.grid, (0, looked))
        bodies = bodies_of(maps, attention.grid, self.spread)
        cut = math.log1p(-self.strength) if self.strength < 1 else -math.inf
        factor, text = torch.ones_like(attention.text), torch.zeros_like(attention.text)
        own = torch.zeros_like(attention.own)
        for body, columns in zip(bodies, targets, strict=True):
            factor[:, columns] = torch.where(body, 1 + self.strength * (self.gain - 1), 1.0)[:, None].to(factor)
        for one, other in permutations(range(len(targets)), 2):
            here, there = bodies[one] & ~bodies[other], bodies[other] & ~bodies[one]
            text[:, targets[other]] += torch.where(here, cut, 0.0)[:, None].to(text)
            own.masked_fill_(leaks(attention.own, here, there, self.leak), cut)
        return JointChange(factor, text, own)


def bodies_of(maps: Float[Tensor, "target pixel"], grid: Grid, spread: float) -> Bodies:
    """The positions of each target, cleaned of specks and holes where the map is large enough to tell them apart."""
    bound = maps.mean(-1, keepdim=True) + spread * maps.std(-1, keepdim=True)
    masks = rearrange((maps > bound).float(), "t (h w) -> t h w", h=grid.height, w=grid.width)
    if min(grid.height, grid.width) >= CLEANED_FROM:
        masks = cleaned(masks)
    return rearrange(masks > 0.5, "t h w -> t (h w)")


def cleaned(masks: Float[Tensor, "target height width"]) -> Float[Tensor, "target height width"]:
    """Without what is narrower than three positions, then without gaps narrower than five."""
    return eroded(dilated(dilated(eroded(masks)), 2), 2)


def dilated(masks: Float[Tensor, "target height width"], times: int = 1) -> Float[Tensor, "target height width"]:
    """Each position as the largest of the nine around it, so many times."""
    for _ in range(times):
        masks = F.max_pool2d(masks, 3, stride=1, padding=1)
    return masks


def eroded(masks: Float[Tensor, "target height width"], times: int = 1) -> Float[Tensor, "target height width"]:
    """As the smallest; what lies outside of the map takes nothing away."""
    return 1 - dilated(1 - masks, times)


def leaks(
    own: Float[Tensor, "pixel pixel"], body: Bool[Tensor, " pixel"], other: Bool[Tensor, " pixel"], spread: float
) -> Bool[Tensor, "pixel pixel"]:
    """Where positions of one target give too much to those of another, by what is not 0 between them."""
    between = torch.where(body[:, None] & other[None, :], own, 0.0)
    found = between[between != 0]
    if len(found) < 2:
        return torch.zeros_like(between, dtype=torch.bool)
    return between > found.mean() + spread * found.std()
