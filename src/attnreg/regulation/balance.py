"""A balance in closed form: one number a target and head, so that none is drowned by another."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attnreg.regulation.columns import Bias, ColumnAttention
from attnreg.regulation.settings import EditSettings, in_layers, in_window, number, setting


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
            mass = attention.gathered(attention.by_column)
            mean = mass.mean(-1, keepdim=True)
            if self.strength == 1:  # no logarithm that would be taken back: one operation
                growth = torch.addcdiv(_minus_one(mass.dtype, mass.device), mean, mass, value=self.gain)
                return Bias(growth=attention.spread(growth))
            return Bias(attention.spread((self.gain * mean / mass).log() * self.strength))


@lru_cache(maxsize=16)
def _minus_one(dtype: torch.dtype, device: torch.device) -> Float[Tensor, ""]:
    """Do not write to it: it is kept."""
    with torch.inference_mode(False):
        return torch.full((), -1.0, dtype=dtype, device=device)
