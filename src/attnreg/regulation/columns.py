"""What an edit of logits is given and gives back: attention to the columns that it changes, and what it adds to them.

An edit changes few of the columns that a position attends to. For these the probabilities are known from the logits
and the log-sum-exp of the whole row, so nothing as large as all of them is ever made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from einops import reduce
from jaxtyping import Float, Int
from torch import Tensor

from attnreg.regulation.edit import PromptColumns
from attnreg.types import AttnregError, Grid


class Columns(NamedTuple):
    """The columns of some images' targets, equally many: a prompt with fewer has its first one again, in no target."""

    tokens: Int[Tensor, "image column"]
    """Which token each is."""
    members: Float[Tensor, "image column target"]
    """1 where a column belongs to a target, else 0."""
    alone: bool
    """Whether every target is one column, in the order of the targets."""


@lru_cache(maxsize=64)
def columns_of(prompts: tuple[PromptColumns, ...], first: int, dtype: torch.dtype, device: torch.device) -> Columns:
    """The columns of prompts that have equally many targets; first: where the text's first token stands among the keys.

    Do not write to the tensors: they are kept. Raises `AttnregError` if the prompts differ in their number of targets.
    """
    counts = {len(prompt.targets) for prompt in prompts}
    if len(counts) != 1:
        raise AttnregError(
            f"expected the same number of targets in every prompt, got {sorted(counts)}; call once per number"
        )
    flat = [[column for target in prompt.targets for column in target] for prompt in prompts]
    width = max(map(len, flat))
    # Even under `inference_mode` a normal tensor is made, for a later caller may be outside of it.
    with torch.inference_mode(False):
        rows = [columns + columns[:1] * (width - len(columns)) for columns in flat]
        tokens = first + torch.tensor(rows, device=device)
        members = torch.zeros(len(prompts), width, counts.pop())
        for image, prompt in enumerate(prompts):
            start = 0
            for number, target in enumerate(prompt.targets):
                members[image, start : start + len(target), number] = 1
                start += len(target)
        alone = width == members.shape[-1]
        return Columns(tokens, members.to(device, dtype), alone)


@dataclass(frozen=True)
class ColumnAttention:
    """How the positions of the picture attend to some columns, in one layer and step; float32 (float64 stays)."""

    logits: Float[Tensor, "image head pixel column"]
    """`q k^T / sqrt(d)`, masks added."""
    probabilities: Float[Tensor, "image head pixel column"]
    """Their softmax over the whole row, of which these columns are a part."""
    columns: Columns
    grid: Grid

    @property
    def by_target(self) -> Float[Tensor, "image head pixel target"]:
        """The attention of each target: the sum over its columns."""
        if self.columns.alone:
            return self.probabilities
        return self.probabilities @ self.columns.members.unsqueeze(1)

    def spread(self, by_target: Float[Tensor, "image head #pixel target"]) -> Float[Tensor, "image head #pixel column"]:
        """A number a target, handed on to each of its columns."""
        return by_target if self.columns.alone else by_target @ self.columns.members.mT.unsqueeze(1)


class Bias(NamedTuple):
    """What an edit adds to the logits of its columns, and what its search found."""

    columns: Float[Tensor, "image head #pixel column"]
    """One number a column and head (`pixel` is 1), or one a position."""
    loss_before: Float[Tensor, " image"] | None = None
    """The method's objective where its search began, mean over heads; `None` if it has none."""
    loss_after: Float[Tensor, " image"] | None = None
    """The same where its search ended."""


@runtime_checkable
class LogitEdit(Protocol):
    """A way to change the logits of the prompt's targets in one layer and denoising step: `softmax(L + S)`."""

    @property
    def strength(self) -> float:
        """Factor of the edit; at 0 nothing is added."""

    @property
    def window(self) -> tuple[float, float]:
        """The fractions of the denoising steps between which the edit works, half-open."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers it works in."""

    def bias(self, attention: ColumnAttention, step: int, layer: str, memory: dict[str, Any]) -> Bias:
        """What is added to the columns of the targets.

        Args:
            attention: the model's own, of the images' prompts alone; all have as many targets.
            step: denoising steps before this one.
            layer: the layer's name.
            memory: belongs to this layer and this group of images alone: empty at the first step of a run, kept by the
                caller until its end, filled here.
        """


def gains(
    probabilities: Float[Tensor, "image head pixel column"], bias: Bias, columns: Columns
) -> Float[Tensor, "image head pixel column"]:
    """`g = (exp(S) - 1) P`: by how much each column grows, before the row is divided by its new sum `1 + sum g`.

    0 in columns that stand in no target.
    """
    grown = probabilities * bias.columns.expm1()
    return grown if columns.alone else grown * columns.members.sum(-1)[:, None, None]


def masses(
    attention: ColumnAttention, gains: Float[Tensor, "image head pixel column"] | None = None
) -> Float[Tensor, "image target"]:
    """Mean probability of each target over heads and pixels: as it is, or with the gains of an edit."""
    if gains is None:
        return reduce(attention.by_target, "image head pixel target -> image target", "mean")
    after = (attention.probabilities + gains) / (1 + gains.sum(-1, keepdim=True))
    per_column = reduce(after, "image head pixel column -> image 1 column", "mean")
    return (per_column @ attention.columns.members).squeeze(1)


def check_prompts(prompts: Sequence[PromptColumns], images: int, tokens: int) -> None:
    """Raises `AttnregError` unless there is a prompt an image, and all its columns are among the tokens."""
    if len(prompts) != images:
        raise AttnregError(f"expected one prompt per image ({images}), got {len(prompts)}; pass the conditional rows")
    for prompt in prompts:
        if (highest := max(column for target in prompt.targets for column in target)) >= tokens:
            raise AttnregError(
                f"expected token columns below {tokens}, got {highest}; count them in the prompt as encoded"
            )
