"""The nouns of the library: what the rooms hand to one another.

Axis names are the same everywhere: `image head pixel token target height width step`; height comes before width, and
pixels are counted row by row, so pixel `y * width + x` lies at row `y` and column `x`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

Logits = Float[Tensor, "image head pixel token"]
"""Scaled attention logits `q k^T / sqrt(d)`, one row of tokens per pixel."""

Probabilities = Float[Tensor, "image head pixel token"]
"""Attention probabilities: a softmax over tokens, unless the method says otherwise."""


class AttnregError(ValueError):
    """Something the caller can put right. The message is one line: what was expected, what came, what to do."""


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


@dataclass
class Trace:
    """What happened while a pipeline was regulated; filled while it samples."""

    targets: list[tuple[Target, ...]] = field(default_factory=list)
    """One tuple of targets per prompt of the last call of the pipeline."""
    layers: tuple[str, ...] = ()
    """Names of the regulated attention modules."""
    steps: int = 0
    """Denoising steps of the last call."""
    regulated_steps: int = 0
    """How many of them were regulated."""
    records: list[LayerRecord] = field(default_factory=list)

    def neglect(self) -> list[dict[str, float]]:
        """Each target's mean attention without the edit, one dictionary per image: low values are neglected words."""
        images = sorted({record.image for record in self.records})
        return [_mean_mass([r for r in self.records if r.image == image], self._targets_of(image)) for image in images]

    def _targets_of(self, image: int) -> tuple[Target, ...]:
        per_prompt = max(1, (1 + max(record.image for record in self.records)) // max(1, len(self.targets)))
        return self.targets[min(image // per_prompt, len(self.targets) - 1)]


def _mean_mass(records: Sequence[LayerRecord], targets: tuple[Target, ...]) -> dict[str, float]:
    return {
        target.text: sum(record.mass_before[i] for record in records) / len(records)
        for i, target in enumerate(targets)
    }
