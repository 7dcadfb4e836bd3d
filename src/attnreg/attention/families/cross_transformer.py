"""Transformers over patches of the picture whose second attention looks at text alone: PixArt, Sana, Hunyuan-DiT."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from attnreg.attention.families.family import Family, Places, not_of_the_kind
from attnreg.types import Grid


@dataclass(frozen=True)
class CrossTransformer(Family):
    """Blocks with self-attention and cross-attention, all on one map."""

    layers: str = r"transformer_blocks\.\d+\.attn2"
    """What the whole name of a layer over the text matches."""
    over_itself: str = "attn1"
    """What the layer is called in which positions of the picture look at one another, beside that over the text."""
    negative: int | None = 2

    def image_attention(self, name: str) -> str:
        """The layer that is called so in the same block."""
        return f"{name.rpartition('.')[0]}.{self.over_itself}" if self.over_itself else super().image_attention(name)

    def is_text_attention(self, name: str, module: nn.Module) -> bool:
        """Whether the module is the cross-attention of a block."""
        return re.fullmatch(self.layers, name) is not None

    def default_layers(self, denoiser: nn.Module, names: Sequence[str]) -> list[str]:
        """All of them: they have one map, and none is nearer to the published one than another."""
        return list(names)

    def keys(self, arguments: Mapping[str, Any]) -> int | None:
        """The text's tokens."""
        return sum(int(arguments[name].shape[-2]) for name in (self.text, *self.further))

    def grid(self, arguments: Mapping[str, Any], denoiser: nn.Module) -> Grid:
        """The map of the picture: the latent in patches."""
        config: Any = denoiser.config
        return Grid(*(side // config.patch_size for side in arguments[self.sample].shape[-2:]))

    def places(self, layer: str, arguments: Mapping[str, Any], denoiser: nn.Module, queries: int, keys: int) -> Places:
        """All queries are patches of the picture, all keys are text."""
        grid = self.grid(arguments, denoiser)
        if queries != grid.pixels:
            raise not_of_the_kind(
                self, layer, f"from {grid.height} x {grid.width} patches to {keys} tokens", queries, keys
            )
        return Places(slice(None), 0, grid)
