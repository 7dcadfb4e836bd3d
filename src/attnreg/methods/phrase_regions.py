"""Phrase regions: every part of the picture also reads the phrase of the thing that it is becoming, and that alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from attnreg.regulation.balance import shared_anew
from attnreg.regulation.edit import PromptWords
from attnreg.regulation.kinds import Moment
from attnreg.regulation.settings import EditSettings, in_layers, in_window, number, setting, whole_number
from attnreg.types import Target

SIDE = 16
"""Positions along a side of the regions, at most: finer attention maps are averaged down to it."""
KEPT = 0.5
"""Of the regions of the steps before: layouts grow, they do not jump."""
FAINTEST = 1e-2
"""Attention, in means of its target's, below which a pixel counts as having this much: sharper differences would leave
the range of float32 on their way through the temperature."""


@dataclass(frozen=True, kw_only=True)
class PhraseRegions(EditSettings):
    """`(1 - s) A(Q, K, V) + s sum_t r_t(x) A(Q, K_t, V_t)`: the prompt, and beside it each region's own phrase.

    `A` is a layer's attention; `K_t`, `V_t` are the keys and values of target t's phrase ("a bear"), encoded alone, so
    that no other thing of the prompt has coloured its words. The regions `r` are the model's own: from the attention of
    all these layers to each target in the steps of the window so far, evened out as `attention-balance` does, so that
    every target has as much of the picture as the others. The layout is the model's: the window begins when it has one,
    and its first step is looked at only.

    A prompt of fewer than two targets is drawn unmodified.
    """

    window: tuple[float, float] = in_window(0.15, 1.0)
    layers: tuple[str, ...] = in_layers("all")
    share: float = setting(0.3, number(0.0, 1.0), "s: how much of what a pixel reads is its region's phrase")
    temperature: float = setting(0.1, number(0.0, above_low=True), "how sharply a pixel decides between regions")
    iterations: int = setting(20, whole_number(1, 10_000), "rounds of Sinkhorn's iteration, per step")

    def texts(self, words: PromptWords) -> tuple[str, ...]:
        """Each target's phrase with the article that it has in the prompt; none for a single target."""
        return tuple(_phrase(one, words.prompt) for one in words.targets) if len(words.targets) > 1 else ()

    def shares(
        self, attended: Float[Tensor, "image target pixel"], moment: Moment, memory: dict[str, Any]
    ) -> Float[Tensor, "image target pixel"]:
        """`strength * s * r`, at most 1 a pixel; see `kinds.ReadingEdit`."""
        if memory.get("step") != moment.step:
            if "seen" in memory:
                new = self.regions(memory.pop("seen"))
                memory["regions"] = KEPT * memory["regions"] + (1 - KEPT) * new if "regions" in memory else new
            memory["step"] = moment.step
        there = attended + torch.finfo(attended.dtype).tiny ** 0.5  # what nothing attends to is everywhere alike
        even = (there / there.mean(-1, keepdim=True)).unflatten(-1, tuple(moment.grid))
        # The layers agree on the regions, whatever the size of their maps.
        sides = memory.setdefault("sides", (min(moment.grid.height, SIDE), min(moment.grid.width, SIDE)))
        memory["seen"] = memory.get("seen", 0) + _resized(even, sides)
        # In the first step there are no steps before: what the layers so far have seen must do.
        regions = memory["regions"] if "regions" in memory else self.regions(memory["seen"])
        return min(self.strength * self.share, 1.0) * _resized(regions, moment.grid).flatten(2)

    def regions(self, seen: Float[Tensor, "image target height width"]) -> Float[Tensor, "image target height width"]:
        """Shares of each position, summing to 1 over targets, with the same sum over positions for every target."""
        padded = F.pad(seen / seen.mean((2, 3), keepdim=True), (1,) * 4, mode="replicate")
        smooth = F.avg_pool2d(padded, 3, stride=1).flatten(2).clamp_min(FAINTEST).log()
        regions = shared_anew(smooth, smooth.logsumexp(1, keepdim=True), self.temperature, self.iterations).exp()
        square: Tensor = (regions / regions.sum(1, keepdim=True)).unflatten(-1, seen.shape[2:])
        return square


def _resized(maps: Tensor, sides: tuple[int, int]) -> Tensor:
    """Averaged down, or interpolated up, to other sides."""
    if maps.shape[2] * maps.shape[3] > sides[0] * sides[1]:
        return F.adaptive_avg_pool2d(maps, sides)
    return F.interpolate(maps, size=sides, mode="bilinear")


def _phrase(target: Target, prompt: str) -> str:
    words = re.sub(r"#\d+$", "", target.text)
    found = re.search(rf"\b(?:an?|the) {re.escape(words)}\b", prompt, re.IGNORECASE)
    return found[0] if found else words
