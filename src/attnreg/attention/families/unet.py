"""UNets with cross-attention: Stable Diffusion 1.x and 2.x, SDXL, and every pipeline around them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from attnreg.attention.families.family import WHOLE, Family, Places
from attnreg.attention.families.refused import VECTOR
from attnreg.attention.layers.catch import map_of
from attnreg.types import AttnregError, Grid

REFERENCE_SIDE = 16
"""Side of the maps that the published method regulates: 16 x 16 at 512 x 512 pixels."""
EVERY_KIND = WHOLE | {"values"}


@dataclass(frozen=True)
class UNet(Family):
    """A denoiser that halves the latent some times; text is all that its cross-attention looks at."""

    denoiser: str = "unet"
    sample: str = "sample"
    kinds: frozenset[str] = EVERY_KIND
    pooled_result: int | None = 2
    tested: str = "as the bundled model, measured; on tiny pipelines with random weights"
    checkpoints: bool = True
    side: int = 4 * REFERENCE_SIDE
    """Of the latent at the model's own size, where its configuration does not tell."""
    native: str = "pipe.{}.set_attn_processor(diffusers.models.attention_processor.AttnProcessor2_0())"

    def check(self, pipe: Any) -> None:
        """Raises `AttnregError` for a decoder whose attention is over what a prior made of the prompt."""
        config: Any = getattr(pipe, self.denoiser).config
        if getattr(config, "encoder_hid_dim_type", None) == "image_proj":
            raise AttnregError(
                f"expected a denoiser that looks at words, got {type(pipe).__name__}: {VECTOR}; choose another model"
            )

    def is_text_attention(self, name: str, module: nn.Module) -> bool:
        """Whether the module is an attention of a transformer block that attends to the text.

        The second one, and the first as well in a UNet of `only_cross_attention`.
        """
        return name.endswith((".attn1", ".attn2")) and bool(getattr(module, "is_cross_attention", False))

    def default_layers(self, denoiser: nn.Module, names: Sequence[str]) -> list[str]:
        """Those whose maps are nearest to the published 16 x 16."""
        return layers_nearest_reference(denoiser, names, self.side)

    def image_attention(self, name: str) -> str:
        """The first attention of the transformer block whose second one is named."""
        return re.sub(r"\.attn2$", ".attn1", name)

    def keys(self, arguments: Mapping[str, Any]) -> int | None:
        """The text's tokens: IP-Adapters attend to their pictures in further calls."""
        return int(arguments[self.text].shape[-2])

    def places(self, layer: str, arguments: Mapping[str, Any], denoiser: nn.Module, queries: int, keys: int) -> Places:
        """All queries are positions of the picture, all keys are text."""
        latent = Grid(*arguments[self.sample].shape[-2:])
        grid = map_of(queries, latent)
        if grid is None:
            raise AttnregError(
                f"expected the map of {layer} to be the {latent.height} x {latent.width} latent halved some "
                f"times, got {queries} positions; leave the layer out with layers=..."
            )
        return Places(slice(None), 0, grid)


def unet_level(name: str, levels: int) -> int:
    """How many times the UNet has halved the latent where the named module works."""
    if block := re.match(r"(down|up)_blocks\.(\d+)\.", name):
        index = int(block[2])
        return index if block[1] == "down" else levels - 1 - index
    return levels - 1


def layers_nearest_reference(unet: nn.Module, names: Sequence[str], side: int = 4 * REFERENCE_SIDE) -> list[str]:
    """The layers of the down and up blocks whose maps are nearest to the published 16 x 16, at the model's own size.

    In Stable Diffusion 1 and 2 these are the published `down_blocks.2` and `up_blocks.1`; in SDXL the 32 x 32 layers.
    The rule needs no name, so it carries over to UNets of any depth. `side`: the latent's, where the model tells none.
    """
    config: Any = unet.config
    levels = len(config.block_out_channels)
    size = getattr(config, "sample_size", None) or side
    height, width = (size, size) if isinstance(size, int) else size
    by_level: dict[int, list[str]] = {}
    for name in names:
        if not name.startswith("mid_block"):
            by_level.setdefault(unet_level(name, levels), []).append(name)
    if not by_level:
        return list(names)
    return by_level[
        min(by_level, key=lambda level: abs(math.log2(height * width) / 2 - level - math.log2(REFERENCE_SIDE)))
    ]
