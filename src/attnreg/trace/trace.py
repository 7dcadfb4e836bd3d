"""The account of one call of a pipeline, filled while it samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attnreg.trace.seen import ArrayMap, Seen
from attnreg.trace.sums import MapSums
from attnreg.types import (
    AttnregError,
    Decision,
    Grid,
    LatentRecord,
    LayerRecord,
    Measurable,
    Measured,
    ProbeRecord,
    StartRecord,
    Target,
)


class Trace:
    """What happened while a pipeline was regulated, or watched: the last call of the pipeline."""

    def __init__(self, layers: tuple[str, ...] = (), keeps_maps: bool = False) -> None:
        self.layers = layers
        """Names of the attention modules that are regulated; where none is, of those that are watched."""
        self.keeps_maps = keeps_maps
        """Whether it can tell where attention lay: a map a target and step, wanted by few."""
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
        self.probes: list[ProbeRecord] = []
        """What was found where the family is "probe", one record at most."""
        self._noted: list[tuple[int, str, Sequence[int], Grid, Measured | Measurable]] = []
        self._sums = MapSums(self.keeps_maps)

    def note(self, step: int, layer: str, images: Sequence[int], grid: Grid, measured: Measured | Measurable) -> None:
        """Keep what one layer's edit measured; tensors stay where they are until someone asks."""
        self._noted.append((step, layer, tuple(images), grid, measured))

    def note_maps(
        self,
        step: int,
        layer: str,
        images: Sequence[int],
        grid: Grid,
        before: Float[Tensor, "image target pixel"],
        after: Float[Tensor, "image target pixel"] | None = None,
    ) -> None:
        """Add where one layer looked in one step, without and with an edit; only sums over layers are kept.

        Args:
            step: calls of the denoiser before this one.
            layer: its name.
            images: which ones of the call, one an entry of the maps.
            grid: height and width of the maps.
            before: probabilities, mean over heads.
            after: the same with the edit; `None` where attention was not edited.
        """
        self._sums.add(step, layer, images, grid, before, after)

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
        """Each target's mean attention without and with the edit, one dictionary an image: low ones are neglected.

        Over the steps and layers in which attention was edited. Of an image of which none was, over all that were
        watched: then the two numbers are one.
        """
        by_image: dict[int, list[LayerRecord]] = {}
        for record in self.records:
            by_image.setdefault(record.image, []).append(record)
        found = []
        for image in sorted({*by_image, *self._sums.images}):
            if records := by_image.get(image):
                sides = [[one.mass_before for one in records], [one.mass_after for one in records]]
                before, after = ([sum(column) / len(records) for column in zip(*side, strict=True)] for side in sides)
            else:
                before, after = self._sums.means(image)
            found.append(dict(zip(self._names(image), zip(before, after, strict=True), strict=True)))
        return found

    def seen(self, image: int = 0) -> Seen:
        """Where one image attended to each target, step by step.

        Args:
            image: which one of the call.

        Raises:
            AttnregError: nothing was kept of that image.
        """
        if not self.keeps_maps:
            raise AttnregError(
                "expected a trace that keeps maps, got one without; draw with regulate(pipe, maps=True) or watch(pipe)"
            )
        if image not in self._sums.images:
            known = ", ".join(map(str, self._sums.images)) or "none; draw a picture of a prompt that names a thing"
            raise AttnregError(f"expected an image that was watched ({known}), got {image}")
        found = self._sums.steps(image)
        return Seen(self._names(image), found.steps, self.steps, found.edited, found.layers, found.before, found.after)

    def maps(self) -> list[dict[str, tuple[Float[Tensor, "height width"], Float[Tensor, "height width"]]]]:
        """Each target's attention by position without and with the edit, one dictionary an image; of none if not kept.

        The mean over heads, the steps in which attention was edited (of an image of which none was, all) and the layers
        of the size that most of them have (of two as common, the finer). In float32, on the CPU.
        """
        images = self._sums.images if self.keeps_maps else ()
        return [
            {
                word: (torch.from_numpy(one.map(word, edited=False)), torch.from_numpy(one.map(word)))
                for word in one.words
            }
            for one in map(self.seen, images)
        ]

    def heatmap(self, word: str, image: int = 0, steps: Sequence[int] | None = None) -> ArrayMap:
        """Where one image attended to a target: see `Seen.map`, whose arguments and errors it has."""
        return self.seen(image).map(word, steps)

    def neglected(self, image: int = 0) -> dict[str, float]:
        """How likely each target is to be missing from an image, 0 to 1: see `trace.neglect`."""
        return self.seen(image).neglected()

    def plot(self, picture: Any = None, image: int = 0, *, tall: bool = False, beside: Trace | None = None) -> Any:
        """A figure of where one image attended to each target over the steps.

        Args:
            picture: the PIL image that was drawn: maps are laid over it. `None`: they are shown alone.
            image: which one of the call.
            tall: whether it is for a narrow column, and without the picture, which stands beside it.
            beside: of a tall figure, the trace of another picture of the same prompt, whose own figure stands beside
                this one: the colours and the curves of both then have one scale.

        Returns:
            A PIL image on a transparent ground.

        Raises:
            AttnregError: nothing was kept of that image.
        """
        from attnreg.plot.explained import figure  # PIL, for those who draw
        from attnreg.plot.tall import tall_figure

        panels = self.seen(image).panels(picture)
        if not tall:
            return figure(panels)
        return tall_figure(panels, beside.seen(image).panels() if beside else ())

    def _names(self, image: int) -> tuple[str, ...]:
        return tuple(target.text for target in self.targets[image // self.images_per_prompt])


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
