"""The nouns of the library: what the rooms hand to one another.

Axis names are the same everywhere: `image head pixel token target height width step`; height comes before width, and
pixels are counted row by row, so pixel `y * width + x` lies at row `y` and column `x`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from attnreg.errors import AttnregError as AttnregError

Logits = Float[Tensor, "image head pixel token"]
"""Scaled attention logits `q k^T / sqrt(d)`, one row of tokens per pixel."""

Embedding = Float[Tensor, "token *channel"]
"""What a text encoder made of a text: a vector a token, in some families one of each of several layers."""

Probabilities = Float[Tensor, "image head pixel token"]
"""Attention probabilities: a softmax over tokens, unless the method says otherwise."""

Queries = slice | Int[Tensor, " pixel"]
"""Positions among the queries of an attention call: one behind another, or each by its number."""


class Grid(NamedTuple):
    """The height and width of an attention map, in positions of the map."""

    height: int
    width: int

    @property
    def pixels(self) -> int:
        """How many positions the map has."""
        return self.height * self.width


@dataclass(frozen=True)
class Target:
    """One thing the picture must show: a word or phrase of the prompt and the token columns it fills.

    Several tokens (the pieces of a word, the adjectives of a noun) form one target: its attention is their sum.
    """

    text: str
    """As the prompt writes it: "blue umbrella"."""
    tokens: tuple[int, ...]
    """Columns of the text encoder's output, in ascending order."""
    pieces: tuple[str, ...] = ()
    """What the tokenizer made of it, one string a token."""

    def __str__(self) -> str:
        return f"{self.text} (tokens {', '.join(map(str, self.tokens))})"


class Measured(NamedTuple):
    """What an edit measured of its own effect; see `LayerRecord` for the meaning of each."""

    mass_before: Float[Tensor, "image target"]
    mass_after: Float[Tensor, "image target"]
    loss_before: Float[Tensor, " image"] | None = None
    loss_after: Float[Tensor, " image"] | None = None


@runtime_checkable
class Measurable(Protocol):
    """What an edit measured, not yet put together: nothing is computed, or waited for, before someone asks."""

    def measured(self) -> Measured:
        """The numbers."""


@dataclass(frozen=True)
class LayerRecord:
    """What one regulated layer did to one image in one denoising step."""

    step: int
    layer: str
    image: int
    grid: Grid
    mass_before: tuple[float, ...]
    """Mean attention probability of each target over heads and pixels, without the edit."""
    mass_after: tuple[float, ...]
    """The same with the edit."""
    loss_before: float | None = None
    """The method's objective where its search began (mean over heads); `None` if it has none."""
    loss_after: float | None = None


@dataclass(frozen=True)
class LatentRecord:
    """What one update of the latent did to one image before one denoising step."""

    step: int
    image: int
    loss_before: float | None
    loss_after: float | None
    """`None` if the update ends with a change that was not looked at any more."""
    passes: int
    """How many times the denoiser was run for it."""


@dataclass(frozen=True)
class StartRecord:
    """From which noise one image was drawn, where several were to choose from."""

    image: int
    scores: tuple[float, ...]
    """Of every start that was tried, the given one first; the higher, the more likely it shows every target. 0 of one
    that was given up before its picture was read: see `told`."""
    chosen: int
    """Which of them it was drawn from: 0 is the given one."""
    spared: bool = False
    """Whether the given one needed no help, so that the image was left to the model, by all other edits as well."""
    doubted: str = ""
    """The target that was read least clearly in what the given one leads to, if others were tried and it is known."""
    given_up: tuple[int, ...] = ()
    """Which of them were given up before their pictures were read."""
    given_up_after: int = 0
    """After how many passes of the denoiser."""

    def told(self, number: int) -> str:
        """What came of one of them, for readers.

        Args:
            number: of the initial noise, 0 for the given one.

        Returns:
            Its score, or where there is none, that it was given up.
        """
        return given_up_text(self.given_up_after) if number in self.given_up else f"{self.scores[number]:.2f}"


def given_up_text(passes: int) -> str:
    """What is said of an initial noise that was given up, and so has no score.

    Args:
        passes: of the denoiser, until then; 0 if that is not known.
    """
    return f"given up after {passes} pass{'' if passes == 1 else 'es'}" if passes else "given up early"


@dataclass(frozen=True)
class Decision:
    """Which method acted on one image, where that was left to the run (`regulation.auto`)."""

    image: int
    method: str
    """A name of `METHODS`."""
    reason: str
    """Half a sentence: "the run begins from a picture"."""

    def __str__(self) -> str:
        return f"{self.method}, since {self.reason}"


@dataclass(frozen=True)
class ProbeRecord:
    """What was found of a model that is in no entry, and what it cost."""

    denoiser: str
    """Its class."""
    text: str
    """The argument that holds what the prompts became."""
    layers: tuple[str, ...]
    """Those in which the picture looks at text."""
    calls: int
    """Of the denoiser, more than without; 0 where what was found before was used again."""
    readings: int
    """How many times more the prompts were encoded."""

    def __str__(self) -> str:
        return (
            f"{self.denoiser} was probed: text in {self.text}, looked at in {len(self.layers)} layers; it cost "
            f"{self.calls} calls of the denoiser and {self.readings} of the text encoders"
        )
