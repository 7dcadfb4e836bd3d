"""The fused kernels, asked for the log-sum-exp of their rows also, and what stands in for it where none tells it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn import functional as F

from attnreg.types import Queries

FLASH, EFFICIENT, CUDNN = 1, 2, 3
"""What `torch._fused_sdp_choice` calls the kernels."""


def excluding(logits: Tensor, mask: Tensor | None) -> Tensor:
    """Logits under a mask of truth values, which excludes, or one that is added."""
    if mask is None:
        return logits
    return logits.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else logits + mask


def taken(rows: Sequence[int]) -> Any:
    """Rows of a batch as an index: a slice, which copies nothing, where they follow one another."""
    first = rows[0]
    return slice(first, first + len(rows)) if list(rows) == list(range(first, first + len(rows))) else list(rows)


def attend(
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


def mask_of(mask: Tensor, rows: Any, queries: Queries) -> Shaped[Tensor, "#image #head #query key"]:
    """What a mask adds to the logits of a part; a mask of truth values excludes."""
    mask = mask[(None,) * (4 - mask.ndim)] if mask.ndim < 4 else mask
    mask = mask[rows] if mask.shape[0] > 1 else mask
    return mask[:, :, queries] if mask.shape[2] > 1 else mask


def of_heads(mask: Tensor | None, heads: slice) -> Tensor | None:
    """The part of a mask, as `mask_of` gives it, that is some heads'."""
    return mask if mask is None or mask.shape[1] == 1 else mask[:, heads]


def masked(
    logits: Float[Tensor, "image head query column"], mask: Tensor | None, index: Int[Tensor, "image column"]
) -> Float[Tensor, "image head query column"]:
    """The logits of some columns under the mask of their rows, if there is one."""
    if mask is None:
        return logits
    mask = mask.expand(len(index), -1, -1, -1)
    of_columns = mask.gather(3, index[:, None, None].expand(-1, *mask.shape[1:3], -1))
    return excluding(logits, of_columns)


def by_one_hot(
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
