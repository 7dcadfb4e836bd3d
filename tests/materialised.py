"""The slow way to edit attention: all logits of a layer, in full, and a softmax over them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from attnreg.regulation.columns import Bias, ColumnAttention, LogitEdit, TextEdit, check_prompts, columns_of
from attnreg.regulation.edit import Edited, ProbabilityEdit, PromptColumns, check_fit, full_precision
from attnreg.regulation.grouping import membership, target_mass
from attnreg.types import Grid, Logits


def seen(logits: Logits, prompts: Sequence[PromptColumns], grid: Grid, whole_text: bool = False) -> ColumnAttention:
    """What an edit is given of these logits: those of the targets, or all of them."""
    check_fit(logits, prompts, grid)
    check_prompts(prompts, len(logits), logits.shape[-1])
    columns = columns_of(tuple(prompts), 0, logits.dtype, logits.device, logits.shape[-1] if whole_text else None)
    at = columns.tokens[:, None, None].expand(-1, *logits.shape[1:3], -1)
    return ColumnAttention(logits.softmax(-1).gather(3, at), columns, grid, lambda: logits.gather(3, at))


def edited(
    edit: LogitEdit | ProbabilityEdit,
    logits: Logits,
    prompts: Sequence[PromptColumns],
    grid: Grid,
    step: int,
    layer: str,
    memory: dict[str, Any],
) -> Edited:
    """`softmax(L + S)` of a whole layer, in float32 (float64 stays), and the mean attention to each target."""
    if isinstance(edit, ProbabilityEdit):
        return edit(logits, prompts, grid, step, layer, memory)
    with full_precision(logits) as logits:
        whole_text = isinstance(edit, TextEdit) and edit.whole_text
        attention = seen(logits, prompts, grid, whole_text)
        bias: Bias = edit.bias(attention, step, layer, memory)
        moved = logits.clone()
        for image, prompt in enumerate(prompts):
            heeded = [column for target in prompt.targets for column in target]
            for place, column in enumerate(range(logits.shape[-1]) if whole_text else heeded):
                moved[image, :, :, column] = moved[image, :, :, column] + bias.columns[image, :, :, place]
        members = membership(tuple(prompts), logits.shape[-1], logits.dtype, logits.device)
        probabilities = moved.softmax(-1)
        mass = target_mass(logits.softmax(-1), members), target_mass(probabilities.detach(), members)
        losses = (None if one is None else one.mean(1) for one in (bias.loss_before, bias.loss_after))
        return Edited(probabilities, *mass, *losses)


def hotter_text(
    query: Tensor, key: Tensor, queries: slice, text: slice, gamma: float, mask: Tensor | None = None, scale: float = 0
) -> Tensor:
    """The definition of the paper: `gamma s` where a query of the picture meets a key of the text, then a softmax."""
    logits = query @ key.mT * (scale or 1 / math.sqrt(query.shape[-1]))
    if mask is not None:
        logits = logits.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else logits + mask
    temperature = torch.ones(logits.shape[-2:], dtype=logits.dtype)
    temperature[queries, text] = gamma
    return (logits * temperature).softmax(-1)
