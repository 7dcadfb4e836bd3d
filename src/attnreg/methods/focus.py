"""FOCUS: steps turned towards attention in which a subject's tokens agree and subjects differ (arXiv:2510.02315)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from attnreg.regulation.attended import distributions, maps_of, smoothed
from attnreg.regulation.edit import LatentUpdated, Maps, PromptWords
from attnreg.regulation.latent import Aim, LatentSettings, See
from attnreg.regulation.settings import in_window, number, setting
from attnreg.regulation.sight import asked

_SIDE = math.exp(-0.5) / (1 + 2 * math.exp(-0.5))
GAUSSIAN = (_SIDE, 1 - 2 * _SIDE, _SIDE)
"""Of standard deviation 1."""
EDGE = 1e-3
"""Keeps the control finite at pure noise."""


@dataclass(frozen=True, kw_only=True)
class Focus(LatentSettings):
    """`v + l 2 (s + .001) / (1 - s + .001) s dC/dz`, with `C = (mean_j J(tokens of j) + 1 - J(subjects)) / 2`.

    Bill et al., 2025: the test-time controller of flow matching as stochastic optimal control, `z = (1 - s) x + s e`,
    `v = e - x`, `l` is `step_size`. `J(Q) = mean_i KL(Q_i || mean Q) / log n` for n maps, each smoothed, cubed and
    divided by its sum. The first mean is over subjects of several tokens, and a subject's map is the mean of theirs.
    Subjects are the targets.

    The sign: Euler's step is `z + (s' - s) v` with `s' < s`, so that a velocity which is larger by a multiple of the
    gradient goes downhill. (The authors' public code for Stable Diffusion 3 adds as well; that for FLUX subtracts under
    the same scheduler, which reads as uphill.) A model of diffusion is controlled on the same path: its latent
    `A x + S e` is `A + S` times one of flow matching with `s = S / (A + S)`, and its prediction is turned by what that
    velocity means.

    Maps are over all layers that are looked at, as shares of what a position gives to the text (there: of the whole
    joint softmax, over the double blocks alone). Where one subject of one token is named there is nothing to do.
    """

    window: tuple[float, float] = in_window(0.0, 1.0)
    step_size: float = setting(4.0, number(0.0), "l: how strongly the velocity is turned; as published, 1 to 5")

    asks: ClassVar[frozenset[str]] = frozenset({"level"})

    def aim(self, maps: Maps, words: PromptWords, step: int, total: int, memory: dict[str, Any]) -> Aim:
        """The cost C."""
        return Aim(cost(maps, words.columns.targets))

    def update(
        self,
        latent: Float[Tensor, "*latent"],
        see: See,
        words: PromptWords,
        step: int,
        total: int,
        memory: dict[str, Any],
    ) -> LatentUpdated:
        """The latent as it is, and what is added to the velocity; see `edit.LatentEdit`."""
        size = self.strength * self.step_size
        if not size:
            return LatentUpdated(latent)
        see = asked(see, "tells the noise level")
        found = self.look(latent, see, words, step, total, memory)
        if found.gradient is None:
            return LatentUpdated(latent, found.loss, found.loss, 1)
        signal, spread = see.level
        push = size * control(signal, spread) * found.gradient
        return LatentUpdated(latent, found.loss, None, 1, push)


def control(signal: float, spread: float) -> float:
    """What the gradient by a latent `A x + S e` is multiplied with; by flow matching's it would be `A + S` times it."""
    s = spread / (signal + spread)
    return (signal + spread) * 2 * (s + EDGE) / (1 - s + EDGE) * s


def cost(maps: Maps, subjects: Sequence[Sequence[int]]) -> Float[Tensor, ""]:
    """`C`: 0 where the tokens of each subject are seen alike and subjects apart, 1 where it is the other way round."""
    tokens = [smoothed(maps_of(maps.cross, [[column] for column in own], maps.grid), GAUSSIAN) for own in subjects]
    within = [divergence(own) for own in tokens if len(own) > 1]
    agree = torch.stack(within).mean() if within else maps.cross.new_zeros(())
    if len(tokens) < 2:
        return agree / 2
    return (agree + 1 - divergence(torch.stack([own.mean(0) for own in tokens]))) / 2


def divergence(maps: Float[Tensor, "map height width"]) -> Float[Tensor, ""]:
    """`J`: the Jensen-Shannon divergence of several maps, each cubed and divided by its sum; 0 to 1."""
    cubed = distributions(distributions(maps) ** 3)
    mean = cubed.mean(0, keepdim=True)
    return (cubed * (cubed.log() - mean.log())).sum(-1).mean() / math.log(len(cubed))
