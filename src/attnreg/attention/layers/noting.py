"""The attention call as it is, and what some queries give to whole parts of the keys: with gradients, where wanted."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from attnreg.attention.layers.kernels import attend, excluding, mask_of
from attnreg.types import Queries


def attend_noting(
    rows: Sequence[int],
    queries: Queries,
    keys: Sequence[slice],
    query: Float[Tensor, "batch head query channel"],
    key: Float[Tensor, "batch _ key channel"],
    value: Float[Tensor, "batch _ key channel_of_values"],
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> tuple[Tensor, list[Float[Tensor, "row pixel _"]]]:
    """The attention call as it is, and what some rows' queries give to some keys: probabilities, summed over heads.

    With gradients, where they are wanted: then nothing but queries and keys is kept of a head, whose probabilities are
    computed anew in the backward pass.

    Args:
        rows: of the batch.
        queries: the positions of the picture.
        keys: one or more parts of the keys.
        query: as all that follow, an argument of `scaled_dot_product_attention`.
        key: as there.
        value: as there.
        attn_mask: as there.
        dropout_p: as there.
        is_causal: as there.
        scale: as there.
        enable_gqa: as there.

    Returns:
        What the call returns, and the probabilities of each part of the keys.
    """
    output, log_sum = attend(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    anew = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad)
    noted: list[list[Tensor]] = [[] for _ in keys]
    with torch.autocast(query.device.type, enabled=False):
        for row in rows:
            mask = None if attn_mask is None else mask_of(attn_mask, slice(row, row + 1), queries)
            total: list[Tensor] | None = None
            for head in range(query.shape[1]):  # one at a time: of large pictures even one is large
                of_head = None if mask is None else mask[0, head if mask.shape[1] > 1 else 0]
                of_rows = None if log_sum is None else log_sum[row, head, queries]
                given = query[row, head, queries], key[row, head], keys, of_head, of_rows, factor
                found = checkpoint(_of_head, *given, use_reentrant=False) if anew else _of_head(*given)
                total = found if total is None else [one + more for one, more in zip(total, found, strict=True)]
            for part, one in zip(noted, total or [], strict=True):
                part.append(one)
    return output, [torch.stack(part) for part in noted]


def _of_head(
    query: Float[Tensor, "pixel channel"],
    key: Float[Tensor, "key channel"],
    keys: Sequence[slice],
    mask: Tensor | None,
    log_sum: Float[Tensor, " pixel"] | None,
    factor: float,
) -> list[Float[Tensor, "pixel _"]]:
    """What queries of one head give to parts of the keys."""
    exact = torch.promote_types(query.dtype, torch.float32)
    query, key = query.to(exact) * factor, key.to(exact)
    if log_sum is None:
        log_sum = excluding(query @ key.mT, mask).logsumexp(-1)
    of_rows = log_sum.to(exact).unsqueeze(-1)
    masks = [None if mask is None else mask[:, part] for part in keys]
    return [
        (excluding(query @ key[part].mT, of_part) - of_rows).exp() for part, of_part in zip(keys, masks, strict=True)
    ]
