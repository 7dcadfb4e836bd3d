"""Where a layer looks for each target, by position: read off the attention that an edit is given and gives back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import einsum, reduce
from jaxtyping import Float
from torch import Tensor

from attnreg.regulation.columns import ColumnAttention, Columns
from attnreg.regulation.edit import PromptColumns
from attnreg.regulation.grouping import membership
from attnreg.types import Probabilities


@torch.no_grad()
def target_maps(probabilities: Probabilities, prompts: Sequence[PromptColumns]) -> Float[Tensor, "image target pixel"]:
    """`A[t, p] = 1/H sum_h sum_(c in t) P[h, p, c]` of each image, in float32, without gradient.

    H: the number of heads; t: a target's columns, whose attention is their sum, as in `types.Target`. Its mean over
    the pixels is the `mass` that edits tell. All images have as many targets.
    """
    members = membership(tuple(prompts), probabilities.shape[-1], torch.float32, probabilities.device)[..., :-1]
    per_token = reduce(probabilities.float(), "image head pixel token -> image pixel token", "mean")
    return einsum(per_token, members, "image pixel token, image token target -> image target pixel")


@torch.no_grad()
def column_maps(
    attention: ColumnAttention, gains: Float[Tensor, "image head pixel column"] | None = None
) -> Float[Tensor, "image target pixel"]:
    """The same of attention to the targets' columns alone: as it is, or with the gains of an edit."""
    probabilities = attention.probabilities
    if gains is not None:
        probabilities = (probabilities + gains) / (1 + gains.sum(-1, keepdim=True))
    return of_targets(
        attention.columns, reduce(probabilities.mT.float(), "image head column pixel -> image column pixel", "mean")
    )


def of_targets(columns: Columns, by_column: Float[Tensor, "image column pixel"]) -> Float[Tensor, "image target pixel"]:
    """The maps of targets, from those of their columns; the pixels lie side by side, which is quick to sum."""
    return by_column if columns.alone else columns.members.mT.to(by_column.dtype) @ by_column
