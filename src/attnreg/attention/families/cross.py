"""The models in which only the picture looks at text, as transformers: Hunyuan-DiT, Lumina-Next, Kandinsky 5, videos.

Models of videos draw a picture as a video of one frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from attnreg.attention.families.cross_transformer import CrossTransformer
from attnreg.attention.families.family import EMBEDDING, MASKED, WHOLE, Family, TextColumns
from attnreg.attention.families.joint import beside_channels
from attnreg.types import AttnregError, Grid

BERT_TOKENS = 77
"""Hunyuan-DiT's pipelines ask BERT for so many columns, and T5 for those behind them."""
BERT: Mapping[str, Any] = {"text_encoder_index": 0, "max_sequence_length": BERT_TOKENS}
T5: Mapping[str, Any] = {"text_encoder_index": 1, "max_sequence_length": 256}


@dataclass(frozen=True)
class HunyuanDiT(CrossTransformer):
    """Two encoders, each with columns of its own, asked one after the other; padding became a learned vector."""

    layers: str = r"blocks\.\d+\.attn2"
    negative: int | None = 1
    kinds: frozenset[str] = WHOLE - {EMBEDDING}  # a word stands in two arguments
    further: tuple[str, ...] = ("encoder_hidden_states_t5",)
    parts: tuple[Mapping[str, Any], ...] = field(default=(BERT, T5), hash=False)
    conditions: tuple[str, ...] = (
        "encoder_hidden_states",
        "text_embedding_mask",
        "encoder_hidden_states_t5",
        "text_embedding_mask_t5",
    )

    def is_first_part(self, given: Mapping[str, Any]) -> bool:
        """BERT is asked first, T5 by the next call."""
        return not given.get("text_encoder_index")


@dataclass(frozen=True)
class LuminaNext(CrossTransformer):
    """Half of what it predicts is given to the scheduler, and three channels of it are guided."""

    layers: str = r"layers\.\d+\.attn2"
    kinds: frozenset[str] = WHOLE
    time_divisor: float = 1000.0
    rises: bool = True
    negated: bool = True
    conditions: tuple[str, ...] = ("encoder_hidden_states", "encoder_mask")

    def guided(self, prompted: Tensor, plain: Tensor, scale: float, told: Mapping[str, Any]) -> Tensor:
        """The first three channels of a latent alone."""
        guided = super().guided(prompted[:, :3], plain[:, :3], scale, told)
        return torch.cat([guided, prompted[:, 3:]], 1)

    def guides_otherwise(self, told: Mapping[str, Any]) -> str:
        """Positions may be counted in another way from some step on."""
        return "" if told.get("scaling_watershed", 1.0) >= 1.0 else "counts positions in another way from some step on"


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
    kinds: frozenset[str] = WHOLE
    conditions: tuple[str, ...] = ("encoder_hidden_states",)

    def beside_latents(self, arguments: Mapping[str, Any], denoiser: nn.Module) -> str:
        """A picture to begin the video with lies beside the latents in channels."""
        return beside_channels(self, arguments, denoiser)

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

    kinds: frozenset[str] = WHOLE
    channel_axis: int = 2
    conditions: tuple[str, ...] = MASKED

    def grid(self, arguments: Mapping[str, Any], denoiser: nn.Module) -> Grid:
        """As the denoiser is told; `AttnregError` if there are several frames."""
        return _of_one_frame(arguments["num_frames"], Grid(arguments["height"], arguments["width"]))


@dataclass(frozen=True)
class Kandinsky5(CrossTransformer):
    """The latent is `(batch, frame, height, width, channel)`; a template before the prompt is dropped."""

    layers: str = r"visual_transformer_blocks\.\d+\.cross_attention"
    over_itself: str = "self_attention"
    negative: int | None = None
    kinds: frozenset[str] = WHOLE
    channel_axis: int = -1
    conditions: tuple[str, ...] = ("encoder_hidden_states", "pooled_projections", "text_rope_pos")

    def conditioned(self, values: Sequence[Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Where the longest text's tokens stand: `encode_prompt` returns where each text begins and ends."""
        *others, bounds = values
        return super().conditioned([*others, torch.arange(int(bounds.diff().max()))], arguments)

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
    LuminaNext("Lumina-Next", "LuminaNextDiT2DModel", encoders=(TextColumns(),)),
    Kandinsky5(
        "Kandinsky 5",
        "Kandinsky5Transformer3DModel",
        encoders=(TextColumns(dropped="prompt_template_encode_start_idx"),),
    ),
    Wan("Wan", "WanTransformer3DModel", encoders=(TextColumns(),)),
    LTX("LTX-Video", "LTXVideoTransformer3DModel", encoders=(TextColumns(),)),
    OneFrame(
        "Cosmos 2",
        "CosmosTransformer3DModel",
        negative=1,
        apart=True,
        time_divisor=1000.0,  # it is told the noise's share of a latent
        encoders=(TextColumns(),),
        # Its pipelines scale latents themselves, and give the scheduler a sum of them and what was predicted.
        kinds=frozenset({"logits", EMBEDDING, "probabilities", "attention"}),
    ),
    OneFrame(
        "Latte",
        "LatteTransformer3DModel",
        negative=1,
        encoders=(TextColumns(),),
        kinds=WHOLE,
        conditions=("encoder_hidden_states",),
    ),
)
"""One entry a model."""
