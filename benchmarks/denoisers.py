"""Whole denoisers of the shapes of published models, with random weights, in pipelines whose other parts are stumps.

Random weights change no time and no shape; what a method is good for cannot be seen with them. Text encoders have a
layer or two of their real width, for they run once a picture and are not what is measured, and nothing is decoded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from benchmarks.drawing import untrained_vae
from training.tokenizer import new_t5_tokenizer, new_tokenizer

WORDS = 77
T5_WIDTH = 4096


@dataclass(frozen=True)
class Denoiser:
    """A published model's denoiser, whole or with fewer of its blocks."""

    build: Callable[[int], nn.Module]
    """Takes one of `blocks`."""
    around: Callable[[nn.Module], Any]
    """The pipeline that it stands in."""
    side: int
    """Height and width of the picture, in pixels."""
    blocks: tuple[int, ...] = (1,)
    """How many of its blocks it may have, in its own way of counting: the whole model first."""
    options: dict[str, Any] = field(default_factory=dict)
    """Of the pipeline's call."""

    def weights(self, blocks: int) -> int:
        """How many numbers it is made of; none is made for it."""
        with torch.device("meta"):
            return sum(one.numel() for one in self.build(blocks).parameters())

    def largest(self, numbers: float) -> int:
        """The most of `blocks` of which the weights are no more than `numbers`, or else the fewest there are."""
        return next((blocks for blocks in self.blocks if self.weights(blocks) <= numbers), self.blocks[-1])

    def pipeline(self, blocks: int) -> Any:
        """The pipeline, in evaluation mode and without bars."""
        torch.manual_seed(0)
        pipe = self.around(self.build(blocks).eval())
        pipe.set_progress_bar_config(disable=True)
        return pipe


def _clip(width: int, kind: type = CLIPTextModel) -> Any:
    """A text encoder as wide as that."""
    tokenizer = new_tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, projection_dim=width, intermediate_size=4 * width,
        num_hidden_layers=2, num_attention_heads=width // 64, max_position_embeddings=WORDS,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return kind(config).eval()


def _words() -> Any:
    """CLIP's tokenizer, which fills up to 77 tokens."""
    tokenizer = new_tokenizer()
    tokenizer.model_max_length = WORDS
    return tokenizer


def _t5() -> T5EncoderModel:
    """As wide as T5-XXL, whose other 4.8 billion weights are left out."""
    size = len(new_t5_tokenizer())
    return T5EncoderModel(
        T5Config(vocab_size=size, d_model=T5_WIDTH, d_kv=64, d_ff=64, num_layers=1, num_heads=4, dropout_rate=0.0)
    ).eval()


def _diffusion() -> DDIMScheduler:
    return DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1)


def _stable_diffusion(unet: nn.Module, width: int) -> StableDiffusionPipeline:
    return StableDiffusionPipeline(
        unet=unet, text_encoder=_clip(width), tokenizer=_words(), vae=untrained_vae(), scheduler=_diffusion(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def _stable_diffusion_2(_: int) -> Any:
    return UNet2DConditionModel(
        sample_size=96, attention_head_dim=(5, 10, 20, 20), cross_attention_dim=1024, use_linear_projection=True,
        upcast_attention=True,
    )  # fmt: skip


def _xl_unet(deepest: int) -> Any:
    return UNet2DConditionModel(
        sample_size=128, block_out_channels=(320, 640, 1280), attention_head_dim=(5, 10, 20), cross_attention_dim=2048,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), use_linear_projection=True,
        transformer_layers_per_block=(1, min(2, deepest), deepest), addition_embed_type="text_time",
        addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816,
    )  # fmt: skip


def _xl(unet: nn.Module) -> StableDiffusionXLPipeline:
    return StableDiffusionXLPipeline(
        unet=unet, vae=untrained_vae(), scheduler=_diffusion(), add_watermarker=False, tokenizer=_words(),
        tokenizer_2=_words(), text_encoder=_clip(768), text_encoder_2=_clip(1280, CLIPTextModelWithProjection),
    )  # fmt: skip


def _sd3_transformer(blocks: int) -> Any:
    return SD3Transformer2DModel(
        sample_size=128, patch_size=2, in_channels=16, out_channels=16, num_layers=blocks, attention_head_dim=64,
        num_attention_heads=24, joint_attention_dim=T5_WIDTH, caption_projection_dim=1536, pooled_projection_dim=2048,
        pos_embed_max_size=192,
    )  # fmt: skip


def _sd3(transformer: nn.Module) -> StableDiffusion3Pipeline:
    return StableDiffusion3Pipeline(
        transformer=transformer, vae=untrained_vae(), scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        text_encoder=_clip(768, CLIPTextModelWithProjection), tokenizer=_words(),
        text_encoder_2=_clip(1280, CLIPTextModelWithProjection), tokenizer_2=_words(),
        text_encoder_3=_t5(), tokenizer_3=new_t5_tokenizer(),
    )  # fmt: skip


def _pixart_transformer(blocks: int) -> Any:
    return PixArtTransformer2DModel(
        num_layers=blocks, num_attention_heads=16, attention_head_dim=72, in_channels=4, out_channels=8,
        cross_attention_dim=1152, caption_channels=T5_WIDTH, sample_size=64, use_additional_conditions=False,
    )  # fmt: skip


def _pixart(transformer: nn.Module) -> PixArtSigmaPipeline:
    return PixArtSigmaPipeline(
        transformer=transformer, text_encoder=_t5(), tokenizer=new_t5_tokenizer(), vae=untrained_vae(),
        scheduler=DDIMScheduler(),
    )  # fmt: skip


def _flux_transformer(blocks: int) -> Any:
    return FluxTransformer2DModel(
        patch_size=1, in_channels=64, num_layers=blocks, num_single_layers=2 * blocks, attention_head_dim=128,
        num_attention_heads=24, joint_attention_dim=T5_WIDTH, pooled_projection_dim=768, guidance_embeds=True,
        axes_dims_rope=(16, 56, 56),
    )  # fmt: skip


def _flux(transformer: nn.Module) -> FluxPipeline:
    return FluxPipeline(
        transformer=transformer, vae=untrained_vae(), scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        text_encoder=_clip(768), tokenizer=_words(), text_encoder_2=_t5(), tokenizer_2=new_t5_tokenizer(),
    )  # fmt: skip


DENOISERS = {
    "SD 1.5": Denoiser(
        lambda _: UNet2DConditionModel(sample_size=64, attention_head_dim=8, cross_attention_dim=768),
        lambda unet: _stable_diffusion(unet, 768),
        512,
    ),
    "SD 2.1": Denoiser(_stable_diffusion_2, lambda unet: _stable_diffusion(unet, 1024), 768),
    "SDXL": Denoiser(_xl_unet, _xl, 1024, (10, 1)),
    "SD 3": Denoiser(_sd3_transformer, _sd3, 1024, (24, 6, 2)),
    "PixArt": Denoiser(
        _pixart_transformer, _pixart, 512, (28, 7, 2), {"use_resolution_binning": False, "clean_caption": False}
    ),
    "FLUX": Denoiser(_flux_transformer, _flux, 1024, (19, 4, 1)),
}
"""Name -> the denoiser.

Of SDXL the depth of the deepest transformers is counted, of FLUX the double blocks, beside twice as many single ones.
"""
