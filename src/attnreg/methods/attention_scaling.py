"""Attention scaling: a constant added to the targets' logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from attnreg.regulation.edit import Edited, PromptColumns, check_fit, full_precision
from attnreg.regulation.grouping import add_to_targets, membership, target_mass
from attnreg.regulation.settings import EditSettings, number, setting
from attnreg.types import Grid, Logits


@dataclass(frozen=True, kw_only=True)
class AttentionScaling(EditSettings):
    """`softmax(L + strength * shift)` on the targets' columns: every mention louder, everywhere in the picture."""

    shift: float = setting(1.0, number(), "added to the targets' attention logits")

    def __call__(
        self,
        logits: Logits,
        prompts: Sequence[PromptColumns],
        grid: Grid,
        step: int,
        layer: str,
        memory: dict[str, Any],
    ) -> Edited:
        """The scaled attention of one layer; see `edit.LogitEdit` for what goes in."""
        check_fit(logits, prompts, grid)
        with full_precision(logits) as logits:
            members = membership(tuple(prompts), logits.shape[-1], logits.dtype, logits.device)
            images, heads, pixels, _ = logits.shape
            shift = torch.full(
                (images * heads, len(prompts[0].targets), pixels),
                self.strength * self.shift,
                dtype=logits.dtype,
                device=logits.device,
            )
            probabilities = add_to_targets(logits, shift, members).softmax(-1)
        return Edited(
            probabilities, target_mass(logits.softmax(-1), members), target_mass(probabilities.detach(), members)
        )
