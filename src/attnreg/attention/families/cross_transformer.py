"""Transformers over patches of the picture whose second attention looks at text alone: PixArt, Sana."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from attnreg.attention.families.family import Family, Places, not_of_the_kind
from attnreg.types import Grid


@dataclass(frozen=True)
class CrossTransformer(Family):
    """Blocks with self-attention and cross-attention, all on one map."""

    layer: str = ".attn2"
    """What the name of a layer over the text ends with."""
    negative: int | None = 2

    def is_text_attention(self, name: str, module: nn.Module) -> bool:
        """Whether the module is the cross-attention of a block."""
        return name.startswith("transformer_blocks.") and name.endswith(self.layer)

    def default_layers(self, denoiser: nn.Module, names: Sequence[str]) -> list[str]:
        """All of them: they have one map, and none is nearer to the published one than another."""
        return list(names)

    def keys(self, arguments: Mapping[str, Any]) -> int | None:
        """The text's tokens."""
        return int(arguments[self.text].shape[-2])

    def places(self, layer: str, arguments: Mapping[str, Any], denoiser: nn.Module, queries: int, keys: int) -> Places:
        """All queries are patches of the picture, all keys are text."""
        config: Any = denoiser.config
        height, width = (side // config.patch_size for side in arguments[self.sample].shape[-2:])
        if queries != height * width:
            raise not_of_the_kind(self, layer, f"from {height} x {width} patches to {keys} tokens", queries, keys)
        return Places(slice(None), 0, Grid(height, width))
