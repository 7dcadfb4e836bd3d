"""Maps of attention, reduced as they come: of all layers of one size and step only the sum is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from attnreg.types import Grid

TargetMaps = Float[Tensor, "target pixel"]


class _Sum(NamedTuple):
    """Of the maps of some layers in one step."""

    before: TargetMaps
    after: TargetMaps
    """The very same where nothing was edited."""
    layers: int

    @property
    def edited(self) -> bool:
        return self.after is not self.before


class Steps(NamedTuple):
    """One image's maps at the steps at which they were seen: the mean over heads and layers, in float32 on the CPU."""

    steps: tuple[int, ...]
    edited: tuple[bool, ...]
    """Whether attention was edited, a step."""
    layers: tuple[str, ...]
    before: Float[np.ndarray, "step target height width"]
    after: Float[np.ndarray, "step target height width"]


class MapSums:
    """Sums of maps by image, size and step; the tensors stay where they are until someone asks.

    Args:
        whole: whether maps are kept; else only their means, one number a target.
    """

    def __init__(self, whole: bool) -> None:
        self.whole = whole
        self._layers: dict[Grid, dict[str, None]] = {}
        self._sums: dict[int, dict[Grid, dict[int, _Sum]]] = {}

    def add(
        self,
        step: int,
        layer: str,
        images: Sequence[int],
        grid: Grid,
        before: Float[Tensor, "image target pixel"],
        after: Float[Tensor, "image target pixel"] | None = None,
    ) -> None:
        """Add where one layer looked in one step, without and with the edit; `after` is `None` if it was not edited."""
        self._layers.setdefault(grid, {})[layer] = None
        if not self.whole:
            before, after = before.mean(-1, keepdim=True), after if after is None else after.mean(-1, keepdim=True)
        for i, image in enumerate(images):
            by_step = self._sums.setdefault(image, {}).setdefault(grid, {})
            by_step[step] = _added(by_step.get(step), before[i], None if after is None else after[i])

    @property
    def images(self) -> tuple[int, ...]:
        """Those of which something was seen."""
        return tuple(sorted(self._sums))

    def means(self, image: int) -> tuple[list[float], list[float]]:
        """Each target's mean attention over positions, layers and steps, without and with the edit."""
        sums = [one for by_step in self._sums[image].values() for one in by_step.values()]
        count = sum(one.layers for one in sums)
        before, after = (
            (torch.stack([maps.mean(-1) for maps in side]).sum(0) / count).tolist()
            for side in zip(*((one.before, one.after) for one in sums), strict=True)
        )
        return before, after

    def steps(self, image: int) -> Steps:
        """An image's maps of the size that most layers have; of two as common, the finer.

        Layers of another size are left out, not interpolated: so every value is a mean of probabilities that were there
        at that position, and nothing is smoother than the model made it.
        """
        by_grid = self._sums[image]
        grid = max(by_grid, key=lambda one: (len(self._layers[one]), one.pixels))
        steps, sums = zip(*sorted(by_grid[grid].items()), strict=True)

        def stacked(maps: Sequence[TargetMaps]) -> Float[np.ndarray, "step target height width"]:
            means = torch.stack([total / one.layers for total, one in zip(maps, sums, strict=True)]).cpu().numpy()
            return rearrange(means, "step target (height width) -> step target height width", height=grid.height)

        before = stacked([one.before for one in sums])
        edited = tuple(one.edited for one in sums)
        after = stacked([one.after for one in sums]) if any(edited) else before
        return Steps(steps, edited, tuple(self._layers[grid]), before, after)


def _added(found: _Sum | None, before: TargetMaps, after: TargetMaps | None) -> _Sum:
    """A sum with one layer more."""
    total = before if found is None else found.before + before
    if after is None and (found is None or not found.edited):
        return _Sum(total, total, 1 if found is None else found.layers + 1)
    changed = before if after is None else after
    return _Sum(total, changed if found is None else found.after + changed, 1 if found is None else found.layers + 1)
