"""Several noises to begin with, and the one whose own attention tells the things apart soonest."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from attnreg.regulation.attended import TargetMaps, maps_of
from attnreg.regulation.edit import Maps, PromptWords
from attnreg.regulation.kinds import Chosen
from attnreg.regulation.noises import noises_like
from attnreg.regulation.settings import CheckedSettings, in_layers, number, setting, whole_number, yes_or_no

SIDE = 8
"""Positions along the longer side of the maps that are scored: finer ones are averaged, so that sizes compare."""

Latent = Float[Tensor, "channel height width"]


@dataclass(frozen=True, kw_only=True)
class BestStart(CheckedSettings):
    """`score = min_t peak(M_t) * (1 - max_(s < t) cos(M_s, M_t))`: every target somewhere, no two in one place.

    A start is denoised coarsely down to a part of the steps, and looked at there. `M_t` is the map of target t: each
    layer's divided by its mean, averaged over the layers, smoothed over 3 x 3 positions; `peak` is its largest value.
    If the start that the pipeline was given reaches the score that is good enough, nothing is changed, and methods that
    this one is composed with do nothing either (unless `spare` is false); else others, which it decides, are tried
    until one does, or the best of all is taken. The picture is one that the unmodified model draws from another noise:
    nothing of the model is edited.
    """

    strength: float = setting(0.7, number(0.0, 1.0), "how new the other starts are: 1 altogether, 0 not at all")
    starts: int = setting(8, whole_number(1, 1000), "how many starts are tried at most, the given one among them")
    enough: float = setting(1.0, number(0.0), "the score with which a start is taken without trying more")
    passes: int = setting(3, whole_number(1, 1000), "how many times a start is denoised until it is looked at")
    until: float = setting(0.5, number(0.0, 1.0), "the part of the steps after which it is looked at")
    spare: bool = setting(True, yes_or_no, "leave a picture whose given start is good enough to the model altogether")
    layers: tuple[str, ...] = in_layers("auto")

    @property
    def window(self) -> tuple[float, float]:
        """The first step alone: all that follows is the model's own."""
        return 0.0, 1e-9

    def stops(self, total: int) -> tuple[int, ...]:
        """Evenly from the first step to the one that is looked at; see `kinds.StartEdit`."""
        last = min(round(self.until * total), total - 1)
        if self.passes == 1:
            return (0,)
        return tuple(dict.fromkeys(round(last * number / (self.passes - 1)) for number in range(self.passes)))

    def choose(self, latent: Latent, follow: Callable[[Latent], Sequence[Maps]], words: PromptWords) -> Chosen:
        """The first start that is good enough, or the best of all; see `kinds.StartEdit`."""
        starts, scores = [], []
        for start in noises_like(latent, self.starts, self.strength):
            starts.append(start)
            scores.append(score(follow(start), words))
            if scores[-1] >= self.enough:
                break
        best = max(range(len(scores)), key=scores.__getitem__)
        return Chosen(starts[best], tuple(scores), best, spared=self.spare and scores[0] >= self.enough)


class Signals(NamedTuple):
    """What a score is made of."""

    peak: float
    """How far the least peaked target rises above its mean."""
    apart: float
    """One minus the cosine of the two targets' maps that are most alike; 1 of a single target."""


def score(layers: Sequence[Maps], words: PromptWords) -> float:
    """How surely a start shows every target: see `BestStart`. Of a single target, its peak alone."""
    return math.prod(signals([maps_of(maps.cross, words.columns.targets, maps.grid) for maps in layers]))


def signals(layers: Sequence[Float[Tensor, "_ _ _"]]) -> Signals:
    """Of the targets' maps `(target, height, width)` in each layer, whatever their sizes and units: see `BestStart`."""
    mean = torch.stack([pooled(maps) for maps in layers]).mean(0)
    smooth = F.avg_pool2d(F.pad(mean[None], (1,) * 4, mode="replicate"), 3, stride=1)[0].flatten(1)
    directions = F.normalize(smooth, dim=-1)
    alike = (directions @ directions.T).tril(-1).amax()
    return Signals(float(smooth.amax(-1).amin()), 1 - float(alike))


def pooled(maps: TargetMaps) -> Float[Tensor, "target row column"]:
    """Maps in units of their own means, averaged down to `SIDE` positions along the longer side."""
    height, width = maps.shape[1:]
    shrink = min(1.0, SIDE / max(height, width))
    small = F.adaptive_avg_pool2d(maps, (max(1, round(shrink * height)), max(1, round(shrink * width))))
    return small / small.mean((-2, -1), keepdim=True).clamp_min(1e-12)
