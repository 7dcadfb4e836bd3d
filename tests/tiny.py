"""Tiny randomly initialised pipelines of every supported family, made from their own classes."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from training.tokenizer import new_tokenizer

CONTEXT = 32


def unet(**changes: Any) -> UNet2DConditionModel:
    """Four levels as in Stable Diffusion 1.x, each 32 channels wide."""
    torch.manual_seed(0)
    settings = {
        "sample_size": 64,
        "block_out_channels": (32, 32, 32, 32),
        "layers_per_block": 1,
        "attention_head_dim": 4,
        "cross_attention_dim": CONTEXT,
        "norm_num_groups": 8,
    }
    return UNet2DConditionModel(**(settings | changes)).eval()


def vae() -> AutoencoderKL:
    """Downsampling 8, 4 latent channels."""
    torch.manual_seed(1)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        norm_num_groups=4,
        sample_size=64,
    ).eval()


def text_encoder(kind: type = CLIPTextModel) -> Any:
    """A one-layer CLIP text model over the trimmed tokenizer."""
    torch.manual_seed(2)
    tokenizer = new_tokenizer()
    return kind(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=CONTEXT,
            intermediate_size=37,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.model_max_length,
            projection_dim=CONTEXT,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    ).eval()


def scheduler(**changes: Any) -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
        **changes,
    )  # fmt: skip


def parts(**unet_changes: Any) -> dict[str, Any]:
    return {
        "vae": vae(),
        "text_encoder": text_encoder(),
        "tokenizer": new_tokenizer(),
        "unet": unet(**unet_changes),
        "scheduler": scheduler(),
        "safety_checker": None,
        "feature_extractor": None,
    }


def stable_diffusion(**unet_changes: Any) -> StableDiffusionPipeline:
    """Stable Diffusion 1.x."""
    return quiet(StableDiffusionPipeline(**parts(**unet_changes), requires_safety_checker=False))


def stable_diffusion_2() -> StableDiffusionPipeline:
    """Stable Diffusion 2.x: linear projections, attention upcast to float32, heads by width."""
    return stable_diffusion(use_linear_projection=True, upcast_attention=True, attention_head_dim=(2, 2, 4, 4))


def stable_diffusion_xl() -> StableDiffusionXLPipeline:
    """SDXL: two text encoders, cross-attention from the second level down, size and crop as conditions."""
    tokenizer = new_tokenizer()
    return quiet(
        StableDiffusionXLPipeline(
            vae=vae(),
            text_encoder=text_encoder(),
            text_encoder_2=text_encoder(CLIPTextModelWithProjection),
            tokenizer=tokenizer,
            tokenizer_2=new_tokenizer(),
            unet=unet(
                sample_size=128,
                block_out_channels=(32, 32, 32),
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                transformer_layers_per_block=(1, 1, 2),
                cross_attention_dim=2 * CONTEXT,
                use_linear_projection=True,
                addition_embed_type="text_time",
                addition_time_embed_dim=8,
                projection_class_embeddings_input_dim=6 * 8 + CONTEXT,
            ),
            scheduler=scheduler(),
            add_watermarker=False,
        )
    )


def controlnet(beside: UNet2DConditionModel | None = None) -> ControlNetModel:
    """One that adds something: as they are made, the last layers of a ControlNet are zero."""
    torch.manual_seed(3)
    net = ControlNetModel.from_unet(
        beside or unet(), conditioning_embedding_out_channels=(8, 8, 8, 8), load_weights_from_unet=False
    ).eval()
    last = [*net.controlnet_down_blocks, net.controlnet_mid_block, net.controlnet_cond_embedding.conv_out]
    for weights in (one for module in last for one in module.parameters()):
        torch.nn.init.normal_(weights, std=0.2)
    return net


def quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe
