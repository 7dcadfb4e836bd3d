"""The kinds of edits beside those of logits and latents, and several edits as one.

What an edit may change is told by the methods it has: `bias` the logits of the targets (`columns.LogitEdit`), `update`
the latent (`edit.LatentEdit`), `over_text` and `over_image` all attention, `embed` what the prompt becomes, `combine`
what the denoiser predicts, `choose` the noise that all begins with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from attnreg.regulation.edit import Edited, Maps, PromptWords
from attnreg.types import AttnregError, Embedding, Grid, Logits


class EncodedText(NamedTuple):
    """A text as the pipeline's own text encoder reads it."""

    embedding: Embedding
    own: tuple[int, ...]
    """The columns of the text's own tokens, without start, end and padding."""
    pooled: Float[Tensor, " pooled"] | None = None
    """The whole text in one vector, for denoisers that are given one (SDXL)."""
    conditions: tuple[Any, ...] = ()
    """All that the denoiser is given of the text, where it is more: masks, places, a batch of one each."""


@runtime_checkable
class Encode(Protocol):
    """Reads texts as the pipeline reads its prompt."""

    def __call__(self, text: str, masked: Sequence[int] = ()) -> EncodedText:
        """Encode one text.

        Args:
            text: any text.
            masked: columns of the prompt, if it is the text, that none of its tokens may see.

        Returns:
            Its embedding, and which columns are its own.
        """

    def emptied(self) -> Embedding:
        """The prompt's embedding if it said nothing: the empty prompt's, or that of padding in each word's place."""


class Embedded(NamedTuple):
    """What a prompt became: what attention compares the picture with, and what it then hands on."""

    keys: Embedding
    values: Embedding


@runtime_checkable
class Gated(Protocol):
    """What every edit has."""

    @property
    def strength(self) -> float:
        """Factor of the edit; at 0 the model is unmodified."""

    @property
    def window(self) -> tuple[float, float]:
        """The fractions of the denoising steps between which the edit works, half-open."""


@runtime_checkable
class EmbeddingEdit(Gated, Protocol):
    """A way to change what the prompt became, before its keys and values are made of it."""

    def embed(self, embedding: Embedding, encode: Encode, words: PromptWords) -> Embedded | None:
        """Change what one prompt became.

        Args:
            embedding: of the prompt; in some families a token has a vector of each of several layers.
            encode: reads other texts as the pipeline does.
            words: the prompt, its targets and where they lie.

        Returns:
            What keys and values are made of; `None` if there is nothing to change.
        """


@dataclass(frozen=True)
class Moment:
    """Where in a picture's making an attention call is."""

    step: int
    """Calls of the denoiser so far."""
    total: int
    noise: float
    """The scheduler's time step as a share of those it was trained with: 1 at the start, towards 0 at the end."""
    layer: str
    grid: Grid


ImageLogits = Float[Tensor, "image head pixel pixel"]


@runtime_checkable
class AttentionEdit(Gated, Protocol):
    """A way to change the attention of one layer both over the text and over the picture itself."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, or patterns of them, over the text; those over the picture are their neighbours."""

    def over_text(self, logits: Logits, words: Sequence[PromptWords], moment: Moment, memory: dict[str, Any]) -> Edited:
        """The edited softmax of logits over the text.

        Args:
            logits: of the rows of the prompts alone.
            words: of each image, its prompt, the targets and where they lie.
            moment: step, layer and map.
            memory: as in `edit.ProbabilityEdit`.

        Returns:
            The probabilities, and what the edit did to them.
        """

    def over_image(
        self, logits: ImageLogits, words: Sequence[PromptWords], moment: Moment
    ) -> Float[Tensor, "image head pixel pixel"]:
        """The edited softmax of logits over the picture's positions.

        Args:
            logits: of the rows of the prompts alone.
            words: of each image, its prompt, the targets and where they lie.
            moment: step, layer and map.

        Returns:
            The probabilities.
        """


@runtime_checkable
class PredictionEdit(Gated, Protocol):
    """A way to make a prediction of several: the denoiser runs once more for every phrase."""

    def phrases(self, words: PromptWords) -> tuple[str, ...]:
        """The texts that are to be denoised alone.

        Args:
            words: the prompt, its targets and where they lie.

        Returns:
            One text a further pass of the denoiser.

        Raises:
            AttnregError: they do not suit the settings.
        """

    def combine(
        self,
        plain: Float[Tensor, "*latent"],
        unconditional: Float[Tensor, "*latent"],
        alone: Float[Tensor, phrase * latent],
    ) -> Float[Tensor, "*latent"]:
        """Make one prediction of several.

        Args:
            plain: the denoiser's prediction under the whole prompt.
            unconditional: under no prompt.
            alone: under each phrase.

        Returns:
            What takes the place of the first, before guidance.
        """


class Chosen(NamedTuple):
    """The noise that a picture begins with, and what it was chosen from."""

    latent: Float[Tensor, "*latent"]
    """The very latent that was given, if none was better."""
    scores: tuple[float, ...]
    """Of every start that was tried, the given one first; 0 of one that was given up before its picture was read."""
    number: int
    """Which of them it is, from 0."""
    spared: bool = False
    """Whether the given start needs no help: the image is left to the model, whatever other edits there are."""
    doubted: str = ""
    """The target that is read least clearly in what the given start leads to, if it was not enough."""
    given_up: tuple[int, ...] = ()
    """Which of them were given up before their pictures were read."""
    given_up_after: int = 0
    """After how many passes of the denoiser."""


@dataclass(frozen=True)
class Guess:
    """What a start leads to, as far as it was followed."""

    maps: Sequence[Maps]
    """What each layer attends to in the last of these steps."""
    read: Callable[[], tuple[float, ...]]
    """Reads the picture that it leads to, which takes passes of the denoiser: see `errors`."""

    @cached_property
    def errors(self) -> tuple[float, ...]:
        """How far from the picture it leads to the denoiser restores that picture from noise: under the prompt first,
        then under each other text that it is read with. A sum of squares over the latent. Read when first asked for."""
        return self.read()


@runtime_checkable
class Follow(Protocol):
    """Denoises a noise some way down, and tells what comes of it."""

    def __call__(self, start: Float[Tensor, "*latent"], stops: int | None = None) -> Guess:
        """Follow one start.

        Args:
            start: the noise.
            stops: as far as so many of `StartEdit.stops`, from where it is if it was followed before. The given start
                is always followed to the last. `None`: to the last.

        Returns:
            What it leads to.
        """


@runtime_checkable
class StartEdit(Gated, Protocol):
    """A way to choose the noise that a picture begins with, before the first step is taken."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, or patterns of them, whose attention is looked at."""

    @property
    def noise(self) -> float:
        """How noisy the picture is when it is read, as a share of the time steps the model was trained with."""

    def texts(self, words: PromptWords) -> tuple[str, ...]:
        """What the picture is read with beside the prompt.

        Args:
            words: the prompt, its targets and where they lie.

        Returns:
            Other texts.

        Raises:
            AttnregError: the targets do not suit.
        """

    def stops(self, total: int) -> tuple[int, ...]:
        """At which steps a start that is followed is denoised.

        The given one is denoised in every step up to the last of these.

        Args:
            total: how many steps the picture takes.

        Returns:
            Numbers of steps, 0 first.
        """

    def choose(
        self,
        latent: Float[Tensor, "*latent"],
        follow: Follow,
        words: PromptWords,
    ) -> Chosen:
        """Choose the noise that one image begins with.

        Args:
            latent: the given one.
            follow: tells where a noise leads.
            words: the prompt, its targets and where they lie.

        Returns:
            The noise, and what it was chosen from.
        """


@dataclass(frozen=True)
class Composed:
    """Several edits at once, each of another part of the model. Raises `AttnregError` if there are none."""

    parts: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise AttnregError("expected edits to compose, got none; give at least one")
