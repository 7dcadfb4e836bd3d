"""Tiny randomly initialised pipelines of the transformer families, made from their own classes."""

from __future__ import annotations

import json
from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLQwenImage,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
)

import tiny
from training.tokenizer import new_t5_tokenizer, new_tokenizer

WIDTH = 32
SENTENCES = (
    "a photo of a cat and a blue balloon on the beach",
    "Describe the image by detailing the color, shape, size, texture, quantity, text, spatial relationships",
    "User Prompt: a dog with a red car -> Enhanced Prompt: system user assistant think",
)
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def transformer_vae(channels: int, levels: int = 2) -> AutoencoderKL:
    """Halves the picture some times."""
    torch.manual_seed(1)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=(8,) * levels,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=32,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.06,
        scaling_factor=1.5,
    ).eval()


def t5(width: int = WIDTH) -> T5EncoderModel:
    """Two layers over the trimmed tokenizer."""
    torch.manual_seed(3)
    size = len(new_t5_tokenizer())
    return T5EncoderModel(
        T5Config(vocab_size=size, d_model=width, d_kv=8, d_ff=37, num_layers=2, num_heads=4, dropout_rate=0.0)
    ).eval()


def qwen_tokenizer(*further: str) -> Qwen2Tokenizer:
    """Byte pairs learnt from a few sentences, with the marks of a chat."""
    learnt = Tokenizer(models.BPE())
    learnt.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learnt.train_from_iterator(
        (*SENTENCES, *further),
        trainers.BpeTrainer(vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False),
    )
    state = json.loads(learnt.to_str())["model"]
    tokenizer = Qwen2Tokenizer(vocab=state["vocab"], merges=[tuple(pair) for pair in state["merges"]])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHAT
    return tokenizer


def gemma_tokenizer() -> GemmaTokenizer:
    """Letters alone, with a start token before every text."""
    letters = sorted(
        {letter for sentence in SENTENCES for letter in sentence.replace(" ", "▁")}
        | {*"abcdefghijklmnopqrstuvwxyz▁.,:-'\"\n"}
    )
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>"]
    vocab = {
        piece: number for number, piece in enumerate((*special, *letters, *(f"<0x{byte:02X}>" for byte in range(256))))
    }
    tokenizer = GemmaTokenizer(vocab=vocab, merges=[])
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", vocab["<bos>"])]
    )
    return tokenizer


def stable_diffusion_3() -> StableDiffusion3Pipeline:
    """Two CLIP encoders side by side, T5 behind them; two joint blocks with normalised queries and keys."""
    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(
        sample_size=16, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8,
        num_attention_heads=4, joint_attention_dim=2 * WIDTH, caption_projection_dim=WIDTH,
        pooled_projection_dim=2 * WIDTH, pos_embed_max_size=24, qk_norm="rms_norm",
    )  # fmt: skip
    return tiny.quiet(
        StableDiffusion3Pipeline(
            transformer=transformer.eval(),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=transformer_vae(4),
            text_encoder=tiny.text_encoder(CLIPTextModelWithProjection),
            tokenizer=new_tokenizer(),
            text_encoder_2=tiny.text_encoder(CLIPTextModelWithProjection),
            tokenizer_2=new_tokenizer(),
            text_encoder_3=t5(2 * WIDTH),
            tokenizer_3=new_t5_tokenizer(),
        )
    )


def flux_parts(channels: int = 16, guided: bool = False) -> dict[str, Any]:
    """Two double and two single blocks."""
    torch.manual_seed(0)
    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=channels, out_channels=16, num_layers=2, num_single_layers=2, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=WIDTH, pooled_projection_dim=WIDTH, axes_dims_rope=(4, 4, 8),
        guidance_embeds=guided,
    )  # fmt: skip
    return {
        "transformer": transformer.eval(),
        "scheduler": FlowMatchEulerDiscreteScheduler(),
        "vae": transformer_vae(4),
        "text_encoder": tiny.text_encoder(CLIPTextModel),
        "tokenizer": new_tokenizer(),
        "text_encoder_2": t5(),
        "tokenizer_2": new_t5_tokenizer(),
    }


def flux() -> FluxPipeline:
    """FLUX.1 without distilled guidance, so that `true_cfg_scale` can be used."""
    return tiny.quiet(FluxPipeline(**flux_parts()))


def pixart() -> PixArtSigmaPipeline:
    """Two blocks; T5 alone."""
    torch.manual_seed(0)
    transformer = PixArtTransformer2DModel(
        sample_size=32, num_layers=2, patch_size=2, attention_head_dim=8, num_attention_heads=4, caption_channels=WIDTH,
        in_channels=4, cross_attention_dim=WIDTH, out_channels=8, attention_bias=True,
        activation_fn="gelu-approximate", num_embeds_ada_norm=1000, norm_type="ada_norm_single",
        norm_elementwise_affine=False, norm_eps=1e-6,
    )  # fmt: skip
    return tiny.quiet(
        PixArtSigmaPipeline(
            transformer=transformer.eval(), scheduler=DDIMScheduler(), vae=tiny.vae(), text_encoder=t5(),
            tokenizer=new_t5_tokenizer(),
        )
    )  # fmt: skip


def sana() -> SanaPipeline:
    """Two blocks with linear self-attention; Gemma, which is told what to do before it reads the prompt."""
    torch.manual_seed(0)
    transformer = SanaTransformer2DModel(
        patch_size=1, in_channels=4, out_channels=4, num_layers=2, num_attention_heads=2, attention_head_dim=8,
        num_cross_attention_heads=2, cross_attention_head_dim=8, cross_attention_dim=16, caption_channels=16,
        sample_size=16,
    )  # fmt: skip
    torch.manual_seed(1)
    vae = AutoencoderDC(
        in_channels=3, latent_channels=4, attention_head_dim=2, encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"), encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8), encoder_qkv_multiscales=((), (5,)), decoder_qkv_multiscales=((), (5,)),
        encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1), downsample_block_type="conv",
        upsample_block_type="interpolate", decoder_norm_types="rms_norm", decoder_act_fns="silu", scaling_factor=0.4,
    )  # fmt: skip
    tokenizer = gemma_tokenizer()
    torch.manual_seed(2)
    text_encoder = Gemma2Model(
        Gemma2Config(
            head_dim=8, hidden_size=16, intermediate_size=32, num_attention_heads=2, num_hidden_layers=1,
            num_key_value_heads=2, vocab_size=len(tokenizer), max_position_embeddings=8192,
            attn_implementation="eager",
        )
    )  # fmt: skip
    return tiny.quiet(
        SanaPipeline(
            transformer=transformer.eval(), vae=vae.eval(), scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
            text_encoder=text_encoder.eval(), tokenizer=tokenizer,
        )
    )  # fmt: skip


def qwen_2_5_vl(vocabulary: int, layers: int = 2) -> Qwen2_5_VLForConditionalGeneration:
    """16 wide."""
    torch.manual_seed(2)
    return Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            text_config={
                "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": layers, "num_attention_heads": 2,
                "num_key_value_heads": 2, "vocab_size": vocabulary, "rope_theta": 1000000.0,
                "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"},
            },
            vision_config={
                "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16,
            },
            hidden_size=16, vocab_size=vocabulary,
        )
    ).eval()  # fmt: skip


def qwen_image() -> QwenImagePipeline:
    """Two blocks; a chat template of which the beginning is dropped."""
    torch.manual_seed(0)
    transformer = QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, guidance_embeds=False, axes_dims_rope=(8, 4, 4),
    )  # fmt: skip
    torch.manual_seed(1)
    vae = AutoencoderKLQwenImage(
        base_dim=24, z_dim=4, dim_mult=[1, 2, 4], num_res_blocks=1, temperal_downsample=[False, True],
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )  # fmt: skip
    tokenizer = qwen_tokenizer()
    return tiny.quiet(
        QwenImagePipeline(
            transformer=transformer.eval(), vae=vae.eval(), scheduler=FlowMatchEulerDiscreteScheduler(),
            text_encoder=qwen_2_5_vl(len(tokenizer)), tokenizer=tokenizer,
        )
    )  # fmt: skip


def qwen_3(vocabulary: int, layers: int = 2, kind: type = Qwen3Model) -> Any:
    """16 wide."""
    torch.manual_seed(2)
    return kind(
        Qwen3Config(
            hidden_size=16, intermediate_size=16, num_hidden_layers=layers, num_attention_heads=2,
            num_key_value_heads=2, vocab_size=vocabulary, max_position_embeddings=512,
        )
    ).eval()  # fmt: skip


def z_image() -> ZImagePipeline:
    """Two layers behind refiners of their own; a chat template that is kept whole."""
    torch.manual_seed(0)
    transformer = ZImageTransformer2DModel(
        all_patch_size=(2,), all_f_patch_size=(1,), in_channels=4, dim=32, n_layers=2, n_refiner_layers=1, n_heads=2,
        n_kv_heads=2, norm_eps=1e-5, qk_norm=True, cap_feat_dim=16, rope_theta=256.0, t_scale=1000.0,
        axes_dims=[8, 4, 4], axes_lens=[256, 32, 32],
    )  # fmt: skip
    with torch.no_grad():  # they are made of whatever the memory held
        transformer.x_pad_token.fill_(1.0)
        transformer.cap_pad_token.fill_(1.0)
    tokenizer = qwen_tokenizer()
    return tiny.quiet(
        ZImagePipeline(
            transformer=transformer.eval(), vae=transformer_vae(4), scheduler=FlowMatchEulerDiscreteScheduler(),
            text_encoder=qwen_3(len(tokenizer)), tokenizer=tokenizer,
        )
    )  # fmt: skip


FAMILIES = {
    "Stable Diffusion 3": stable_diffusion_3,
    "FLUX": flux,
    "PixArt": pixart,
    "Sana": sana,
    "Qwen-Image": qwen_image,
    "Z-Image": z_image,
}
"""Family -> a tiny pipeline of it."""

SMALL: dict[str, dict[str, Any]] = {
    "Stable Diffusion 3": {"height": 32, "width": 48, "max_sequence_length": 16},
    "FLUX": {"height": 32, "width": 48, "max_sequence_length": 16, "true_cfg_scale": 2.0, "negative_prompt": "a dog"},
    "PixArt": {"height": 64, "width": 96, "max_sequence_length": 16, "use_resolution_binning": False},
    "Sana": {"height": 32, "width": 64, "max_sequence_length": 48, "use_resolution_binning": False},
    "Qwen-Image": {"height": 32, "width": 48, "true_cfg_scale": 2.0, "negative_prompt": "a dog and a very red car"},
    "Z-Image": {"height": 32, "width": 48, "max_sequence_length": 64},
}
"""Not square, and guided: with a negative prompt in the same call or in one of its own."""

SIZES = {"Sana": {"diffusers.pipelines.sana.pipeline_sana.ASPECT_RATIO_512_BIN": {"0.67": [64.0, 96.0]}}}
"""What says which sizes there are -> small ones."""
