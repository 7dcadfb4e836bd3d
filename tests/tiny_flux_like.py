"""Tiny randomly initialised pipelines of the models of FLUX's build, made from their own classes."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKLFlux2,
    AutoencoderKLWan,
    BriaFiboPipeline,
    BriaFiboTransformer2DModel,
    BriaPipeline,
    BriaTransformer2DModel,
    ChromaPipeline,
    ChromaTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinKVPipeline,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
    LongCatImagePipeline,
    LongCatImageTransformer2DModel,
    OvisImagePipeline,
    OvisImageTransformer2DModel,
)
from diffusers.pipelines.flux2.system_messages import SYSTEM_MESSAGE
from PIL import Image
from transformers import (
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3ForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)

import tiny
from tiny_transformers import WIDTH, qwen_2_5_vl, qwen_3, qwen_tokenizer, t5, transformer_vae
from training.tokenizer import new_t5_tokenizer

MISTRAL_CHAT = (
    "{% for message in messages %}{% set mark = 'SYSTEM_PROMPT' if message['role'] == 'system' else 'INST' %}"
    "[{{ mark }}]{% for part in message['content'] %}{{ part['text'] }}{% endfor %}[/{{ mark }}]{% endfor %}"
)


def mistral_tokenizer() -> Qwen2Tokenizer:
    """Byte pairs with the marks of Mistral's chat, padded on the left."""
    tokenizer = qwen_tokenizer(SYSTEM_MESSAGE)
    marks = ["[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[INST]", "[/INST]"]
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    tokenizer.chat_template, tokenizer.padding_side = MISTRAL_CHAT, "left"
    return tokenizer


def mistral_3(vocabulary: int, layers: int = 30, kind: type = Mistral3ForConditionalGeneration) -> Any:
    """As many layers as FLUX.2 takes three from."""
    torch.manual_seed(2)
    return kind(
        Mistral3Config(
            text_config={
                "model_type": "mistral", "vocab_size": vocabulary, "hidden_size": 16, "intermediate_size": 16,
                "max_position_embeddings": 512, "num_attention_heads": 2, "num_hidden_layers": layers,
                "num_key_value_heads": 2, "sliding_window": None, "bos_token_id": 1, "eos_token_id": 2,
                "pad_token_id": 3,
            },
            vision_config={
                "model_type": "pixtral", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
                "intermediate_size": 16, "image_size": 30, "patch_size": 6, "num_channels": 3,
            },
        )
    ).eval()  # fmt: skip


def flux_2_vae() -> AutoencoderKLFlux2:
    """Halves the picture once."""
    torch.manual_seed(1)
    return AutoencoderKLFlux2(
        sample_size=32, down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8), layers_per_block=1, latent_channels=4, norm_num_groups=4,
    ).eval()  # fmt: skip


def flux_2_parts(guided: bool) -> dict[str, Any]:
    """Two double and two single blocks."""
    torch.manual_seed(0)
    transformer = Flux2Transformer2DModel(
        patch_size=1, in_channels=16, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=48, timestep_guidance_channels=16, axes_dims_rope=(4, 4, 4, 4), guidance_embeds=guided,
    )  # fmt: skip
    return {
        "transformer": transformer.eval(),
        "vae": flux_2_vae(),
        "scheduler": FlowMatchEulerDiscreteScheduler(),
    }


def flux_2() -> Flux2Pipeline:
    """Mistral, told how to describe before it reads the prompt; the whole chat is kept, with its padding."""
    tokenizer = mistral_tokenizer()
    return tiny.quiet(Flux2Pipeline(**flux_2_parts(True), text_encoder=mistral_3(len(tokenizer)), tokenizer=tokenizer))


def klein_parts() -> dict[str, Any]:
    """Qwen 3 instead."""
    tokenizer = qwen_tokenizer()
    text_encoder = qwen_3(len(tokenizer), layers=27, kind=Qwen3ForCausalLM)
    return flux_2_parts(False) | {"text_encoder": text_encoder, "tokenizer": tokenizer}


def flux_2_klein() -> Flux2KleinPipeline:
    """Guided against an empty prompt."""
    return tiny.quiet(Flux2KleinPipeline(**klein_parts()))


def flux_2_klein_kv() -> Flux2KleinKVPipeline:
    """Keeps the keys of reference pictures after the first step."""
    return tiny.quiet(Flux2KleinKVPipeline(**klein_parts()))


def chroma() -> ChromaPipeline:
    """T5 alone; its mask of zeros and ones is added to the logits."""
    torch.manual_seed(0)
    transformer = ChromaTransformer2DModel(
        patch_size=1, in_channels=16, out_channels=16, num_layers=2, num_single_layers=2, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=WIDTH, axes_dims_rope=(4, 4, 8), approximator_num_channels=16,
        approximator_hidden_dim=32, approximator_layers=1,
    )  # fmt: skip
    return tiny.quiet(
        ChromaPipeline(
            transformer=transformer.eval(), scheduler=FlowMatchEulerDiscreteScheduler(), vae=transformer_vae(4),
            text_encoder=t5(), tokenizer=new_t5_tokenizer(),
        )
    )  # fmt: skip


def bria() -> BriaPipeline:
    """T5, one prompt a call; prompt and negative prompt in one batch."""
    torch.manual_seed(0)
    transformer = BriaTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=WIDTH, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    return tiny.quiet(
        BriaPipeline(
            transformer=transformer.eval(), scheduler=FlowMatchEulerDiscreteScheduler(), vae=transformer_vae(4),
            text_encoder=t5(), tokenizer=new_t5_tokenizer(),
        )
    )  # fmt: skip


def bria_fibo() -> BriaFiboPipeline:
    """SmolLM 3, of which every block is given a layer; without a negative prompt it reads token 128,000."""
    torch.manual_seed(0)
    transformer = BriaFiboTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, text_encoder_dim=16, axes_dims_rope=[4, 4, 8],
    )  # fmt: skip
    torch.manual_seed(1)
    vae = AutoencoderKLWan(
        base_dim=8, decoder_base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, in_channels=12,
        out_channels=12, patch_size=2, scale_factor_spatial=16, temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4, is_residual=True,
    )  # fmt: skip
    torch.manual_seed(2)
    text_encoder = SmolLM3ForCausalLM(
        SmolLM3Config(
            vocab_size=128001, hidden_size=16, intermediate_size=16, num_hidden_layers=4, num_attention_heads=2,
            num_key_value_heads=2, tie_word_embeddings=True, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        )
    )  # fmt: skip
    return tiny.quiet(
        BriaFiboPipeline(
            transformer=transformer.eval(), vae=vae.eval(), scheduler=FlowMatchEulerDiscreteScheduler(),
            text_encoder=text_encoder.eval(), tokenizer=qwen_tokenizer(),
        )
    )  # fmt: skip


def ovis_image() -> OvisImagePipeline:
    """An instruction and the prompt in one message, whose beginning is dropped; padding is kept."""
    torch.manual_seed(0)
    transformer = OvisImageTransformer2DModel(
        patch_size=1, in_channels=16, out_channels=16, num_layers=2, num_single_layers=2, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=16, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    tokenizer = qwen_tokenizer()
    return tiny.quiet(
        OvisImagePipeline(
            transformer=transformer.eval(), scheduler=FlowMatchEulerDiscreteScheduler(), vae=transformer_vae(4),
            text_encoder=qwen_3(len(tokenizer)), tokenizer=tokenizer,
        )
    )  # fmt: skip


def longcat_image() -> LongCatImagePipeline:
    """The prompt between a beginning and an end that are dropped; what stands in quotes is read letter by letter."""
    torch.manual_seed(0)
    transformer = LongCatImageTransformer2DModel(
        patch_size=1, in_channels=64, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, pooled_projection_dim=16, axes_dims_rope=[4, 4, 8],
    )  # fmt: skip
    tokenizer = qwen_tokenizer()
    return tiny.quiet(
        LongCatImagePipeline(
            transformer=transformer.eval(), scheduler=FlowMatchEulerDiscreteScheduler(), vae=transformer_vae(16),
            text_encoder=qwen_2_5_vl(len(tokenizer)), tokenizer=tokenizer, text_processor=tokenizer,
        )
    )  # fmt: skip


FAMILIES = {
    "FLUX.2": flux_2,
    "FLUX.2 klein": flux_2_klein,
    "FLUX.2 klein KV": flux_2_klein_kv,
    "Chroma": chroma,
    "Bria": bria,
    "Bria FIBO": bria_fibo,
    "Ovis-Image": ovis_image,
    "LongCat-Image": longcat_image,
}
"""Family, or family and variant -> a tiny pipeline of it."""

VARIANTS = {"FLUX.2 klein": "FLUX.2", "FLUX.2 klein KV": "FLUX.2"}
"""Those that share their family with another -> the family."""

GUIDED: dict[str, Any] = {"height": 32, "width": 48, "negative_prompt": "a dog and a very red car"}
SMALL: dict[str, dict[str, Any]] = {
    "FLUX.2": {"height": 32, "width": 48, "max_sequence_length": 96},
    "FLUX.2 klein": {"height": 32, "width": 48, "max_sequence_length": 64},
    "FLUX.2 klein KV": {
        "height": 32, "width": 48, "max_sequence_length": 64, "image": Image.new("RGB", (64, 64), (90, 140, 200))
    },
    "Chroma": GUIDED | {"max_sequence_length": 16},
    "Bria": GUIDED | {"max_sequence_length": 16},
    "Bria FIBO": GUIDED | {"height": 64, "width": 96},
    "Ovis-Image": GUIDED | {"max_sequence_length": 64},
    "LongCat-Image": GUIDED | {"enable_prompt_rewrite": False},
}  # fmt: skip
"""Not square, and guided where the family is."""
