"""TACA: the text heard more than the picture itself, while the picture takes shape (Lv et al., ICCV 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from attnreg.regulation.columns import Bias, ColumnAttention
from attnreg.regulation.settings import EditSettings, in_layers, in_window, number, setting


@dataclass(frozen=True, kw_only=True)
class Taca(EditSettings):
    """`softmax(L + strength * (factor - 1) * L)` on all of the text's columns, where text and picture share a softmax.

    arXiv:2506.07986, temperature-adjusted cross-modal attention: `gamma(t) s` for the logits `s` of picture queries
    and text keys, with `gamma(t) = gamma_0` at the time steps from a threshold on, else 1. `gamma_0` is `factor` here,
    1.2 as published. The threshold is `window`: there it is passed after the first 3 of 30 steps.

    As published, every token of the text is raised, padding too, in every joint layer, and nothing depends on the
    targets; only the trace tells theirs. Unlike there, the rows of the negative prompt are left as they are: guidance
    moves away from the unmodified model. The published figures are with a LoRA trained for it.

    A logit below 0 falls when it is multiplied: what the picture looks at already is what it looks at more.
    """

    window: tuple[float, float] = in_window(0.0, 0.1)
    layers: tuple[str, ...] = in_layers("all")
    factor: float = setting(1.2, number(0.0), "multiplies the logits with which the picture looks at the text")

    @property
    def whole_text(self) -> bool:
        """All of the text's columns; see `columns.TextEdit`."""
        return True

    def bias(self, attention: ColumnAttention, step: int, layer: str, memory: dict[str, Any]) -> Bias:
        """What multiplies the text's logits in one layer; see `columns.LogitEdit`."""
        # A column that is masked stays masked: nothing is added to a logit of minus infinity.
        finite = attention.logits.detach().nan_to_num(neginf=0.0)
        return Bias(self.strength * (self.factor - 1) * finite)
