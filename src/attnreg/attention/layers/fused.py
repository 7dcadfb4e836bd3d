"""The correction in two kernels, for CUDA: probabilities of the columns, and all that follows once the bias is known.

Triton comes with torch's wheels for CUDA. Where it cannot be imported, or where a call is of another kind, the
correction is made by torch's own operations: the results are the same but for rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

BLOCK = 64
"""Positions of the picture that one program takes."""


@cache
def _kernels() -> Any:
    """The kernels, or `None` where Triton is not installed."""
    try:
        from attnreg.attention.layers import fused_kernels
    except ImportError:
        return None
    return fused_kernels


def is_fused(query: Tensor, log_sum: Tensor | None, mask: Tensor | None, output: Tensor) -> bool:
    """Whether the kernels can take the place of torch's operations in such an attention call."""
    if query.device.type != "cuda" or log_sum is None or mask is not None or output.requires_grad:
        return False
    return query.dtype != torch.float64 and _kernels() is not None


def probabilities_of(
    rows: Sequence[int],
    queries: slice,
    tokens: Int[Tensor, "image column"],
    query: Float[Tensor, "batch head query channel"],
    key: Float[Tensor, "batch head key channel"],
    log_sum: Float[Tensor, "batch head query"],
    factor: float,
) -> Float[Tensor, "image head pixel column"]:
    """`exp(factor q k^T - lse)` of some columns, in float32, pixels side by side; one launch an image.

    Args:
        rows: of the batch, one an image.
        queries: the positions of the picture.
        tokens: the keys that are wanted.
        query: as the kernel of the attention got them.
        key: likewise, as many heads.
        log_sum: of each row, over all keys.
        factor: of the logits.

    Returns:
        The probabilities.
    """
    start, stop, _ = queries.indices(query.shape[2])
    heads, channels = query.shape[1], query.shape[3]
    found = torch.empty(len(rows), heads, tokens.shape[1], stop - start, dtype=torch.float32, device=query.device)
    for image, row in enumerate(rows):
        q, k, lse = query[row, :, queries], key[row], log_sum[row, :, queries]
        with _on(query):
            _kernels().column_probabilities[_grid(stop - start, heads)](
                q, k, lse, tokens[image], found[image], stop - start, tokens.shape[1], channels, factor,
                *q.stride(), *k.stride(), *lse.stride(), *found[image].stride(),
                block=BLOCK, width=_power(channels),
            )  # fmt: skip
    return found.mT


def correct(
    rows: Sequence[int],
    queries: slice,
    tokens: Int[Tensor, "image column"],
    probabilities: Float[Tensor, "image head pixel column"],
    growth: Float[Tensor, "image head #pixel column"],
    value: Float[Tensor, "batch head key channel_of_values"],
    output: Float[Tensor, "batch head query channel_of_values"],
) -> Float[Tensor, "image head 1 column"]:
    """`out <- (out + sum_c g_c V_c) / (1 + sum_c g_c)` with `g = growth P`, where `out` lies; one launch an image.

    Args:
        rows: of the batch, one an image.
        queries: the positions of the picture.
        tokens: the keys that are corrected.
        probabilities: of them, from `probabilities_of`.
        growth: `exp(S) - 1`, one number a head or one a position.
        value: as the kernel of the attention got them, as many heads as the output.
        output: what that kernel returned; written to.

    Returns:
        What `bias_effect.Masses.after` holds: the attention to each column with the edit, summed over the pixels; of an
        even edit before it grew.
    """
    pixels, heads, channels = probabilities.shape[2], output.shape[1], value.shape[3]
    blocks, columns = _grid(pixels, heads)[0], tokens.shape[1]
    after = torch.empty(len(rows), heads, columns, blocks, dtype=torch.float32, device=output.device)
    even = growth.shape[2] == 1 and pixels > 1
    for image, row in enumerate(rows):
        out, v, p, g = output[row, :, queries], value[row], probabilities[image].mT, growth[image].mT
        with _on(output):
            _kernels().corrected[_grid(pixels, heads)](
                out, v, tokens[image], p, g, after[image], pixels, columns, channels,
                *out.stride(), *v.stride(), *p.stride(), *g.stride()[:2], 0 if even else g.stride(2),
                *after[image].stride(), grown=growth.shape[2] != 1, block=BLOCK, width=_power(channels),
            )  # fmt: skip
    return after.sum(-1, keepdim=True).mT


def _grid(pixels: int, heads: int) -> tuple[int, int]:
    return -(-pixels // BLOCK), heads


def _power(channels: int) -> int:
    """The next power of two: what a kernel's block may be as wide as."""
    return 1 << (channels - 1).bit_length()


def _on(tensor: Tensor) -> Any:
    """Kernels are launched on the current device."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()
