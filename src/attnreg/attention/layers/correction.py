"""Attention with a bias on a few columns, as a correction of what the fused kernel returns.

Let `out = softmax(L) V` and `lse` the log-sum-exp of each row of the logits `L`. With `S` added to the columns `c`,

    P_c = exp(L_c - lse),   g_c = (exp(S_c) - 1) P_c,   out' = (out + sum_c g_c V_c) / (1 + sum_c g_c)

is `softmax(L + S) V` exactly: of the whole row of probabilities nothing but those columns is ever made. At `S = 0` it
is the kernel's own output to the bit, and rows that are not corrected are never touched. The kernel returns `lse` where
it is asked for it; where none can, one more call whose values are one-hot a column tells `P_c`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import NamedTuple

import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor

from attnreg.attention.layers.fused import correct, is_fused, probabilities_of
from attnreg.attention.layers.kernels import attend, by_one_hot, mask_of, masked, of_heads, taken
from attnreg.regulation.bias_effect import BiasEffect
from attnreg.regulation.columns import Bias, ColumnAttention, Columns
from attnreg.types import Grid, Queries


class Part(NamedTuple):
    """Which part of an attention call is corrected."""

    rows: Sequence[int]
    """Of the batch, one an image."""
    queries: Queries
    """The positions of the picture among the queries."""
    columns: Columns
    """Of each image; their tokens count the keys."""
    grid: Grid
    note: Callable[[BiasEffect], None] | None = None
    """Told what the edit does, before the output is corrected; once for every time that the edit is asked."""
    by_head: bool = False
    """Whether the edit is asked one head at a time: of many columns all heads at once are a tensor of gigabytes."""


class Look(NamedTuple):
    """In the place of an edit: nothing is added, and only the mean over heads is wanted."""

    note: Callable[[Float[Tensor, "image column pixel"]], None]
    """Told the probabilities of each column."""

    def __call__(self, attention: ColumnAttention) -> None:
        """Where the probabilities of all heads were made: as an edit that adds nothing."""
        self.note(reduce(attention.probabilities.mT, "image head column pixel -> image column pixel", "mean"))


Edit = Callable[[ColumnAttention], Bias | None] | Look
"""What is added; `None`: nothing."""


def attend_corrected(
    parts: Sequence[tuple[Part, Edit]],
    query: Float[Tensor, "batch head query channel"],
    key: Float[Tensor, "batch _ key channel"],
    value: Float[Tensor, "batch _ key channel_of_values"],
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Float[Tensor, "batch head query channel_of_values"]:
    """Attention of which parts are those of edited logits; the arguments are `scaled_dot_product_attention`'s.

    Gradients reach queries, keys and values; the bias is a constant to them unless its edit says otherwise.
    """
    output, log_sum = attend(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    if enable_gqa and key.shape[1] < query.shape[1]:
        times = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(times, 1), value.repeat_interleave(times, 1)
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    in_place = not output.requires_grad
    kind = query.device.type
    rounding = torch.is_autocast_enabled(kind)  # products would be rounded to half precision
    with torch.autocast(kind, enabled=False) if rounding else nullcontext():
        for part, edit in parts:
            if isinstance(edit, Look) and log_sum is not None and attn_mask is None and not log_sum.requires_grad:
                edit.note(_glimpsed(part, query, key, log_sum, factor))
                continue
            mask = None if attn_mask is None else mask_of(attn_mask, taken(part.rows), part.queries)
            for heads in _in_turn(part, query.shape[1], in_place):
                own = None if log_sum is None else log_sum[:, heads]
                of_these = of_heads(mask, heads)
                fused = _for_kernels(part) if is_fused(query, own, of_these, output) else None
                attention = _seen(part, query[:, heads], key[:, heads], own, of_these, factor, fused)
                bias = edit(attention)
                if bias is None:
                    continue
                change = BiasEffect(attention, bias)
                if fused:
                    where = part.rows, fused, part.columns.tokens
                    change.after = correct(*where, attention.probabilities, change.growth, value, output)
                if part.note:
                    part.note(change)
                if not fused:
                    output = _applied(part, heads, change, output, value, in_place)
    return output


def _applied(
    part: Part, heads: slice, change: BiasEffect, output: Tensor, value: Tensor, in_place: bool
) -> Float[Tensor, "batch head query channel"]:
    """The output with a part of it corrected, in some heads; the very tensor, written to, where that is allowed."""
    for image, row in enumerate(part.rows):
        before = output[row, heads][:, part.queries]
        spread = _chosen(value[row, heads], part.columns, image).to(change.attention.probabilities.dtype)
        edited = _corrected(change, image, before, spread, in_place)
        if in_place:
            if edited is not before or not isinstance(part.queries, slice):  # numbers of queries make a copy
                output[row, heads][:, part.queries] = edited
        elif edited is not before:  # all heads: those that keep a gradient are corrected together
            at = torch.arange(output.shape[2], device=output.device)[part.queries]
            inner = output[row].index_copy(1, at, edited)
            output = output.index_copy(0, torch.tensor([row], device=output.device), inner.unsqueeze(0))
    return output


def _for_kernels(part: Part) -> slice | None:
    """The queries of a part that the small kernels are made for: beside one another, and all heads at once."""
    return part.queries if isinstance(part.queries, slice) and not part.by_head else None


def _in_turn(part: Part, heads: int, in_place: bool) -> list[slice]:
    """The heads that are corrected together; all of them where gradients are wanted, which keep everything anyway."""
    return [slice(head, head + 1) for head in range(heads)] if part.by_head and in_place else [slice(None)]


def _seen(
    part: Part,
    query: Tensor,
    key: Tensor,
    log_sum: Tensor | None,
    mask: Tensor | None,
    factor: float,
    fused: slice | None,
) -> ColumnAttention:
    """How a part's queries attend to its columns; (column, query) in memory, which is quick to sum over the queries."""
    exact = torch.promote_types(query.dtype, torch.float32)
    own = [query[row][:, part.queries] for row in part.rows]
    chosen = [_chosen(key[row], part.columns, image).to(exact) for image, row in enumerate(part.rows)]
    if log_sum is None:
        logits = _stacked([of_image.to(exact) @ keys.mT for of_image, keys in zip(own, chosen, strict=True)]) * factor
        logits = masked(logits, mask, part.columns.tokens)
        by_image = torch.stack(own), key[taken(part.rows)]
        probabilities = by_one_hot(*by_image, mask, part.columns.tokens, factor).to(exact)
        return ColumnAttention(probabilities, part.columns, part.grid, lambda: logits)
    if fused:
        found = probabilities_of(part.rows, fused, part.columns.tokens, query, key, log_sum, factor)
        return ColumnAttention(found, part.columns, part.grid, partial(_logits, found, log_sum, part))
    of_rows = [log_sum[row][:, part.queries].to(exact).unsqueeze(-2) for row in part.rows]

    def scores(less: int) -> Tensor:
        products = [
            torch.baddbmm(of_row, keys, of_image.to(exact).mT, beta=-less, alpha=factor)
            for of_row, of_image, keys in zip(of_rows, own, chosen, strict=True)
        ]
        return masked(_stacked(products).mT, mask, part.columns.tokens)

    relative = scores(1)
    if part.by_head or relative.requires_grad:  # of one head little is held, and of many columns much computed
        return ColumnAttention(relative.exp(), part.columns, part.grid, lambda: relative + _stacked(of_rows).mT)
    return ColumnAttention(relative.exp_(), part.columns, part.grid, partial(scores, 0))


def _glimpsed(
    part: Part, query: Tensor, key: Tensor, log_sum: Float[Tensor, "batch head query"], factor: float
) -> Float[Tensor, "image column pixel"]:
    """How a part's queries attend to its columns, mean over heads: `_seen` without what only an edit needs, and
    summed in the order in which the pixels lie in memory."""
    exact = torch.promote_types(query.dtype, torch.float32)
    found = []
    for image, row in enumerate(part.rows):
        of_image, of_row = query[row], log_sum[row]
        if part.queries != slice(None):
            of_image, of_row = of_image[:, part.queries], of_row[:, part.queries]
        chosen = _chosen(key[row], part.columns, image).to(exact)
        of_row = of_row.unsqueeze(-2).to(exact)
        relative = torch.baddbmm(of_row, chosen, of_image.mT.to(exact), beta=-1, alpha=factor)
        found.append(relative.exp_().mean(0))
    return _stacked(found)


def _logits(
    probabilities: Float[Tensor, "image head pixel column"], log_sum: Float[Tensor, "batch head query"], part: Part
) -> Float[Tensor, "image head pixel column"]:
    """The logits whose probabilities are known."""
    return probabilities.log() + log_sum[taken(part.rows)][:, :, part.queries].unsqueeze(-1)


def _corrected(
    change: BiasEffect,
    image: int,
    before: Float[Tensor, "head query channel"],
    spread: Float[Tensor, "head column channel"],
    in_place: bool,
) -> Float[Tensor, "head query channel"]:
    """The output of one image; the very tensor, written to, where its precision is exact enough."""
    if change.is_even:  # the few values grow, not what is as large as the map
        gains, spread = change.attention.probabilities[image], spread * change.growth[image].mT
    else:
        gains = change.gains[image]
    share = change.share[image]
    if in_place and before.dtype == spread.dtype:
        before.baddbmm_(gains, spread).mul_(share)
        return before
    return ((before.to(spread.dtype) + gains @ spread) * share).to(before.dtype)


def _chosen(
    whole: Float[Tensor, "head key channel"], columns: Columns, image: int
) -> Float[Tensor, "head column channel"]:
    """The keys or values of an image's columns."""
    evenly = columns.slices[image]
    return whole[:, evenly] if evenly else whole.index_select(1, columns.tokens[image])


def _stacked(of_images: list[Tensor]) -> Tensor:
    """One tensor of all images; of one image it copies nothing."""
    return of_images[0].unsqueeze(0) if len(of_images) == 1 else torch.stack(of_images)
