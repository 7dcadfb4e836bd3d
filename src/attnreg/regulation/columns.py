"""What an edit of logits is given and gives back: attention to the columns that it changes, and what it adds to them.

An edit changes few of the columns that a position attends to. For these the probabilities are known from the logits
and the log-sum-exp of the whole row, so nothing as large as all of them is ever made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attnreg.regulation.edit import PromptColumns
from attnreg.types import AttnregError, Grid

FAINTEST = 1e-12
"""Added to each column's attention, far below its rounding: what is masked is not raised, and nothing divides by 0."""


class Columns(NamedTuple):
    """The columns that are edited, of some images, equally many: those of the targets, or all of the text.

    A prompt with fewer of them has its first one again, which is not edited.
    """

    tokens: Int[Tensor, "image column"]
    """Which token each is."""
    members: Float[Tensor, "image column target"]
    """1 where a column belongs to a target, else 0."""
    heeded: Float[Tensor, "image 1 1 column"]
    """1 where a column is edited: it belongs to a target, or all of the text is; else 0."""
    alone: bool
    """Whether every target is one column, in the order of the targets."""
    slices: tuple[slice | None, ...]
    """Of each image, where its columns are evenly spaced: as a slice, which copies nothing. Two always are."""


@lru_cache(maxsize=64)
def columns_of(
    prompts: tuple[PromptColumns, ...], first: int, dtype: torch.dtype, device: torch.device, tokens: int | None = None
) -> Columns:
    """The columns of prompts that have equally many targets.

    Do not write to the tensors: they are kept.

    Args:
        prompts: one an image.
        first: where the text's first token stands among the keys.
        dtype: of what tells which column belongs to what.
        device: of all tensors.
        tokens: how long the text is, where every column of it is wanted, and not the targets' alone.

    Raises:
        AttnregError: the prompts differ in their number of targets.
    """
    counts = {len(prompt.targets) for prompt in prompts}
    if len(counts) != 1:
        raise AttnregError(
            f"expected the same number of targets in every prompt, got {sorted(counts)}; call once per number"
        )
    if tokens is None:
        flat = [[column for target in prompt.targets for column in target] for prompt in prompts]
    else:
        flat = [list(range(tokens)) for _ in prompts]
    width = max(map(len, flat))
    # Even under `inference_mode` a normal tensor is made, for a later caller may be outside of it.
    with torch.inference_mode(False):
        rows = [columns + columns[:1] * (width - len(columns)) for columns in flat]
        members = torch.zeros(len(prompts), width, counts.pop())
        for image, prompt in enumerate(prompts):
            for number, target in enumerate(prompt.targets):
                members[image, [rows[image].index(column) for column in target], number] = 1
        members = members.to(device, dtype)
        heeded = members.sum(-1) if tokens is None else torch.ones_like(members[..., 0])
        alone = tokens is None and width == members.shape[-1]
        slices = tuple(_evenly_spaced([first + column for column in row]) for row in rows)
        return Columns(first + torch.tensor(rows, device=device), members, heeded[:, None, None], alone, slices)


def _evenly_spaced(columns: list[int]) -> slice | None:
    """The slice that takes just these, in this order; `None` if there is none."""
    spacing = columns[1] - columns[0] if len(columns) > 1 else 1
    if spacing < 1 or any(later - sooner != spacing for sooner, later in pairwise(columns)):
        return None
    return slice(columns[0], columns[-1] + 1, spacing)


@lru_cache(maxsize=64)
def _summing(
    pixels: int, dtype: torch.dtype, device: torch.device
) -> tuple[Float[Tensor, "1 1 1"], Float[Tensor, "1 1 pixel"]]:
    """`FAINTEST` and ones. Do not write to them: they are kept."""
    with torch.inference_mode(False):
        faintest = torch.full((1, 1, 1), FAINTEST, dtype=dtype, device=device)
        return faintest, torch.ones(1, 1, pixels, dtype=dtype, device=device)


@dataclass(frozen=True)
class ColumnAttention:
    """How the positions of the picture attend to some columns, in one layer and step; float32 (float64 stays)."""

    probabilities: Float[Tensor, "image head pixel column"]
    """Their softmax over the whole row, of which these columns are a part; the pixels of a column lie side by side."""
    columns: Columns
    grid: Grid
    ask_logits: Callable[[], Float[Tensor, "image head pixel column"]]

    @property
    def logits(self) -> Float[Tensor, "image head pixel column"]:
        """`q k^T / sqrt(d)`, masks added; made when it is asked for."""
        return self.ask_logits()

    @property
    def by_target(self) -> Float[Tensor, "image head pixel target"]:
        """The attention of each target: the sum over its columns."""
        if self.columns.alone:
            return self.probabilities
        return self.probabilities @ self.columns.members.unsqueeze(1)

    @cached_property
    def by_column(self) -> Float[Tensor, "image head 1 column"]:
        """The attention to each column, mean over the pixels, and `FAINTEST` beyond it; without gradient."""
        of_problems = self.probabilities.detach().flatten(0, 1)
        problems, pixels, columns = of_problems.shape
        faintest, ones = _summing(pixels, of_problems.dtype, of_problems.device)
        mean = torch.baddbmm(faintest, ones.expand(problems, -1, -1), of_problems, alpha=1 / pixels)
        return mean.view(*self.probabilities.shape[:2], 1, columns)

    def gathered(
        self, by_column: Float[Tensor, "image head #pixel column"]
    ) -> Float[Tensor, "image head #pixel target"]:
        """Numbers of columns, summed over the columns of each target.

        Args:
            by_column: a number a column.

        Returns:
            A number a target.
        """
        return by_column if self.columns.alone else by_column @ self.columns.members.unsqueeze(1)

    def spread(self, by_target: Float[Tensor, "image head #pixel target"]) -> Float[Tensor, "image head #pixel column"]:
        """Numbers of targets, handed on to each of their columns.

        Args:
            by_target: a number a target.

        Returns:
            A number a column.
        """
        return by_target if self.columns.alone else by_target @ self.columns.members.mT.unsqueeze(1)


class Bias:
    """What an edit adds to the logits of its columns, and what its search found.

    Args:
        columns: what is added: one number a column and head (`pixel` is 1), or one a position.
        loss_before: the method's objective where its search began, of each head; `None` if it has none.
        loss_after: the same where its search ended.
        growth: `exp(columns) - 1` in the place of `columns`, by an edit to which that is the nearer of the two.

    Raises:
        AttnregError: neither `columns` nor `growth` is given, or both are.
    """

    def __init__(
        self,
        columns: Float[Tensor, "image head #pixel column"] | None = None,
        loss_before: Float[Tensor, "image head"] | None = None,
        loss_after: Float[Tensor, "image head"] | None = None,
        *,
        growth: Float[Tensor, "image head #pixel column"] | None = None,
    ) -> None:
        if (columns is None) == (growth is None):
            raise AttnregError("expected a Bias of columns or of growth, got both or neither; give one of the two")
        self._columns, self._growth = columns, growth
        self.loss_before, self.loss_after = loss_before, loss_after

    @property
    def columns(self) -> Float[Tensor, "image head #pixel column"]:
        """What is added to the logits."""
        if self._columns is not None:
            return self._columns
        assert self._growth is not None
        return self._growth.log1p()

    @property
    def growth(self) -> Float[Tensor, "image head #pixel column"]:
        """By which share of itself `exp(logit)` grows: `exp(columns) - 1`."""
        if self._growth is not None:
            return self._growth
        assert self._columns is not None
        return self._columns.expm1()


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

        Returns:
            What is added to the logits.
        """


@runtime_checkable
class TextEdit(LogitEdit, Protocol):
    """A `LogitEdit` that may ask for every column of the text, where picture and text share one softmax.

    These are hundreds: its `bias` is asked one head at a time, all of them with the same `memory`, unless gradients are
    wanted.
    """

    @property
    def whole_text(self) -> bool:
        """Whether the columns are all of the text's, padding included, and not the targets' alone."""


def check_prompts(prompts: Sequence[PromptColumns], images: int, tokens: int) -> None:
    """Raises `AttnregError` unless there is a prompt an image, and all its columns are among the tokens."""
    if len(prompts) != images:
        raise AttnregError(f"expected one prompt per image ({images}), got {len(prompts)}; pass the conditional rows")
    for prompt in prompts:
        if (highest := max(column for target in prompt.targets for column in target)) >= tokens:
            raise AttnregError(
                f"expected token columns below {tokens}, got {highest}; count them in the prompt as encoded"
            )
