"""The slow way to edit attention: all logits of a layer, in full, and a softmax over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attnreg.regulation.columns import Bias, ColumnAttention, LogitEdit, check_prompts, columns_of
from attnreg.regulation.edit import Edited, ProbabilityEdit, PromptColumns, check_fit, full_precision
from attnreg.regulation.grouping import membership, target_mass
from attnreg.types import Grid, Logits


def seen(logits: Logits, prompts: Sequence[PromptColumns], grid: Grid) -> ColumnAttention:
    """What an edit is given of these logits."""
    check_fit(logits, prompts, grid)
    check_prompts(prompts, len(logits), logits.shape[-1])
    columns = columns_of(tuple(prompts), 0, logits.dtype, logits.device)
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
        attention = seen(logits, prompts, grid)
        bias: Bias = edit.bias(attention, step, layer, memory)
        moved = logits.clone()
        for image, prompt in enumerate(prompts):
            for place, column in enumerate(column for target in prompt.targets for column in target):
                moved[image, :, :, column] = moved[image, :, :, column] + bias.columns[image, :, :, place]
        members = membership(tuple(prompts), logits.shape[-1], logits.dtype, logits.device)
        probabilities = moved.softmax(-1)
        mass = target_mass(logits.softmax(-1), members), target_mass(probabilities.detach(), members)
        return Edited(probabilities, *mass, bias.loss_before, bias.loss_after)
