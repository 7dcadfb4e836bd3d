"""CONFORM: the maps of a thing and its attributes attract each other, those of two things repel (2312.06059)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from attnreg.heads import parts_of
from attnreg.regulation.attended import maps_of, sharpened, smoothed
from attnreg.regulation.edit import Maps, PromptWords
from attnreg.regulation.latent import Aim, LatentSettings, Refinement, scheduled
from attnreg.regulation.settings import number, padding_competes, setting, whole_number

REFINED = (math.inf,) * 3
"""The start, one fifth and two fifths of the steps are refined up to the cap, whatever the loss."""


@dataclass(frozen=True, kw_only=True)
class Conform(LatentSettings):
    """`L = mean_(i, j) -log[e^(s_ij / t) / (e^(s_ij / t) + sum_k e^(s_ik / t))]`, s the cosine of two smoothed maps.

    Meral et al., CVPR 2024 (NT-Xent). i and j are two words of one target, now or one step earlier (a word and its own
    earlier self are such a pair); k are the words of other targets, now or earlier. A prompt of one target has nothing
    to repel, and a prompt without attributes no pair in its first step: then the latent is left as it is. (The public
    code hands one image's earlier maps to the next image of a batch; here each has its own.)
    """

    temperature: float = setting(0.5, number(0.0, above_low=True), "t: how sharply the contrast weighs similar maps")
    refinements: int = setting(20, whole_number(0, 1000), "extra updates in the steps at 0, 1/5 and 2/5 of the way")
    padding: bool = padding_competes()

    def aim(self, maps: Maps, words: PromptWords, step: int, total: int, memory: dict[str, Any]) -> Aim:
        """The loss, with what the last look of the step before has seen as further positives and negatives."""
        labels, groups = [], []
        for label, target in enumerate(words.targets):
            part = parts_of(target, words.prompt)
            for word in (part.noun, *part.modifiers):
                labels.append(label)
                groups.append(word)
        seen = smoothed(maps_of(sharpened(maps.cross, words.columns, self.padding), groups, maps.grid)).flatten(1)
        if memory.get("step") != step:
            memory["step"], memory["earlier"] = step, memory.get("seen")
        memory["seen"] = seen.detach()
        earlier = memory["earlier"]
        if earlier is not None and earlier.shape == seen.shape:
            seen, labels = torch.cat([seen, earlier.to(seen)]), labels * 2
        return Aim(contrast(seen, labels, self.temperature))

    def refinement(self, step: int, total: int) -> Refinement | None:
        """Up to the cap, in three steps."""
        return scheduled(REFINED, self.refinements, step, total)


def contrast(maps: Float[Tensor, "word pixel"], labels: Sequence[int], temperature: float) -> Float[Tensor, ""]:
    """NT-Xent of maps with class labels, mean over the ordered pairs of one class; 0 without pairs or other classes."""
    unit = F.normalize(maps, dim=-1)
    similar = unit @ unit.T / temperature
    classes = torch.tensor(labels, device=maps.device)
    same = classes[:, None] == classes[None, :]
    positive = same & ~torch.eye(len(classes), dtype=torch.bool, device=maps.device)
    if not bool(positive.any()) or bool(same.all()):
        return maps.new_zeros(())
    others = similar.masked_fill(same, -math.inf).logsumexp(-1, keepdim=True)
    return (torch.logaddexp(similar, others) - similar)[positive].mean()
