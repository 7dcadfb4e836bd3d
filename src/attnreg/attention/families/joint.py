"""Transformers in which text and picture attend to one another as one sequence: Stable Diffusion 3, FLUX, Qwen-Image.

Text queries attend as well: only the picture's rows are ever edited.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Real
from torch import Tensor, nn

from attnreg.attention.families.family import ASKED, BY_SELF_ATTENTION, EDITED, Family, Places, not_of_the_kind
from attnreg.types import AttnregError, Grid

JOINT = EDITED | {BY_SELF_ATTENTION}
JOINT_STARTED = JOINT | ASKED


@dataclass(frozen=True)
class Joint(Family):
    """One map for all layers; a layer's call is over the text's tokens and the picture's, in one of both orders."""

    layers: str = r"transformer_blocks\.\d+\.attn"
    """What the whole name of a layer matches."""
    text_first: bool = True
    """Whether the text's tokens come before the picture's."""
    together: bool = True
    sees_itself: bool = True
    kinds: frozenset[str] = JOINT

    def is_text_attention(self, name: str, module: nn.Module) -> bool:
        """Whether the module attends over text and picture together."""
        return re.fullmatch(self.layers, name) is not None

    def default_layers(self, denoiser: nn.Module, names: Sequence[str]) -> list[str]:
        """All of them: they have one map, and none is nearer to the published one than another."""
        return list(names)

    def picture(self, arguments: Mapping[str, Any], denoiser: nn.Module) -> tuple[Grid, int]:
        """The map of the picture that is drawn, and the tokens of all pictures: references may follow it.

        By default the latent is an image, and its patches are the picture's tokens.
        """
        grid = patches(arguments[self.sample], denoiser)
        return grid, grid.pixels

    def tokens(self, arguments: Mapping[str, Any]) -> int:
        """How many columns the text fills among the keys."""
        return int(arguments[self.text].shape[1])

    def further_keys(self, arguments: Mapping[str, Any]) -> int:
        """How many keys there are that no query stands for."""
        return 0

    def places(self, layer: str, arguments: Mapping[str, Any], denoiser: nn.Module, queries: int, keys: int) -> Places:
        """The picture's positions and the text's columns, in the family's order."""
        grid, pictures = self.picture(arguments, denoiser)
        text = self.tokens(arguments)
        if queries != text + pictures or keys != queries + self.further_keys(arguments):
            raise not_of_the_kind(
                self, layer, f"over {text} tokens of the text and {pictures} of the picture", queries, keys
            )
        first = text if self.text_first else 0
        return Places(slice(first, first + grid.pixels), 0 if self.text_first else pictures, grid)

    def own_keys(self, places: Places, queries: int, keys: int) -> slice | None:
        """In the same order as the queries; where the picture alone asks, before or behind the text."""
        assert isinstance(places.queries, slice)
        if keys == queries:
            return places.queries
        start = 0 if places.text else keys - queries
        return slice(start + places.queries.start, start + places.queries.stop)


def patches(latent: Tensor, denoiser: nn.Module) -> Grid:
    """The patches of a latent image, as high and wide as the denoiser's configuration says."""
    config: Any = denoiser.config
    side = config.patch_size
    height, width = (side, side) if isinstance(side, int) else side[-2:]  # of a few, frames come before
    return Grid(latent.shape[-2] // height, latent.shape[-1] // width)


def asked_by_picture(
    family: Family, layer: str, sizes: tuple[int, int], grid: Grid, pixels: int, text: int, first: int
) -> Places:
    """The places of a call in which the picture alone asks: its own tokens and the text's, which begin at `first`."""
    if sizes != (pixels, text + pixels):
        expected = f"from {pixels} tokens of the picture to these and {text} of the text"
        raise not_of_the_kind(family, layer, expected, *sizes)
    return Places(slice(0, grid.pixels), first, grid)


@dataclass(frozen=True)
class StableDiffusion3(Joint):
    """The latent is an image; text follows the picture: both CLIP encoders in the same columns, then T5."""

    text_first: bool = False
    kinds: frozenset[str] = JOINT_STARTED
    pooled_result: int | None = 2

    def is_aside(self, arguments: Mapping[str, Any]) -> bool:
        """Skip-layer guidance asks for one more prediction, with blocks left out, to move away from."""
        return bool(arguments.get("skip_layers"))

    def guides_otherwise(self, told: Mapping[str, Any]) -> str:
        """So it does in some steps."""
        return "" if told.get("skip_guidance_layers") is None else "leaves out blocks to guide in some steps"


@dataclass(frozen=True)
class Flux(Joint):
    """The latent is a sequence of patches, placed by `img_ids`; pictures to refer to come behind it."""

    layers: str = r"(single_)?transformer_blocks\.\d+\.attn"
    negative: int | None = None
    kinds: frozenset[str] = JOINT_STARTED
    channel_axis: int = 2
    time_divisor: float = 1000.0
    conditions: tuple[str, ...] = ("encoder_hidden_states", "txt_ids")

    def beside_latents(self, arguments: Mapping[str, Any], denoiser: nn.Module) -> str:
        """Pictures to refer to follow the latents, masks and controls lie beside them in channels."""
        positions = arguments[self.sample].shape[1]
        if positions != self.picture(arguments, denoiser)[0].pixels:
            return "a picture to refer to"
        return beside_channels(self, arguments, denoiser)

    def guides_otherwise(self, told: Mapping[str, Any]) -> str:
        """An IP-Adapter may look at another picture without the prompt."""
        return "" if told.get("negative_image_embeds") is None else "looks at another picture without the prompt"

    def picture(self, arguments: Mapping[str, Any], denoiser: nn.Module) -> tuple[Grid, int]:
        """The positions that share the first one's number, and are as high and wide as the highest of these tell."""
        ids: Tensor = arguments["img_ids"]
        ids = ids[0] if ids.ndim == 3 else ids
        own = ids[ids[:, 0] == ids[0, 0]]
        return grid_of(own[:, 1:3]), len(ids)


def beside_channels(family: Family, arguments: Mapping[str, Any], denoiser: nn.Module) -> str:
    """What lies beside the latents in channels, where a denoiser is given more of them than it predicts; else ""."""
    config: Any = denoiser.config
    channels = arguments[family.sample].shape[family.channel_axis]
    return "" if channels == (getattr(config, "out_channels", None) or config.in_channels) else "a mask or a control"


def grid_of(positions: Real[Tensor, "pixel 2"]) -> Grid:
    """The map that the rows and columns of a picture's positions form; `AttnregError` if they form none."""
    height, width = (int(side) + 1 for side in (positions.amax(0) - positions.amin(0)).tolist())
    if height * width != len(positions):
        raise AttnregError(
            f"expected the positions of one picture in rows and columns, got {len(positions)} in {height} x {width}; "
            "this pipeline arranges its latent in a way that is not known"
        )
    return Grid(height, width)


@dataclass(frozen=True)
class FluxOne(Flux):
    """FLUX.1: CLIP reads the prompt as well, as a whole."""

    pooled_result: int | None = 1
    scale: str = "true_cfg_scale"
    conditions: tuple[str, ...] = ("encoder_hidden_states", "pooled_projections", "txt_ids")

    def given(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """T5, whose tokens are the columns, reads `prompt_2` if there is one."""
        second = given.get("prompt_2")
        return given if second is None else {**given, "prompt": second, "prompt_2": None}

    def told_apart(self, given: Mapping[str, Any]) -> str:
        """CLIP may read another prompt than T5."""
        first, second = given.get("prompt"), given.get("prompt_2")
        return "" if second is None or second in (first, [first]) else "a prompt_2 that differs from prompt"


def of_norm(guided: Tensor, prompted: Tensor) -> Tensor:
    """A guided prediction whose last axis is as long as that of the prediction under the prompt."""
    ratio: Tensor = torch.norm(prompted, dim=-1, keepdim=True) / torch.norm(guided, dim=-1, keepdim=True)
    return guided * ratio


@dataclass(frozen=True)
class QwenImage(Joint):
    """The latent is a sequence of patches whose height and width `img_shapes` tells; references come behind it."""

    negative: int | None = None
    kinds: frozenset[str] = JOINT_STARTED
    channel_axis: int = 2
    time_divisor: float = 1000.0
    scale: str = "true_cfg_scale"
    conditions: tuple[str, ...] = ("encoder_hidden_states", "encoder_hidden_states_mask")

    def guided(self, prompted: Tensor, plain: Tensor, scale: float, told: Mapping[str, Any]) -> Tensor:
        """Each position keeps the length that it has under the prompt."""
        return of_norm(super().guided(prompted, plain, scale, told), prompted)

    def beside_latents(self, arguments: Mapping[str, Any], denoiser: nn.Module) -> str:
        """Pictures to refer to follow the latents; what a ControlNet adds was made of them."""
        grid, positions = self.picture(arguments, denoiser)
        return "" if positions == grid.pixels else "a picture to refer to"

    def picture(self, arguments: Mapping[str, Any], denoiser: nn.Module) -> tuple[Grid, int]:
        """The first of the shapes; `AttnregError` where several pictures are drawn, one on top of the other."""
        if arguments.get("additional_t_cond") is not None:
            raise AttnregError(
                "expected one picture to be drawn, got the layers of one, which no map can show at once; "
                "choose a pipeline that draws it whole"
            )
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
    kinds: frozenset[str] = JOINT_STARTED
    time_divisor: float = 1000.0
    rises: bool = True
    negated: bool = True

    def stacked(self, latents: Any) -> Tensor:
        """Each has an axis of frames, of which there is one."""
        return latents if isinstance(latents, Tensor) else torch.stack(latents).squeeze(2)

    def listed(self, latents: Tensor) -> list[Tensor]:
        """The same, one by one."""
        return list(latents.unsqueeze(2).unbind())

    def told_time(self, time: Tensor, like: Any) -> Tensor:
        """In the very order in which the pipeline computes it, to the bit."""
        return (self.time_divisor - time) / self.time_divisor

    def own(self, predicted: Any, latents: Tensor) -> Tensor:
        """In float32, as the pipeline makes it."""
        return super().own(predicted, latents).float()

    def guided(self, prompted: Tensor, plain: Tensor, scale: float, told: Mapping[str, Any]) -> Tensor:
        """A scale of 0 is none."""
        return prompted + scale * (prompted - plain)

    def guides_otherwise(self, told: Mapping[str, Any]) -> str:
        """It may be guided in the first steps alone, or be kept from growing."""
        if (told.get("cfg_truncation") or 1.0) < 1.0:
            return "guides in the first steps alone"
        return "bounds what it guides" if told.get("cfg_normalization") else ""

    def picture(self, arguments: Mapping[str, Any], denoiser: nn.Module) -> tuple[Grid, int]:
        """The latent in patches, and with its padding."""
        side = arguments.get("patch_size", 2)
        grid = Grid(*(edge // side for edge in arguments[self.sample][0].shape[-2:]))
        return grid, -(-grid.pixels // 32) * 32

    def tokens(self, arguments: Mapping[str, Any]) -> int:
        """Those of the longest text, with its padding: shorter rows are filled up behind theirs."""
        return max(-(-len(text) // 32) * 32 for text in arguments[self.text])
