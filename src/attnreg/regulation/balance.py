"""A balance in closed form: one number a target and head, so that none is drowned by another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from einops import einsum, rearrange, reduce
from jaxtyping import Float
from torch import Tensor

from attnreg.regulation.edit import Edited, PromptColumns, check_fit, full_precision
from attnreg.regulation.grouping import membership
from attnreg.regulation.settings import EditSettings, in_layers, in_window, number, setting
from attnreg.types import Grid, Logits, Probabilities

FAINTEST = 1e-12
"""Attention below which a target counts as having this much: what is masked cannot be raised."""


@dataclass(frozen=True, kw_only=True)
class AttentionBalance(EditSettings):
    """`softmax(L + strength * S)` with `S_t = log(gain * mean_s(m_s) / m_t)`: weak targets louder, strong ones less.

    Per image and head, `m_t` is the attention to target t, mean over the pixels. The same number is added everywhere in
    the picture, so that a target's map keeps the model's own shape and layout; where masses are equal already, all
    targets are raised alike against the other tokens. No gradient, no iteration, no pattern imposed.
    """

    window: tuple[float, float] = in_window(0.0, 0.67)
    layers: tuple[str, ...] = in_layers("all")
    gain: float = setting(3.0, number(0.0, above_low=True), "the targets' attention is raised by this factor")

    def __call__(
        self,
        logits: Logits,
        prompts: Sequence[PromptColumns],
        grid: Grid,
        step: int,
        layer: str,
        memory: dict[str, Any],
    ) -> Edited:
        """The balanced attention of one layer in one step; see `edit.LogitEdit` for what goes in.

        `memory` is not used: every step stands on its own. Raises `AttnregError` if the shapes do not fit together.
        """
        check_fit(logits, prompts, grid)
        with full_precision(logits) as logits:
            targets = membership(tuple(prompts), logits.shape[-1], logits.dtype, logits.device)[..., :-1]
            with torch.no_grad():
                mass = _mass_by_head(logits.softmax(-1), targets)
                there = mass.clamp_min(FAINTEST)
                shift = (self.gain * there.mean(-1, keepdim=True) / there).log() * self.strength
                per_column = einsum(shift, targets, "image head target, image token target -> image head token")
            probabilities = (logits + rearrange(per_column, "image head token -> image head 1 token")).softmax(-1)
            return Edited(probabilities, mass.mean(1), _mass_by_head(probabilities.detach(), targets).mean(1))


def _mass_by_head(
    probabilities: Probabilities, targets: Float[Tensor, "image token target"]
) -> Float[Tensor, "image head target"]:
    per_token = reduce(probabilities, "image head pixel token -> image head token", "mean")
    return einsum(per_token, targets, "image head token, image token target -> image head target")
