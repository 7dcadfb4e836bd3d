"""The attention of one layer in which text and picture share one softmax, as a `joint.JointEdit` changes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attnreg.attention.families.family import Places
from attnreg.attention.layers.catch import scaled_logits
from attnreg.attention.layers.kernels import mask_of, of_heads
from attnreg.attention.layers.noting import attend_noting
from attnreg.attention.watching import Group
from attnreg.regulation.joint import JointAttention, JointChange, JointEdit
from attnreg.trace import Trace
from attnreg.types import Grid, Measured

Memory = dict[tuple[str, int], dict[str, Any]]


class JointRows:
    """The rows of a batch that an edit is asked about in one layer and step."""

    def __init__(
        self, edit: JointEdit, groups: Sequence[Group], when: tuple[int, int, float], layer: str, grid: Grid
    ) -> None:
        self.edit, self.layer, self.grid = edit, layer, grid
        self.step, self.total, self.when = when
        self.images = {row: image for group in groups for row, image in zip(group.rows, group.images, strict=True)}
        self.words = {row: one for group in groups for row, one in zip(group.rows, group.words, strict=True)}

    def change(self, memory: Memory, row: int, text: Tensor, own: Tensor) -> JointChange | None:
        """What becomes of a row's logits; see `joint.JointEdit`."""
        attention = JointAttention(text, own, self.grid, self.when)
        mine = memory.setdefault(("joint", self.images[row]), {})
        return self.edit.over_joint(attention, self.words[row], self.total, mine)

    def tell(self, trace: Trace, keeps_maps: bool, row: int, before: Tensor, after: Tensor) -> None:
        """Tell what a row's picture gives to the text, without the change and with it."""
        targets, images = self.words[row].columns.targets, [self.images[row]]
        maps = [torch.stack([seen[:, list(one)].sum(-1) for one in targets]).unsqueeze(0) for seen in (before, after)]
        trace.note(self.step, self.layer, images, self.grid, Measured(maps[0].mean(-1), maps[1].mean(-1)))
        if keeps_maps:
            trace.note_maps(self.step, self.layer, images, self.grid, *maps)


def attend_joint(
    ask: Callable[[int, Tensor, Tensor], JointChange | None],
    tell: Callable[[int, Tensor, Tensor], None],
    rows: Sequence[int],
    places: Places,
    parts: tuple[slice, slice],
    query: Float[Tensor, "batch head query channel"],
    key: Float[Tensor, "batch _ key channel"],
    value: Float[Tensor, "batch _ key channel_of_values"],
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Float[Tensor, "batch head query channel_of_values"]:
    """The call as it is but for the picture's positions in some rows, one head at a time: the maps are large.

    Args:
        ask: what becomes of a row's logits, given what its picture gives to the text and to itself, mean over heads.
        tell: is told, of a row, what its picture gives to the text without the change and with it.
        rows: of the batch.
        places: where the picture lies among the queries.
        parts: where text and picture lie among the keys.
        query: as all that follow, an argument of `scaled_dot_product_attention`.
        key: as there.
        value: as there.
        attn_mask: as there.
        dropout_p: as there.
        is_causal: as there.
        scale: as there.
        enable_gqa: as there.

    Returns:
        What the call returns.
    """
    given: Any = (attn_mask, dropout_p, is_causal, scale, enable_gqa)
    output, (text, own) = attend_noting(rows, places.queries, parts, query, key, value, *given)
    heads = query.shape[1]
    key, value = (one.repeat_interleave(heads // one.shape[1], 1) for one in (key, value))
    output = output.clone() if output.requires_grad else output
    for number, row in enumerate(rows):
        before = text[number] / heads
        change = ask(row, before, own[number] / heads)
        after = before
        if change is not None:
            after = torch.zeros_like(before)
            for head in range(heads):
                at = slice(row, row + 1), slice(head, head + 1)
                mask = None if attn_mask is None else mask_of(attn_mask, at[0], places.queries)
                with torch.autocast(query.device.type, enabled=False):
                    logits = scaled_logits(query[at][:, :, places.queries], key[at], of_heads(mask, at[1]), scale)[0, 0]
                    probabilities = changed(logits, change, parts).softmax(-1)
                    made = probabilities @ value[row, head].to(probabilities)
                output[row, head, places.queries] = made.to(output)
                after = after + probabilities[:, parts[0]] / heads
        tell(row, before, after)
    return output


def changed(
    logits: Float[Tensor, "pixel key"], change: JointChange, parts: tuple[slice, slice]
) -> Float[Tensor, "pixel key"]:
    """Logits of one head after the change."""
    made = logits.clone()
    made[:, parts[0]] = logits[:, parts[0]] * change.factor + change.text
    made[:, parts[1]] = logits[:, parts[1]] + change.own
    return made
