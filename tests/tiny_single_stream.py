"""Tiny randomly initialised pipelines of the models with one kind of block, made from their own classes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from diffusers import (
    AutoencoderKLQwenImage,
    AutoencoderKLQwenImage21,
    ErnieImagePipeline,
    ErnieImageTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    Ideogram4Pipeline,
    Ideogram4Transformer2DModel,
    Krea2Pipeline,
    Krea2Transformer2DModel,
    QwenImage21Pipeline,
    QwenImage21Transformer2DModel,
)
from transformers import Mistral3Model, Qwen2Tokenizer, Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLModel

import tiny
from tiny_flux_like import flux_2_vae, mistral_3, mistral_tokenizer
from tiny_transformers import qwen_tokenizer

PARTS_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{{ part['text'] }}{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% endif %}"
)


def qwen_3_vl(vocabulary: int, layers: int, kind: type = Qwen3VLModel) -> Any:
    """16 wide."""
    torch.manual_seed(2)
    return kind(
        Qwen3VLConfig(
            text_config={
                "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": layers, "num_attention_heads": 2,
                "num_key_value_heads": 2, "head_dim": 8, "vocab_size": vocabulary,
                "rope_scaling": {"mrope_section": [2, 1, 1], "rope_type": "default", "mrope_interleaved": True},
            },
            vision_config={
                "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16,
                "deepstack_visual_indexes": [0],
            },
        )
    ).eval()  # fmt: skip


def vl_tokenizer() -> Qwen2Tokenizer:
    """Messages of several parts."""
    tokenizer = qwen_tokenizer("Comprehend and analyze the provided prompt.")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>", "<|image_pad|>"]})
    tokenizer.chat_template = PARTS_CHAT
    return tokenizer


def krea_2() -> Krea2Pipeline:
    """Grouped queries; embeddings of three layers, which blocks of the text's own make into one."""
    torch.manual_seed(0)
    transformer = Krea2Transformer2DModel(
        in_channels=16, num_layers=2, attention_head_dim=8, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=32, timestep_embed_dim=8, text_hidden_dim=16, num_text_layers=3, text_num_attention_heads=2,
        text_num_key_value_heads=1, text_intermediate_size=16, num_layerwise_text_blocks=1, num_refiner_text_blocks=1,
        axes_dims_rope=(4, 2, 2),
    )  # fmt: skip
    with torch.no_grad():  # they are made as zeros
        for parameter in transformer.parameters():
            if not parameter.any():
                parameter.normal_(std=0.3)
    torch.manual_seed(1)
    vae = AutoencoderKLQwenImage(
        base_dim=24, z_dim=4, dim_mult=[1, 2, 4], num_res_blocks=1, temperal_downsample=[False, True],
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, base_image_seq_len=256, max_image_seq_len=6400
    )
    tokenizer = qwen_tokenizer()
    return tiny.quiet(
        Krea2Pipeline(
            transformer=transformer.eval(), vae=vae.eval(), scheduler=scheduler,
            text_encoder=qwen_3_vl(len(tokenizer), 2), tokenizer=tokenizer, text_encoder_select_layers=(0, 1, 2),
        )
    )  # fmt: skip


def ernie_image() -> ErnieImagePipeline:
    """Mistral reads one prompt at a time; a list of texts, filled up for the call."""
    torch.manual_seed(0)
    transformer = ErnieImageTransformer2DModel(
        hidden_size=32, num_attention_heads=2, num_layers=2, ffn_hidden_size=32, in_channels=16, out_channels=16,
        text_in_dim=16, rope_axes_dim=(4, 6, 6),
    )  # fmt: skip
    with torch.no_grad():  # they are made as zeros
        for parameter in transformer.parameters():
            if not parameter.any():
                parameter.normal_(std=0.3)
    tokenizer = mistral_tokenizer()
    return tiny.quiet(
        ErnieImagePipeline(
            transformer=transformer.eval(), vae=flux_2_vae(), scheduler=FlowMatchEulerDiscreteScheduler(),
            text_encoder=mistral_3(len(tokenizer), layers=2, kind=Mistral3Model), tokenizer=tokenizer,
        )
    )  # fmt: skip


def ideogram_4() -> Ideogram4Pipeline:
    """Thirteen of the layers of Qwen 3 VL, called one by one; a second model for the picture without a prompt."""
    parts = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        parts.append(
            Ideogram4Transformer2DModel(
                in_channels=16, num_layers=2, attention_head_dim=16, num_attention_heads=2, intermediate_size=32,
                adaln_dim=16, llm_features_dim=13 * 16, mrope_section=(4, 2, 2),
            ).eval()
        )  # fmt: skip
    tokenizer = vl_tokenizer()
    return tiny.quiet(
        Ideogram4Pipeline(
            transformer=parts[0], unconditional_transformer=parts[1], vae=flux_2_vae(),
            scheduler=FlowMatchEulerDiscreteScheduler(), text_encoder=qwen_3_vl(len(tokenizer), 36),
            tokenizer=tokenizer,
        )
    )  # fmt: skip


class Processor(SimpleNamespace):
    """What a pipeline asks of a processor of texts and pictures, for texts alone: the real one wants torchvision."""

    def __call__(self, text: list[str], **options: Any) -> Any:
        return self.tokenizer(text, **options)

    def apply_chat_template(self, messages: list[Any], **options: Any) -> list[list[int]]:
        return [self.tokenizer.apply_chat_template(messages, **options)]


def qwen_image_21() -> QwenImage21Pipeline:
    """The text's keys are kept after the first step."""
    torch.manual_seed(0)
    transformer = QwenImage21Transformer2DModel(
        in_channels=4, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2, context_in_dim=16,
        axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    torch.manual_seed(1)
    vae = AutoencoderKLQwenImage21(
        base_dim=8, decoder_base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )  # fmt: skip
    tokenizer = vl_tokenizer()
    return tiny.quiet(
        QwenImage21Pipeline(
            transformer=transformer.eval(), vae=vae.eval(), scheduler=FlowMatchEulerDiscreteScheduler(),
            text_encoder=qwen_3_vl(len(tokenizer), 2, Qwen3VLForConditionalGeneration),
            processor=Processor(tokenizer=tokenizer),
        )
    )  # fmt: skip


FAMILIES = {
    "Krea 2": krea_2,
    "Ernie-Image": ernie_image,
    "Ideogram 4": ideogram_4,
    "Qwen-Image 2.1": qwen_image_21,
}
"""Family -> a tiny pipeline of it."""

UNSAVED = {"Qwen-Image 2.1": "its processor wants torchvision"}
"""Those that cannot be written to a directory here -> why."""

SMALL: dict[str, dict[str, Any]] = {
    "Krea 2": {"height": 32, "width": 48, "max_sequence_length": 32, "negative_prompt": "a dog and a very red car"},
    "Ernie-Image": {"height": 32, "width": 48, "negative_prompt": "a dog and a very red car"},
    "Ideogram 4": {
        "height": 32, "width": 48, "max_sequence_length": 32, "guidance_scale": 5.0, "guidance_schedule": None
    },
    "Qwen-Image 2.1": {
        "height": 64, "width": 96, "true_cfg_scale": 2.0, "negative_prompt": "a dog and a very red car"
    },
}  # fmt: skip
"""Not square, and guided."""
