"""UNets beside Stable Diffusion's in which only the picture looks at text: Kolors, DeepFloyd IF, Kandinsky 3, ..."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attnreg.attention.families.family import (
    BY_SELF_ATTENTION,
    EDITED,
    LOGITS,
    MASKED,
    WHOLE,
    Family,
    Places,
    TextColumns,
    Texts,
    not_of_the_kind,
)
from attnreg.attention.families.unet import UNet
from attnreg.attention.layers.catch import map_of
from attnreg.types import AttnregError, Grid

SEEING_ITSELF = EDITED | {BY_SELF_ATTENTION}


@dataclass(frozen=True)
class Kolors(UNet):
    """SDXL's UNet; ChatGLM reads the prompt, whose tokenizer tells no offsets and pads on the left."""

    kinds: frozenset[str] = WHOLE  # its UNet lays out the prompt's embedding anew before values are made of it

    def is_of(self, pipe: Any, denoiser: nn.Module) -> bool:
        """Told from Stable Diffusion by the tokenizer."""
        tokenizer = type(getattr(pipe, "tokenizer", None)).__name__
        return tokenizer == "ChatGLMTokenizer" and super().is_of(pipe, denoiser)


@dataclass(frozen=True)
class DeepFloydIF(UNet):
    """Layers that look at the text's tokens and, behind them, at the picture's own positions, in one call."""

    kinds: frozenset[str] = SEEING_ITSELF  # the scheduler is told a variance as well, which is no sum of predictions
    together: bool = True
    sees_itself: bool = True
    native: str = "pipe.{}.set_attn_processor(diffusers.models.attention_processor.AttnAddedKVProcessor2_0())"

    def is_of(self, pipe: Any, denoiser: nn.Module) -> bool:
        """Told from Stable Diffusion by its blocks, and from those that look at pictures instead of words."""
        config: Any = denoiser.config if super().is_of(pipe, denoiser) else None
        return config is not None and _has_added_text(config) and config.encoder_hid_dim_type in (None, "text_proj")

    def is_text_attention(self, name: str, module: nn.Module) -> bool:
        """Whether the module projects the text's tokens beside its own."""
        return getattr(module, "added_kv_proj_dim", None) is not None

    def keys(self, arguments: Mapping[str, Any]) -> int | None:
        """There is one call a layer, over as many keys as its map and the text have."""
        return None

    def places(self, layer: str, arguments: Mapping[str, Any], denoiser: nn.Module, queries: int, keys: int) -> Places:
        """All queries are positions of the picture; text comes first among the keys."""
        text = int(arguments[self.text].shape[-2])
        if keys not in (text, text + queries):
            raise not_of_the_kind(self, layer, f"to {text} tokens and {queries} positions", queries, keys)
        return super().places(layer, arguments, denoiser, queries, keys)

    def own_keys(self, places: Places, queries: int, keys: int) -> slice | None:
        """Behind the text; some models have layers over the text alone."""
        return slice(keys - queries, keys) if keys > queries else None


def _has_added_text(config: Any) -> bool:
    return any(block.startswith("SimpleCrossAttn") for block in config.down_block_types)


@dataclass(frozen=True)
class Kandinsky3(UNet):
    """In every block the first attention is over the picture, all others are over the text."""

    kinds: frozenset[str] = WHOLE
    side: int = 128
    conditions: tuple[str, ...] = MASKED

    def guided(self, prompted: Tensor, plain: Tensor, scale: float, told: Mapping[str, Any]) -> Tensor:
        """A scale of 0 is none; in the very order in which the pipeline adds them up, to the bit."""
        return (scale + 1.0) * prompted - scale * plain

    def is_text_attention(self, name: str, module: nn.Module) -> bool:
        """Whether the module is the attention of a block's further parts; the pooling of the text is none."""
        return re.fullmatch(r".+\.attentions\.[1-9]\d*\.attention", name) is not None

    def image_attention(self, name: str) -> str:
        """The first attention of the block."""
        return re.sub(r"\.\d+\.attention$", ".0.attention", name)


@dataclass(frozen=True)
class StableCascade(Family):
    """The prior: layers that look at the picture's own positions and, behind them, at text and pooled vectors."""

    denoiser: str = "prior"
    sample: str = "sample"
    text: str = "clip_text"
    time: str = "timestep_ratio"
    negative: int | None = 2
    kinds: frozenset[str] = SEEING_ITSELF
    together: bool = True
    sees_itself: bool = True
    tells_noise: bool = False

    def is_text_attention(self, name: str, module: nn.Module) -> bool:
        """Whether the module is the attention of a block."""
        return re.fullmatch(r"(down|up)_blocks\.\d+\.\d+\.attention", name) is not None

    def default_layers(self, denoiser: nn.Module, names: Sequence[str]) -> list[str]:
        """All of them: the prior works on small maps alone."""
        return list(names)

    def places(self, layer: str, arguments: Mapping[str, Any], denoiser: nn.Module, queries: int, keys: int) -> Places:
        """All queries are positions of the picture; its own keys come before the text's."""
        text: Tensor = arguments[self.text]
        grid = map_of(queries, Grid(*arguments[self.sample].shape[-2:]))
        if grid is None or keys <= queries + text.shape[-2]:
            raise not_of_the_kind(
                self, layer, f"to {queries} positions, {text.shape[-2]} tokens and more", queries, keys
            )
        return Places(slice(None), queries, grid)

    def own_keys(self, places: Places, queries: int, keys: int) -> slice | None:
        """The first ones."""
        return slice(0, queries)


@dataclass(frozen=True)
class DreamLite(UNet):
    """The latent is twice as wide as the picture: a picture to refer to, or nothing, lies at its right."""

    kinds: frozenset[str] = LOGITS
    native: str = "pipe.{}.set_attn_processor(diffusers.models.unets.unet_dreamlite.DreamLiteAttnProcessor2_0())"

    def is_text_attention(self, name: str, module: nn.Module) -> bool:
        """Whether the module is a block's cross-attention."""
        return name.endswith(".attn2")

    def given(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The last of the texts is the prompt, behind what the pipeline writes before it.

        Raises `AttnregError` for a picture that is to be changed: its own tokens stand among those of the prompt.
        """
        if given["mode"] != "generate":
            raise AttnregError(
                f"expected a picture made of text alone, got DreamLite's mode {given['mode']!r}, whose text encoder "
                "reads a picture as well; leave image out"
            )
        return {**given, "prompt": [given["prompts"][-1].removeprefix("[Generate]: ")]}

    def texts(self, result: Any) -> Texts:
        """The last text is the prompt, the others are negative prompts."""
        return Texts(result[0][-1:], result[0][:1] if len(result[0]) > 1 else None)

    def places(self, layer: str, arguments: Mapping[str, Any], denoiser: nn.Module, queries: int, keys: int) -> Places:
        """The left half of every row of the map is the picture that is drawn; all keys are text."""
        whole = super().places(layer, arguments, denoiser, queries, keys).grid
        grid = Grid(whole.height, (whole.width + 1) // 2)
        numbers = torch.arange(queries, device=arguments[self.sample].device).view(whole.height, whole.width)
        return Places(numbers[:, : grid.width].flatten(), 0, grid)


CROSS_UNETS: tuple[Family, ...] = (
    Kolors("Kolors", "UNet2DConditionModel", pipelines="Kolors.*", encoders=(TextColumns(),)),
    DeepFloydIF("DeepFloyd IF", "UNet2DConditionModel", pipelines="IF.*", encoders=(TextColumns(),)),
    Kandinsky3("Kandinsky 3", "Kandinsky3UNet", encoders=(TextColumns(),)),
    StableCascade("Stable Cascade", "StableCascadeUNet", encoders=(TextColumns(),)),
    DreamLite(
        "DreamLite",
        "DreamLiteUNetModel",
        encoders=(TextColumns(dropped="prompt_template_encode_generate_start_idx", negatives_first=True),),
    ),
)
"""One entry a model."""
