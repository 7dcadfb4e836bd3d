"""The nouns of the library: what the rooms hand to one another.

Axis names are the same everywhere: `image head pixel token target height width step`; height comes before width, and
pixels are counted row by row, so pixel `y * width + x` lies at row `y` and column `x`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from attnreg.errors import AttnregError as AttnregError

Logits = Float[Tensor, "image head pixel token"]
"""Scaled attention logits `q k^T / sqrt(d)`, one row of tokens per pixel."""

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
    """Of every start that was followed, the given one first; the higher, the more likely it shows every target."""
    chosen: int
    """Which of them it was drawn from: 0 is the given one."""
    spared: bool = False
    """Whether the given one needed no help, so that the image was left to the model, by all other edits as well."""
    doubted: str = ""
    """The target that was read least clearly in what the given one leads to, if others were tried and it is known."""


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


class Trace:
    """What happened while a pipeline was regulated: the last call of the pipeline, filled while it samples."""

    def __init__(self, layers: tuple[str, ...] = (), keeps_maps: bool = False) -> None:
        self.layers = layers
        """Names of the regulated attention modules."""
        self.keeps_maps = keeps_maps
        """Whether `maps` will tell anything: where attention lies is a tensor a layer and step, wanted by few."""
        self.begin([], images_per_prompt=1)

    def begin(self, targets: list[tuple[Target, ...]], images_per_prompt: int) -> None:
        """Start the account of a new call of the pipeline."""
        self.targets = targets
        """One tuple of targets a prompt."""
        self.images_per_prompt = images_per_prompt
        self.steps = 0
        """Denoising steps so far."""
        self.regulated_steps = 0
        """How many of them were regulated."""
        self.updates: list[LatentRecord] = []
        """What methods that move the latent did, in the order in which it happened."""
        self.starts: list[StartRecord] = []
        """What methods that choose among noises chose, one record an image."""
        self.decisions: list[Decision] = []
        """Which method acted and why, one an image; none where the method was named by the caller."""
        self._noted: list[tuple[int, str, Sequence[int], Grid, Measured | Measurable]] = []
        self._maps: dict[int, dict[str, tuple[Grid, Float[Tensor, "edit target pixel"], int]]] = {}

    def note(self, step: int, layer: str, images: Sequence[int], grid: Grid, measured: Measured | Measurable) -> None:
        """Keep what one layer's edit measured; tensors stay where they are until someone asks."""
        self._noted.append((step, layer, tuple(images), grid, measured))

    def note_maps(
        self,
        layer: str,
        images: Sequence[int],
        grid: Grid,
        before: Float[Tensor, "image target pixel"],
        after: Float[Tensor, "image target pixel"],
    ) -> None:
        """Add where one layer looked in one step, without and with the edit: only the sum over steps is kept."""
        for i, image in enumerate(images):
            layers = self._maps.setdefault(image, {})
            pair = torch.stack((before[i], after[i]))
            _, total, steps = layers.get(layer, (grid, torch.zeros_like(pair), 0))
            layers[layer] = grid, total + pair, steps + 1

    @property
    def records(self) -> list[LayerRecord]:
        """One record per regulated step, layer and image, in the order in which they happened."""
        return [
            LayerRecord(
                step,
                layer,
                image,
                grid,
                tuple(measured.mass_before[i].tolist()),
                tuple(measured.mass_after[i].tolist()),
                None if measured.loss_before is None else measured.loss_before[i].item(),
                None if measured.loss_after is None else measured.loss_after[i].item(),
            )
            for step, layer, images, grid, noted in self._noted
            for measured in [noted if isinstance(noted, Measured) else noted.measured()]
            for i, image in enumerate(images)
        ]

    def attention(self) -> list[dict[str, tuple[float, float]]]:
        """Each target's mean attention without and with the edit, one dictionary an image: low ones are neglected."""
        by_image: dict[int, list[LayerRecord]] = {}
        for record in self.records:
            by_image.setdefault(record.image, []).append(record)
        return [
            {
                target.text: (
                    sum(record.mass_before[i] for record in by_image[image]) / len(by_image[image]),
                    sum(record.mass_after[i] for record in by_image[image]) / len(by_image[image]),
                )
                for i, target in enumerate(self.targets[image // self.images_per_prompt])
            }
            for image in sorted(by_image)
        ]

    def maps(self) -> list[dict[str, tuple[Float[Tensor, "height width"], Float[Tensor, "height width"]]]]:
        """Each target's attention by position without and with the edit, one dictionary an image; of none if not kept.

        The mean over heads, regulated steps and the regulated layers of the grid that most of them have (of two as
        common, the finer). Layers of another grid are left out, not interpolated: so every value is a mean of
        probabilities that were there at that position, and nothing is smoother than the model made it. In float32, on
        the CPU. Edits that leave the logits alone (of the latent, of the embeddings, of predictions) have no maps.
        """
        found = []
        for image, layers in sorted(self._maps.items()):
            counts = Counter(grid for grid, _, _ in layers.values())
            grid = max(counts, key=lambda one: (counts[one], one.pixels))
            means = torch.stack([total / steps for one, total, steps in layers.values() if one == grid]).mean(0).cpu()
            by_target = rearrange(means, "edit target (height width) -> target edit height width", height=grid.height)
            targets = self.targets[image // self.images_per_prompt]
            found.append(
                {target.text: (before, after) for target, (before, after) in zip(targets, by_target, strict=True)}
            )
        return found


@dataclass(frozen=True)
class Sample:
    """A picture and how it came about."""

    prompt: str
    seed: int
    picture: Any
    """A PIL image. (Named loosely: the rooms below `generate` do without PIL.)"""
    trace: Trace
    seconds: float
    """Wall-clock time of the pipeline's call."""
