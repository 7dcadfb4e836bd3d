"""A balance in closed form: one number a target and head, so that none is drowned by another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from attnreg.regulation.columns import Bias, ColumnAttention
from attnreg.regulation.settings import EditSettings, in_layers, in_window, number, setting

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

    def bias(self, attention: ColumnAttention, step: int, layer: str, memory: dict[str, Any]) -> Bias:
        """What balances the targets of one layer in one step; see `columns.LogitEdit`.

        `memory` is not used: every step stands on its own.
        """
        with torch.no_grad():
            mass = attention.by_target.mean(-2, keepdim=True).clamp_min(FAINTEST)
            shift = (self.gain * mass.mean(-1, keepdim=True) / mass).log() * self.strength
            return Bias(attention.spread(shift))
