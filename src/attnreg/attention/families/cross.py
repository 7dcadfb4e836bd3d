"""The models in which only the picture looks at text, as transformers: Hunyuan-DiT, Lumina-Next, Kandinsky 5, videos.

Models of videos draw a picture as a video of one frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from attnreg.attention.families.cross_transformer import CrossTransformer
from attnreg.attention.families.family import Family, TextColumns
from attnreg.types import AttnregError, Grid

BERT_TOKENS = 77
"""Hunyuan-DiT's pipelines ask BERT for so many columns, and T5 for those behind them."""


@dataclass(frozen=True)
class HunyuanDiT(CrossTransformer):
    """Two encoders, each with columns of its own, asked one after the other; padding became a learned vector."""

    layers: str = r"blocks\.\d+\.attn2"
    negative: int | None = 1
    further: tuple[str, ...] = ("encoder_hidden_states_t5",)

    def is_first_part(self, given: Mapping[str, Any]) -> bool:
        """BERT is asked first, T5 by the next call."""
        return not given.get("text_encoder_index")


@dataclass(frozen=True)
class OneFrame(CrossTransformer):
    """The latent is a video `(batch, channel, frame, height, width)` of one frame."""

    def grid(self, arguments: Mapping[str, Any], denoiser: nn.Module) -> Grid:
        """The frame in patches; `AttnregError` if there are several."""
        config: Any = denoiser.config
        frames, *sides = arguments[self.sample].shape[-3:]
        *_, high, wide = config.patch_size if isinstance(config.patch_size, list | tuple) else [config.patch_size] * 2
        return _of_one_frame(frames, Grid(sides[0] // high, sides[1] // wide))


@dataclass(frozen=True)
class Wan(OneFrame):
    """Negative prompts have calls of their own; Wan 2.2's large models have a second transformer for the last steps."""

    layers: str = r"blocks\.\d+\.attn2"
    negative: int | None = 1
    apart: bool = True

    def check(self, pipe: Any) -> None:
        """Raises `AttnregError` for two transformers: the steps of the second would be left out."""
        if getattr(pipe, "transformer_2", None) is not None:
            raise AttnregError(
                f"expected one transformer for all steps, got {type(pipe).__name__} with a transformer_2 for the last "
                "ones, whose steps cannot be regulated yet; choose a model with one, such as Wan 2.1"
            )


@dataclass(frozen=True)
class LTX(CrossTransformer):
    """The latent is a sequence of patches, whose sides the denoiser is told."""

    def grid(self, arguments: Mapping[str, Any], denoiser: nn.Module) -> Grid:
        """As the denoiser is told; `AttnregError` if there are several frames."""
        return _of_one_frame(arguments["num_frames"], Grid(arguments["height"], arguments["width"]))


@dataclass(frozen=True)
class Kandinsky5(CrossTransformer):
    """The latent is `(batch, frame, height, width, channel)`; a template before the prompt is dropped."""

    layers: str = r"visual_transformer_blocks\.\d+\.cross_attention"
    negative: int | None = None

    def grid(self, arguments: Mapping[str, Any], denoiser: nn.Module) -> Grid:
        """The frame in patches; `AttnregError` if there are several."""
        config: Any = denoiser.config
        frames, *sides = arguments[self.sample].shape[1:4]
        return _of_one_frame(frames, Grid(*(a // b for a, b in zip(sides, config.patch_size[1:], strict=True))))


def _of_one_frame(frames: int, grid: Grid) -> Grid:
    """The grid of the only frame. Raises `AttnregError` if there are several."""
    if frames != 1:
        raise AttnregError(
            f"expected a video of one frame, got {frames} frames of the latent; videos cannot be regulated yet: pass "
            "num_frames=1 for a picture"
        )
    return grid


CROSS_TRANSFORMERS: tuple[Family, ...] = (
    HunyuanDiT(
        "Hunyuan-DiT",
        "HunyuanDiT2DModel",
        encoders=(TextColumns(), TextColumns("text_encoder_2", "tokenizer_2", after=BERT_TOKENS)),
    ),
    CrossTransformer("Lumina-Next", "LuminaNextDiT2DModel", layers=r"layers\.\d+\.attn2", encoders=(TextColumns(),)),
    Kandinsky5(
        "Kandinsky 5",
        "Kandinsky5Transformer3DModel",
        encoders=(TextColumns(dropped="prompt_template_encode_start_idx"),),
    ),
    Wan("Wan", "WanTransformer3DModel", encoders=(TextColumns(),)),
    LTX("LTX-Video", "LTXVideoTransformer3DModel", encoders=(TextColumns(),)),
    OneFrame("Latte", "LatteTransformer3DModel", negative=1, encoders=(TextColumns(),)),
)
"""One entry a model."""
