"""Attention scaling: the targets' logits multiplied, or a constant added to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from attnreg.regulation.columns import Bias, ColumnAttention
from attnreg.regulation.settings import EditSettings, number, setting


@dataclass(frozen=True, kw_only=True)
class AttentionScaling(EditSettings):
    """`softmax(L + strength * ((factor - 1) * L + shift))` on the targets' columns: louder everywhere in the picture.

    A logit below 0 falls when it is multiplied: only the sum is louder for every pixel.
    """

    shift: float = setting(1.0, number(), "added to the targets' attention logits")
    factor: float = setting(1.0, number(0.0), "multiplies the targets' attention logits before that")

    def bias(self, attention: ColumnAttention, step: int, layer: str, memory: dict[str, Any]) -> Bias:
        """What makes the targets louder in one layer; see `columns.LogitEdit`."""
        if self.factor == 1:
            images, heads, _, columns = attention.probabilities.shape
            return Bias(attention.probabilities.new_full((images, heads, 1, columns), self.strength * self.shift))
        # A column that is masked stays masked: nothing is added to a logit of minus infinity.
        finite = attention.logits.detach().nan_to_num(neginf=0.0)
        return Bias(self.strength * ((self.factor - 1) * finite + self.shift))
