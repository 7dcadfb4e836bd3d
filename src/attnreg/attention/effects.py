"""What an edit of logits did in one layer, head by head, until it is told to the trace."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from attnreg.attention.maps import column_maps
from attnreg.regulation.bias_effect import BiasEffect, Masses
from attnreg.trace import Trace
from attnreg.types import Grid


class Effects:
    """What an edit did to a group of images in one layer: in all heads at once, or one head after the other."""

    def __init__(self, images: Sequence[int], grid: Grid, keeps_maps: bool) -> None:
        self.images, self.grid, self.keeps_maps = images, grid, keeps_maps
        self.masses: list[Masses] = []
        self.maps: list[Float[Tensor, "edit image target pixel"]] = []

    def note(self, change: BiasEffect) -> None:
        """Keep what was done in some heads; maps are reduced to the targets at once."""
        self.masses.append(change.measure())
        if self.keeps_maps:
            before, after = column_maps(change.attention), column_maps(change.attention, change.gains)
            self.maps.append(torch.stack([before, after]))

    def tell(self, trace: Trace, step: int, layer: str) -> None:
        """Tell the trace what was done in all heads."""
        trace.note(step, layer, self.images, self.grid, Masses.of_all_heads(self.masses))
        if self.maps:
            before, after = self.maps[0] if len(self.maps) == 1 else torch.stack(self.maps).mean(0)
            trace.note_maps(step, layer, self.images, self.grid, before, after)
