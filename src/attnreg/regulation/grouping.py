"""From tokens to groups and back: the targets of a prompt and, as one more group, all the rest of its tokens."""

from __future__ import annotations

from functools import lru_cache

import torch
from einops import einsum, rearrange, reduce
from jaxtyping import Float
from torch import Tensor

from attnreg.regulation.edit import PromptColumns
from attnreg.types import AttnregError, Probabilities


@lru_cache(maxsize=64)
def membership(
    prompts: tuple[PromptColumns, ...], tokens: int, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "image token group"]:
    """1 where a token belongs to a group, else 0: one group per target, the last one for the rest of the tokens.

    Do not write to the tensor: it is kept. Raises `AttnregError` if prompts differ in their number of targets or name a
    column that does not exist.
    """
    counts = {len(prompt.targets) for prompt in prompts}
    if len(counts) != 1:
        raise AttnregError(
            f"expected the same number of targets in every prompt, got {sorted(counts)}; call once per number"
        )
    # Even under `inference_mode` a normal tensor is made, for a later caller may be outside of it.
    with torch.inference_mode(False):
        members = torch.zeros(len(prompts), tokens, counts.pop() + 1)
        members[..., -1] = 1
        for image, prompt in enumerate(prompts):
            for index, columns in enumerate(prompt.targets):
                if max(columns) >= tokens:
                    raise AttnregError(
                        f"expected token columns below {tokens}, got {columns}; count them in the prompt as encoded"
                    )
                members[image, list(columns), index] = 1
                members[image, list(columns), -1] = 0
        return members.to(device, dtype)


def group_logits(
    probabilities: Probabilities, members: Float[Tensor, "image token group"]
) -> Float[Tensor, "image*head group pixel"]:
    """`A_g(x) = log sum_{u in g} P_u(x)`: logits of the groups, whose softmax is the attention each group gets.

    Up to a constant per pixel, which no softmax sees, `A_t` is the log-sum-exp `L_t` of the target's logits, and the
    last row the log-sum-exp `R` of the rest. Adding `S` to every token of a target adds exactly `S` to its `A`, so the
    search for `S` needs no token columns. A group that is masked (or 87 nats below the others, in float32) has
    `A = -inf`: no edit can raise it.
    """
    grouped = members.mT.unsqueeze(1) @ probabilities.mT
    return grouped.flatten(0, 1).log()


def target_mass(
    probabilities: Probabilities, members: Float[Tensor, "image token group"]
) -> Float[Tensor, "image target"]:
    """Mean over heads and pixels of the probability of each target (of its tokens together)."""
    per_token = reduce(probabilities, "image head pixel token -> image token", "mean")
    return einsum(per_token, members[..., :-1], "image token, image token target -> image target")


def add_to_targets(
    logits: Float[Tensor, "image head pixel token"],
    edit: Float[Tensor, "image*head target pixel"],
    members: Float[Tensor, "image token group"],
) -> Float[Tensor, "image head pixel token"]:
    """`L + S`: each target's edit added to every one of its token columns, the other columns as they were."""
    per_target = rearrange(edit, "(image head) target pixel -> image head pixel target", image=len(logits))
    return logits + per_target @ members[..., :-1].mT.unsqueeze(1)


def per_image(values: Float[Tensor, " problem"], images: int) -> Float[Tensor, " image"]:
    """Mean over the heads of every image, of values that hold one number per image and head."""
    return reduce(values, "(image head) -> image", "mean", image=images)
