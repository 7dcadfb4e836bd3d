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
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn import functional as F

from attnreg.regulation.columns import Bias, ColumnAttention, Columns, gains
from attnreg.types import Grid

FLASH, EFFICIENT, CUDNN = 1, 2, 3
"""What `torch._fused_sdp_choice` calls the kernels."""


class Part(NamedTuple):
    """Which part of an attention call is corrected."""

    rows: Sequence[int]
    """Of the batch, one an image."""
    queries: slice
    """The positions of the picture among the queries."""
    columns: Columns
    """Of each image; their tokens count the keys."""
    grid: Grid


Edit = Callable[[ColumnAttention], Bias]


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
    output, log_sum = _attend(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    if enable_gqa and key.shape[1] < query.shape[1]:
        times = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(times, 1), value.repeat_interleave(times, 1)
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    in_place = not output.requires_grad
    with torch.autocast(query.device.type, enabled=False):  # it would round the products to half precision
        for part, edit in parts:
            rows = _taken(part.rows)
            at = part.columns.tokens[:, None, :, None]
            own = query[rows][:, :, part.queries]
            exact = torch.promote_types(own.dtype, torch.float32)
            chosen = key[rows].gather(2, at.expand(-1, key.shape[1], -1, key.shape[3])).to(exact) * factor
            logits = own.to(exact) @ chosen.mT
            mask = None if attn_mask is None else _mask_of(attn_mask, rows, part.queries)
            if mask is not None:
                logits = _masked(logits, mask, part.columns.tokens)
            if log_sum is not None:
                of_row = log_sum[rows][:, :, part.queries].to(exact)
                probabilities = (logits - of_row.unsqueeze(-1)).exp()
            else:
                probabilities = _by_one_hot(own, key[rows], mask, part.columns.tokens, factor).to(exact)
            attention = ColumnAttention(logits, probabilities, part.columns, part.grid)
            gain = gains(probabilities, edit(attention), part.columns)
            spread = value[rows].gather(2, at.expand(-1, value.shape[1], -1, value.shape[3])).to(exact)
            before = output[rows][:, :, part.queries]
            # One product an image, added in place where the kernel's own precision is exact enough.
            if in_place and before.dtype == exact and isinstance(rows, slice):
                for image in range(len(before)):
                    before[image].baddbmm_(gain[image], spread[image])
                before.div_(1 + gain.sum(-1, keepdim=True))
                continue
            edited = (before.to(exact) + gain @ spread) / (1 + gain.sum(-1, keepdim=True))
            edited = edited.to(output.dtype)
            if in_place:
                output[rows, :, part.queries] = edited
            else:
                whole = torch.arange(len(query), device=query.device)[rows]
                inner = output[rows].index_copy(
                    2, torch.arange(query.shape[2], device=query.device)[part.queries], edited
                )
                output = output.index_copy(0, whole, inner)
    return output


@torch.no_grad()
def attend_noting(
    rows: Sequence[int],
    queries: slice,
    keys: slice,
    query: Float[Tensor, "batch head query channel"],
    key: Float[Tensor, "batch _ key channel"],
    value: Float[Tensor, "batch _ key channel_of_values"],
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> tuple[Tensor, Float[Tensor, "row pixel token"]]:
    """The attention call as it is, and what some rows' queries give to some keys: probabilities, summed over heads."""
    output, log_sum = _attend(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    noted = []
    with torch.autocast(query.device.type, enabled=False):
        for row in rows:
            mask = None if attn_mask is None else _mask_of(attn_mask, slice(row, row + 1), queries)
            of_heads = []
            for head in range(query.shape[1]):  # one at a time: of large pictures even one is large
                own, all_keys = query[row, head, queries].float() * factor, key[row, head].float()
                logits = own @ all_keys[keys].mT
                of_head = None if mask is None else mask[0, head if mask.shape[1] > 1 else 0]
                if of_head is not None:
                    logits = _excluding(logits, of_head[:, keys])
                if log_sum is not None:
                    of_row = log_sum[row, head, queries].float()
                else:
                    of_row = _excluding(own @ all_keys.mT, of_head).logsumexp(-1)
                of_heads.append((logits - of_row.unsqueeze(-1)).exp())
            noted.append(torch.stack(of_heads).sum(0))
    return output, torch.stack(noted)


def _excluding(logits: Tensor, mask: Tensor | None) -> Tensor:
    """Logits under a mask of truth values, which excludes, or one that is added."""
    if mask is None:
        return logits
    return logits.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else logits + mask


def _taken(rows: Sequence[int]) -> Any:
    """Rows of a batch as an index: a slice, which copies nothing, where they follow one another."""
    first = rows[0]
    return slice(first, first + len(rows)) if list(rows) == list(range(first, first + len(rows))) else list(rows)


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout_p: float,
    is_causal: bool,
    scale: float | None,
    gqa: bool,
) -> tuple[Tensor, Float[Tensor, "batch head query"] | None]:
    """What `scaled_dot_product_attention` returns, to the bit, and each row's log-sum-exp if its kernel tells it."""
    plain = F.scaled_dot_product_attention
    wanted = torch.is_grad_enabled() and any(one.requires_grad for one in (query, key, value))
    odd = dropout_p or is_causal or gqa or query.ndim != 4 or torch.compiler.is_compiling()
    if not (odd or wanted):
        choice = torch._fused_sdp_choice(query, key, value, mask, dropout_p, is_causal, scale=scale)
        kernel = _KERNELS.get((query.device.type, choice))
        found = kernel(query, key, value, mask, scale) if kernel else None
        if found is not None:
            output, log_sum = found
            return output, log_sum
    output = plain(query, key, value, mask, dropout_p, is_causal, scale=scale, enable_gqa=gqa)
    return output, None


def _on_cpu(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None) -> Any:
    if mask is not None and mask.dtype == torch.bool:  # as `scaled_dot_product_attention` does it
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, -math.inf)
    if mask is not None and (mask.dtype != query.dtype or mask.ndim not in (2, 4)):
        return None
    attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return attend(query, key, value, 0.0, False, attn_mask=mask, scale=scale)


def _flash(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None) -> Any:
    # Other widths are padded by `scaled_dot_product_attention` before the kernel gets them.
    if mask is not None or query.shape[-1] % 8 or value.shape[-1] != query.shape[-1]:
        return None
    return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, 0.0, False, False, scale=scale)[:2]


def _efficient(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None) -> Any:
    if mask is not None:  # it must be expanded and aligned first
        return None
    attend = torch.ops.aten._scaled_dot_product_efficient_attention
    output, log_sum, *_ = attend(query, key, value, None, True, 0.0, False, scale=scale)
    return output, log_sum[..., : query.shape[-2]]  # it is padded to whole blocks


def _cudnn(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None) -> Any:
    if mask is not None:
        return None
    attend = torch.ops.aten._scaled_dot_product_cudnn_attention
    output, log_sum, *_ = attend(query, key, value, None, True, 0.0, False, False, scale=scale)
    return output, log_sum.reshape(query.shape[:-1])


_KERNELS = {
    ("cpu", FLASH): _on_cpu,
    ("cuda", FLASH): _flash,
    ("cuda", EFFICIENT): _efficient,
    ("cuda", CUDNN): _cudnn,
}


def _mask_of(mask: Tensor, rows: Any, queries: slice) -> Shaped[Tensor, "#image #head #query key"]:
    """What a mask adds to the logits of a part; a mask of truth values excludes."""
    mask = mask[(None,) * (4 - mask.ndim)] if mask.ndim < 4 else mask
    mask = mask[rows] if mask.shape[0] > 1 else mask
    return mask[:, :, queries] if mask.shape[2] > 1 else mask


def _masked(
    logits: Float[Tensor, "image head query column"], mask: Tensor, index: Int[Tensor, "image column"]
) -> Float[Tensor, "image head query column"]:
    """The logits of some columns under the mask of their rows."""
    mask = mask.expand(len(index), -1, -1, -1)
    of_columns = mask.gather(3, index[:, None, None].expand(-1, *mask.shape[1:3], -1))
    return _excluding(logits, of_columns)


def _by_one_hot(
    query: Tensor, key: Tensor, mask: Tensor | None, index: Int[Tensor, "image column"], factor: float
) -> Float[Tensor, "image head query column"]:
    """The probabilities of some columns by another call of the kernel, whose values are 1 at a column each.

    As many columns a call as the head has channels, so that the fused kernels take it.
    """
    images, heads, keys, channels = key.shape
    found = []
    for some in index.split(channels, 1):
        values = torch.zeros(images, 1, keys, channels, dtype=key.dtype, device=key.device)
        at = torch.arange(some.shape[1], device=key.device).expand_as(some)
        values[torch.arange(images, device=key.device)[:, None], 0, some, at] = 1
        told = F.scaled_dot_product_attention(query, key, values.expand(-1, heads, -1, -1), mask, scale=factor)
        found.append(told[..., : some.shape[1]])
    return torch.cat(found, -1)
