"""Where a layer looks for each target, by position: read off the attention that an edit is given and gives back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from attnreg.regulation.edit import PromptColumns
from attnreg.types import Probabilities


@torch.no_grad()
def target_maps(probabilities: Probabilities, prompts: Sequence[PromptColumns]) -> Float[Tensor, "image target pixel"]:
    """`A[t, p] = 1/H sum_h sum_(c in t) P[h, p, c]` of each image, in float32, without gradient.

    H: the number of heads; t: a target's columns, whose attention is their sum, as in `types.Target`. Its mean over
    the pixels is the `mass` that edits tell. All images have as many targets.
    """
    return torch.stack(
        [
            torch.stack([one[..., list(columns)].float().sum(-1).mean(0) for columns in prompt.targets])
            for one, prompt in zip(probabilities, prompts, strict=True)
        ]
    )
