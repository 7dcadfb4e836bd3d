"""Transformers in which text and picture attend to one another as one sequence: Stable Diffusion 3, FLUX, Qwen-Image.

Text queries attend as well: only the picture's rows are ever edited.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from attnreg.attention.families.family import Family, Places, not_of_the_kind
from attnreg.types import AttnregError, Grid


@dataclass(frozen=True)
class Joint(Family):
    """One map for all layers; a layer's call is over the text's tokens and the picture's, in one of both orders."""

    layers: str = r"transformer_blocks\.\d+\.attn"
    """What the whole name of a layer matches."""
    text_first: bool = True
    """Whether the text's tokens come before the picture's."""
    together: bool = True

    def is_text_attention(self, name: str, module: nn.Module) -> bool:
        """Whether the module attends over text and picture together."""
        return re.fullmatch(self.layers, name) is not None

    def default_layers(self, denoiser: nn.Module, names: Sequence[str]) -> list[str]:
        """All of them: they have one map, and none is nearer to the published one than another."""
        return list(names)

    def picture(self, arguments: Mapping[str, Any], denoiser: nn.Module) -> tuple[Grid, int]:
        """The map of the picture that is drawn, and the tokens of all pictures: references may follow it."""
        raise NotImplementedError

    def places(self, layer: str, arguments: Mapping[str, Any], denoiser: nn.Module, queries: int, keys: int) -> Places:
        """The picture's positions and the text's columns, in the family's order."""
        grid, pictures = self.picture(arguments, denoiser)
        text = self.tokens(arguments)
        if queries != text + pictures or keys != queries:
            raise not_of_the_kind(
                self, layer, f"over {text} tokens of the text and {pictures} of the picture", queries, keys
            )
        first = text if self.text_first else 0
        return Places(slice(first, first + grid.pixels), 0 if self.text_first else pictures, grid)


@dataclass(frozen=True)
class StableDiffusion3(Joint):
    """The latent is an image; text follows the picture: both CLIP encoders in the same columns, then T5."""

    text_first: bool = False
    kinds: frozenset[str] = frozenset({"logits", "start"})
    pooled_result: int | None = 2

    def picture(self, arguments: Mapping[str, Any], denoiser: nn.Module) -> tuple[Grid, int]:
        """The latent in patches."""
        config: Any = denoiser.config
        grid = Grid(*(side // config.patch_size for side in arguments[self.sample].shape[-2:]))
        return grid, grid.pixels

    def is_aside(self, arguments: Mapping[str, Any]) -> bool:
        """Skip-layer guidance asks for one more prediction, with blocks left out, to move away from."""
        return bool(arguments.get("skip_layers"))


@dataclass(frozen=True)
class Flux(Joint):
    """The latent is a sequence of patches, placed by `img_ids`; pictures to refer to come behind it."""

    layers: str = r"(single_)?transformer_blocks\.\d+\.attn"
    negative: int | None = None

    def picture(self, arguments: Mapping[str, Any], denoiser: nn.Module) -> tuple[Grid, int]:
        """The positions that share the first one's number, and are as high and wide as the highest of these tell."""
        ids: Tensor = arguments["img_ids"]
        ids = ids[0] if ids.ndim == 3 else ids
        own = ids[ids[:, 0] == ids[0, 0]]
        height, width = (int(side) + 1 for side in (own[:, 1:].amax(0) - own[:, 1:].amin(0)).tolist())
        if height * width != len(own):
            raise AttnregError(
                f"expected the positions of one picture in rows and columns, got {len(own)} in {height} x {width}; "
                "this pipeline arranges its latent in a way that is not known"
            )
        return Grid(height, width), len(ids)


@dataclass(frozen=True)
class QwenImage(Joint):
    """The latent is a sequence of patches whose height and width `img_shapes` tells; references come behind it."""

    negative: int | None = None

    def picture(self, arguments: Mapping[str, Any], denoiser: nn.Module) -> tuple[Grid, int]:
        """The first of the shapes."""
        shapes = arguments["img_shapes"]
        shapes = shapes[0] if isinstance(shapes[0], list) else shapes
        frames, height, width = shapes[0]
        if frames != 1:
            raise AttnregError(f"expected one frame, got {frames}; videos cannot be regulated yet")
        return Grid(height, width), int(arguments[self.sample].shape[1])


@dataclass(frozen=True)
class ZImage(Joint):
    """Lists of latents and of texts, each made longer to a multiple of 32 tokens; text follows the picture."""

    layers: str = r"layers\.\d+\.attention"
    text_first: bool = False
    sample: str = "x"
    text: str = "cap_feats"
    time: str = "t"

    def picture(self, arguments: Mapping[str, Any], denoiser: nn.Module) -> tuple[Grid, int]:
        """The latent in patches, and with its padding."""
        side = arguments.get("patch_size", 2)
        grid = Grid(*(edge // side for edge in arguments[self.sample][0].shape[-2:]))
        return grid, -(-grid.pixels // 32) * 32

    def tokens(self, arguments: Mapping[str, Any]) -> int:
        """Those of the longest text, with its padding: shorter rows are filled up behind theirs."""
        return max(-(-len(text) // 32) * 32 for text in arguments[self.text])
