"""What every edit of attention is given and gives back: the one signature that all methods share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from attnreg.types import AttnregError, Embedding, Grid, Logits, Probabilities, Target


@dataclass(frozen=True)
class PromptColumns:
    """Where the words of one image's prompt lie among the token columns. Hashable, so that lookups can be kept.

    Raises `AttnregError` if there is no target, if a target is empty, or if two targets share a column.
    """

    targets: tuple[tuple[int, ...], ...]
    """For each target, the columns of its tokens."""
    start_of_text: int | None = None
    """The column of the start token; `None` where the text encoder has none."""
    end_of_text: int | None = None
    """The column of the first end-of-text token; `None` where the text encoder has none."""
    words: tuple[int, ...] | None = None
    """The columns of all of the prompt's own words, where templates, marks and padding may stand on any side of them;
    `None`: those between the start token and the end."""

    def __post_init__(self) -> None:
        columns = [column for target in self.targets for column in target]
        if not self.targets or not all(self.targets):
            raise AttnregError(
                f"targets: expected at least one target, each of at least one token, got {self.targets}; "
                "leave images without targets out of the edit"
            )
        if min(columns) < 0 or len(set(columns)) != len(columns):
            raise AttnregError(
                f"targets: expected every column once and none below 0, got {self.targets}; "
                "merge targets that share a token into one"
            )


@dataclass(frozen=True)
class Edited:
    """The attention probabilities of one layer and step after an edit, and what the edit did to them."""

    probabilities: Probabilities
    mass_before: Float[Tensor, "image target"]
    """Mean probability of each target over heads and pixels, without the edit."""
    mass_after: Float[Tensor, "image target"]
    """The same with the edit."""
    loss_before: Float[Tensor, " image"] | None = None
    """The method's objective where its search began, mean over heads; `None` if it has none."""
    loss_after: Float[Tensor, " image"] | None = None
    """The same where its search ended."""


@runtime_checkable
class ProbabilityEdit(Protocol):
    """A way to replace the cross-attention probabilities of one layer in one denoising step, whatever they sum to.

    It is given all logits, a tensor of the picture by all tokens. What only adds to the logits of targets is a
    `columns.LogitEdit`, which costs a fraction and works where text and picture attend to one another.
    """

    @property
    def strength(self) -> float:
        """Factor of the edit; at 0 the probabilities are those of the unmodified model."""

    @property
    def window(self) -> tuple[float, float]:
        """The fractions of the denoising steps between which the edit works, half-open."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, or patterns of them, it works in."""

    def __call__(
        self,
        logits: Logits,
        prompts: Sequence[PromptColumns],
        grid: Grid,
        step: int,
        layer: str,
        memory: dict[str, Any],
    ) -> Edited:
        """The edited softmax of logits.

        Args:
            logits: of the rows of the prompts alone, without those of the negative ones.
            prompts: one an image, all with the same number of targets; their columns may differ.
            grid: the map that the pixels form.
            step: denoising steps before this one.
            layer: the layer's name.
            memory: belongs to this layer and this group of images alone: empty at the first step of a run, kept by the
                caller until its end, filled here.

        Returns:
            The probabilities, and what the edit did to them.

        Raises:
            AttnregError: the shapes of logits, prompts and grid do not fit together.
        """


@dataclass(frozen=True)
class PromptWords:
    """One image's prompt: its targets, what they are called and where they lie."""

    columns: PromptColumns
    targets: tuple[Target, ...]
    """In the order of `columns.targets`."""
    prompt: str = ""
    """As the text encoder's tokenizer got it."""


@dataclass(frozen=True)
class Maps:
    """What one image's positions attend to in one call of the denoiser, with the autograd graph behind it."""

    cross: Float[Tensor, "pixel token"]
    """What each position gives to the text's columns, in float32, mean over the heads and over the layers of one map
    size. Where text and picture share one softmax: divided by what it gives to all of the text, so that it sums to 1
    there as well. (Of the maps that a start leads to it is the share itself.)"""
    own: Float[Tensor, "pixel pixel"] | None
    """Self-attention, the mean over the self-attention layers of the same map size; `None` unless asked for. Where text
    and picture share one softmax: the picture's part of it, divided by its sum."""
    grid: Grid


class LatentUpdated(NamedTuple):
    """A latent after an update, and what the update did."""

    latent: Float[Tensor, "*latent"]
    """The very latent that was given, if nothing was to be changed."""
    loss_before: float | None = None
    loss_after: float | None = None
    """`None` if the update ends with a change that was not looked at any more."""
    passes: int = 0
    """How many times the denoiser was run."""
    push: Float[Tensor, "*latent"] | None = None
    """What is added, in this step and under guidance, to the predicted velocity `e - x`: noise less picture. Whatever
    the model predicts is changed by as much as that means; the latent stays."""
    text: Embedding | None = None
    """What the prompt is read as in this step; of an `AskingEdit` for text alone."""


@runtime_checkable
class LatentEdit(Protocol):
    """A way to move the latent, by gradients through the denoiser, before a denoising step is taken from it."""

    @property
    def strength(self) -> float:
        """Factor of the edit; at 0 the latent stays as it is."""

    @property
    def window(self) -> tuple[float, float]:
        """The fractions of the denoising steps between which the edit works, half-open."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, or patterns of them, whose attention is looked at."""

    @property
    def needs_self(self) -> bool:
        """Whether `see` must tell the self-attention also."""

    def update(
        self,
        latent: Float[Tensor, "*latent"],
        see: Callable[[Tensor], Maps],
        words: PromptWords,
        step: int,
        total: int,
        memory: dict[str, Any],
    ) -> LatentUpdated:
        """The latent of one image, moved.

        Args:
            latent: the pipeline's own, before the scheduler scales it for the denoiser.
            see: runs the denoiser on a latent; a `sight.Sight`, which can be asked for more.
            words: the prompt, its targets and where they lie.
            step: calls of the denoiser before this one.
            total: how many there will be.
            memory: belongs to this image: empty at the first step of a run, kept by the caller until its end.

        Returns:
            The moved latent, and what the move did.
        """


@runtime_checkable
class AskingEdit(LatentEdit, Protocol):
    """A `LatentEdit` that asks a step for more than maps; see `sight.Sight`."""

    @property
    def asks(self) -> frozenset[str]:
        """For what: "level", how noisy its latent is; "picture", the one it leads to; "text", to read another one."""


@contextmanager
def full_precision(logits: Logits) -> Iterator[Logits]:
    """`logits` in float32 (or float64 if they are), with autocast off, so that no product falls back to half."""
    with torch.autocast(logits.device.type, enabled=False):
        yield logits if logits.dtype == torch.float64 else logits.float()


def check_fit(logits: Logits, prompts: Sequence[PromptColumns], grid: Grid) -> None:
    """Raises `AttnregError` unless there is a prompt per image and a pixel per position of the grid."""
    images, _, pixels, _ = logits.shape
    if len(prompts) != images:
        raise AttnregError(f"expected one prompt per image ({images}), got {len(prompts)}; pass the conditional rows")
    if grid.pixels != pixels:
        raise AttnregError(
            f"expected a map of {pixels} pixels, got {grid.height} x {grid.width} = {grid.pixels}; "
            "pass the height and width of this layer's map"
        )
