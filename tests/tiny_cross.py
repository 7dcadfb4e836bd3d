"""Tiny randomly initialised pipelines of the families in which only the picture looks at text."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    AutoencoderTiny,
    Cosmos2TextToImagePipeline,
    CosmosTransformer3DModel,
    DDIMScheduler,
    DDPMScheduler,
    DDPMWuerstchenScheduler,
    DreamLitePipeline,
    DreamLiteUNetModel,
    FlowMatchEulerDiscreteScheduler,
    HunyuanDiT2DModel,
    HunyuanDiTPipeline,
    IFPipeline,
    Kandinsky3Pipeline,
    Kandinsky3UNet,
    Kandinsky5T2IPipeline,
    Kandinsky5Transformer3DModel,
    LattePipeline,
    LatteTransformer3DModel,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    LuminaNextDiT2DModel,
    LuminaPipeline,
    StableCascadePriorPipeline,
    StableCascadeUNet,
    UNet2DConditionModel,
    VQModel,
    WanPipeline,
    WanTransformer3DModel,
)
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    GemmaConfig,
    GemmaForCausalLM,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

with warnings.catch_warnings():  # they are told of at import: by torch of its own, by SentencePiece's wrapper
    warnings.simplefilter("ignore", DeprecationWarning)
    from diffusers import KolorsPipeline
    from diffusers.pipelines.kolors import ChatGLMModel, ChatGLMTokenizer
    from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig
    from sentencepiece import SentencePieceTrainer

import tiny
from tiny_transformers import SENTENCES, WIDTH, gemma_tokenizer, qwen_tokenizer, t5
from training.tokenizer import new_t5_tokenizer, new_tokenizer


def awake(model: nn.Module, *names: str) -> Any:
    """A model that hears the text: layers that begin as zero, by parts of their names, are given random weights."""
    torch.manual_seed(5)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if any(part in name for part in names):
                weight.normal_(std=0.3)
    return model.eval()


def bert_tokenizer() -> BertTokenizer:
    """Letters, the first of a word apart from the others."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters), ".", ","]
    return BertTokenizer(vocab={piece: number for number, piece in enumerate(pieces)}, model_max_length=77)


def hunyuan_dit() -> HunyuanDiTPipeline:
    """Two blocks; BERT's 77 columns, then T5's 256."""
    torch.manual_seed(0)
    transformer = HunyuanDiT2DModel(
        sample_size=16, num_layers=2, patch_size=2, attention_head_dim=8, num_attention_heads=3, in_channels=4,
        cross_attention_dim=WIDTH, cross_attention_dim_t5=WIDTH, pooled_projection_dim=16, hidden_size=24,
        activation_fn="gelu-approximate",
    )  # fmt: skip
    tokenizer = bert_tokenizer()
    torch.manual_seed(2)
    bert = BertModel(
        BertConfig(
            vocab_size=len(tokenizer), hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=4,
            intermediate_size=37, max_position_embeddings=77,
        )
    ).eval()  # fmt: skip
    return tiny.quiet(
        HunyuanDiTPipeline(
            transformer=transformer.eval(), vae=tiny.vae(), scheduler=DDPMScheduler(), text_encoder=bert,
            tokenizer=tokenizer, text_encoder_2=t5(), tokenizer_2=new_t5_tokenizer(), safety_checker=None,
            feature_extractor=None, requires_safety_checker=False,
        )
    )  # fmt: skip


def lumina() -> LuminaPipeline:
    """Two layers; Gemma, whose padding is masked."""
    torch.manual_seed(0)
    transformer = LuminaNextDiT2DModel(
        sample_size=8, patch_size=2, in_channels=4, hidden_size=16, num_layers=2, num_attention_heads=2, num_kv_heads=1,
        multiple_of=16, norm_eps=1e-5, learn_sigma=True, qk_norm=True, cross_attention_dim=16, scaling_factor=1.0,
    )  # fmt: skip
    tokenizer = gemma_tokenizer()
    torch.manual_seed(2)
    gemma = GemmaForCausalLM(
        GemmaConfig(
            vocab_size=len(tokenizer), head_dim=4, hidden_size=16, intermediate_size=37, num_attention_heads=4,
            num_hidden_layers=2, num_key_value_heads=4,
        )
    ).eval()  # fmt: skip
    return tiny.quiet(
        LuminaPipeline(
            transformer=awake(transformer, "gate", "pad_token"), vae=tiny.vae(),
            scheduler=FlowMatchEulerDiscreteScheduler(), text_encoder=gemma, tokenizer=tokenizer,
        )
    )  # fmt: skip


def wan_vae() -> AutoencoderKLWan:
    """Wan's autoencoder of videos, which Cosmos 2 has as well."""
    torch.manual_seed(1)
    return AutoencoderKLWan(
        base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    ).eval()


def wan() -> WanPipeline:
    """Two blocks; UMT5's columns of zeros behind the prompt."""
    torch.manual_seed(0)
    transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=16, out_channels=16,
        text_dim=WIDTH, freq_dim=32, ffn_dim=32, num_layers=2, cross_attn_norm=True, qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    )  # fmt: skip
    return tiny.quiet(
        WanPipeline(
            transformer=transformer.eval(), vae=wan_vae(), scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
            text_encoder=t5(), tokenizer=new_t5_tokenizer(), transformer_2=None,
        )
    )  # fmt: skip


class Harmless:
    """In the place of NVIDIA's guard rail, a package of its own: it finds nothing unsafe."""

    def to(self, device: Any) -> None:
        """It lies nowhere."""

    def check_text_safety(self, prompt: str) -> bool:
        """Whether a prompt is safe."""
        return True


def cosmos() -> Cosmos2TextToImagePipeline:
    """Two blocks, each with the text behind the picture; without the mask that torchvision resizes."""
    torch.manual_seed(0)
    transformer = CosmosTransformer3DModel(
        in_channels=16, out_channels=16, num_attention_heads=2, attention_head_dim=16, num_layers=2, mlp_ratio=2,
        text_embed_dim=WIDTH, adaln_lora_dim=4, max_size=(4, 32, 32), patch_size=(1, 2, 2), concat_padding_mask=False,
    )  # fmt: skip
    return tiny.quiet(
        Cosmos2TextToImagePipeline(
            transformer=transformer.eval(), vae=wan_vae(),
            scheduler=FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True), text_encoder=t5(),
            tokenizer=new_t5_tokenizer(), safety_checker=Harmless(),
        )
    )  # fmt: skip


def ltx() -> LTXPipeline:
    """Two blocks; the latent is a sequence."""
    torch.manual_seed(0)
    transformer = LTXVideoTransformer3DModel(
        in_channels=8, out_channels=8, patch_size=1, patch_size_t=1, num_attention_heads=4, attention_head_dim=8,
        cross_attention_dim=WIDTH, num_layers=2, caption_channels=WIDTH,
    )  # fmt: skip
    torch.manual_seed(1)
    vae = AutoencoderKLLTXVideo(
        in_channels=3, out_channels=3, latent_channels=8, block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8), layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1), spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
        decoder_inject_noise=(False, False, False, False, False), upsample_residual=(False, False, False, False),
        upsample_factor=(1, 1, 1, 1), timestep_conditioning=False, patch_size=1, patch_size_t=1, encoder_causal=True,
        decoder_causal=False,
    )  # fmt: skip
    return tiny.quiet(
        LTXPipeline(
            transformer=transformer.eval(), vae=vae.eval(), scheduler=FlowMatchEulerDiscreteScheduler(),
            text_encoder=t5(), tokenizer=new_t5_tokenizer(),
        )
    )  # fmt: skip


def latte() -> LattePipeline:
    """Two blocks over the frame, each with one over time behind it."""
    torch.manual_seed(0)
    transformer = LatteTransformer3DModel(
        sample_size=16, num_layers=2, patch_size=2, attention_head_dim=8, num_attention_heads=4, caption_channels=WIDTH,
        in_channels=4, cross_attention_dim=WIDTH, out_channels=8, attention_bias=True,
        activation_fn="gelu-approximate", num_embeds_ada_norm=1000, norm_type="ada_norm_single",
        norm_elementwise_affine=False, norm_eps=1e-6,
    )  # fmt: skip
    return tiny.quiet(
        LattePipeline(
            transformer=transformer.eval(), vae=tiny.vae(), scheduler=DDIMScheduler(), text_encoder=t5(),
            tokenizer=new_t5_tokenizer(),
        )
    )  # fmt: skip


def qwen_vl(width: int, vocabulary: int) -> Qwen2_5_VLForConditionalGeneration:
    torch.manual_seed(2)
    return Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            text_config={
                "hidden_size": width, "intermediate_size": width, "num_hidden_layers": 2, "num_attention_heads": 2,
                "num_key_value_heads": 2, "vocab_size": vocabulary, "rope_theta": 1000000.0, "bos_token_id": None,
                "eos_token_id": None,
                "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"},
            },
            vision_config={
                "depth": 1, "hidden_size": width, "intermediate_size": width, "num_heads": 2, "out_hidden_size": width,
            },
            hidden_size=width, vocab_size=vocabulary,
        )
    ).eval()  # fmt: skip


def long_clip() -> CLIPTextModel:
    """Over as many tokens as CLIP reads."""
    torch.manual_seed(2)
    config = tiny.text_encoder(CLIPTextModel).config
    return CLIPTextModel(CLIPTextConfig(**(config.to_dict() | {"max_position_embeddings": 77}))).eval()


def kandinsky_5() -> Kandinsky5T2IPipeline:
    """One block that refines the text, two over the picture; it draws in small what it draws at one of seven sizes."""
    torch.manual_seed(0)
    transformer = Kandinsky5Transformer3DModel(
        in_visual_dim=4, in_text_dim=16, in_text_dim2=tiny.CONTEXT, time_dim=16, out_visual_dim=4, patch_size=(1, 2, 2),
        model_dim=16, ff_dim=32, num_text_blocks=1, num_visual_blocks=2, axes_dims=(2, 2, 4), visual_cond=False,
    )  # fmt: skip
    tokenizer = qwen_tokenizer()
    pipe = Kandinsky5T2IPipeline(
        transformer=awake(transformer, "modulation"), vae=tiny.vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0), text_encoder=qwen_vl(16, len(tokenizer)),
        tokenizer=tokenizer, text_encoder_2=long_clip(), tokenizer_2=new_tokenizer(),
    )  # fmt: skip
    pipe.resolutions = [(96, 64)]
    return tiny.quiet(pipe)


def chatglm_tokenizer() -> ChatGLMTokenizer:
    """SentencePiece over a few sentences."""
    folder = Path(tempfile.mkdtemp())
    with (folder / "tokenizer.model").open("wb") as file:
        SentencePieceTrainer.train(
            sentence_iterator=iter([*SENTENCES, "abcdefghijklmnopqrstuvwxyz"]), model_writer=file, vocab_size=80,
            hard_vocab_limit=False, minloglevel=2, character_coverage=1.0,
        )  # fmt: skip
    return ChatGLMTokenizer(str(folder / "tokenizer.model"))


def kolors() -> KolorsPipeline:
    """SDXL's UNet in small; ChatGLM pads on the left."""
    tokenizer = chatglm_tokenizer()
    torch.manual_seed(2)
    chatglm = ChatGLMModel(
        ChatGLMConfig(
            num_layers=2, padded_vocab_size=tokenizer.vocab_size, hidden_size=WIDTH, ffn_hidden_size=37, kv_channels=8,
            num_attention_heads=4, seq_length=512, original_rope=True,
        )
    )  # fmt: skip
    awake(chatglm, "")  # its weights are made of whatever the memory held
    unet = tiny.unet(
        sample_size=128, block_out_channels=(32, 32, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=16,
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + WIDTH, encoder_hid_dim=WIDTH, encoder_hid_dim_type="text_proj",
    )  # fmt: skip
    return tiny.quiet(
        KolorsPipeline(
            vae=tiny.vae(), text_encoder=chatglm, tokenizer=tokenizer, unet=unet, scheduler=tiny.scheduler(),
            force_zeros_for_empty_prompt=False,
        )
    )  # fmt: skip


def deepfloyd_if() -> IFPipeline:
    """Two levels; the picture itself is denoised, and the text is pooled into the time embedding as well."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=64, layers_per_block=1, block_out_channels=(32, 32, 32),
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        in_channels=3, out_channels=6, cross_attention_dim=WIDTH, encoder_hid_dim=WIDTH, attention_head_dim=8,
        addition_embed_type="text", addition_embed_type_num_heads=2, cross_attention_norm="group_norm",
        resnet_time_scale_shift="scale_shift", act_fn="gelu", norm_num_groups=8,
    )  # fmt: skip
    scheduler = DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", thresholding=True, prediction_type="epsilon", variance_type="learned_range"
    )
    return tiny.quiet(
        IFPipeline(
            tokenizer=new_t5_tokenizer(), text_encoder=t5(), unet=unet.eval(), scheduler=scheduler, safety_checker=None,
            feature_extractor=None, watermarker=None, requires_safety_checker=False,
        )
    )  # fmt: skip


def kandinsky_3() -> Kandinsky3Pipeline:
    """Three levels; the text is cut to the longest."""
    torch.manual_seed(0)
    unet = Kandinsky3UNet(
        in_channels=4, time_embedding_dim=8, groups=2, attention_head_dim=4, layers_per_block=2,
        block_out_channels=(16, 16, 16), cross_attention_dim=8, encoder_hid_dim=WIDTH,
    )  # fmt: skip
    torch.manual_seed(1)
    movq = VQModel(
        block_out_channels=(32, 32, 32, 32), down_block_types=("DownEncoderBlock2D",) * 4, latent_channels=4,
        layers_per_block=1, norm_num_groups=8, norm_type="spatial", num_vq_embeddings=12,
        up_block_types=("UpDecoderBlock2D",) * 4, vq_embed_dim=4,
    )  # fmt: skip
    return tiny.quiet(
        Kandinsky3Pipeline(
            tokenizer=new_t5_tokenizer(), text_encoder=t5(), unet=unet.eval(), scheduler=DDPMScheduler(),
            movq=movq.eval(),
        )
    )  # fmt: skip


def stable_cascade() -> StableCascadePriorPipeline:
    """The prior, which draws what the other stages make a picture of; two levels of one size."""
    torch.manual_seed(0)
    prior = StableCascadeUNet(
        conditioning_dim=16, block_out_channels=(16, 16), num_attention_heads=(2, 2), down_num_layers_per_block=(1, 1),
        up_num_layers_per_block=(1, 1), switch_level=(False,), clip_image_in_channels=8,
        clip_text_in_channels=tiny.CONTEXT, clip_text_pooled_in_channels=tiny.CONTEXT, dropout=(0.0, 0.0),
        timestep_ratio_embedding_dim=16,
    )  # fmt: skip
    return tiny.quiet(
        StableCascadePriorPipeline(
            tokenizer=new_tokenizer(), text_encoder=tiny.text_encoder(CLIPTextModelWithProjection),
            prior=awake(prior, "clf.1"), scheduler=DDPMWuerstchenScheduler(),
        )
    )  # fmt: skip


def dreamlite() -> DreamLitePipeline:
    """Two levels; a latent of zeros lies beside the picture's own."""
    torch.manual_seed(0)
    unet = DreamLiteUNetModel(
        sample_size=8, in_channels=4, out_channels=4,
        down_block_types=("DreamLiteCrossAttnNoSelfAttnDownBlock2D", "DreamLiteCrossAttnDownBlock2D"),
        up_block_types=("DreamLiteCrossAttnUpBlock2D", "DreamLiteUpBlock2D"), block_out_channels=(16, 32),
        cross_attention_dim=16, attention_head_dim=8, layers_per_block=1, norm_num_groups=8,
        transformer_layers_per_block=1,
    )  # fmt: skip
    torch.manual_seed(1)
    vae = AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1), latent_channels=4,
    )  # fmt: skip
    tokenizer = qwen_tokenizer()
    torch.manual_seed(2)
    qwen = Qwen3VLForConditionalGeneration(
        Qwen3VLConfig(
            text_config={
                "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
                "num_key_value_heads": 2, "vocab_size": len(tokenizer), "head_dim": 8,
                "rope_parameters": {"mrope_section": [1, 1, 2], "rope_type": "default", "rope_theta": 1000000.0},
            },
            vision_config={
                "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16,
            },
        )
    ).eval()  # fmt: skip
    return tiny.quiet(
        DreamLitePipeline(
            text_encoder=qwen, tokenizer=tokenizer, processor=tokenizer, vae=vae.eval(), unet=unet.eval(),
            scheduler=FlowMatchEulerDiscreteScheduler(),
        )
    )  # fmt: skip


FAMILIES = {
    "Hunyuan-DiT": hunyuan_dit,
    "Lumina-Next": lumina,
    "Kandinsky 5": kandinsky_5,
    "Wan": wan,
    "Cosmos 2": cosmos,
    "LTX-Video": ltx,
    "Latte": latte,
    "Kolors": kolors,
    "DeepFloyd IF": deepfloyd_if,
    "Kandinsky 3": kandinsky_3,
    "Stable Cascade": stable_cascade,
    "DreamLite": dreamlite,
}
"""Family -> a tiny pipeline of it."""

SMALL: dict[str, dict[str, Any]] = {
    "Hunyuan-DiT": {"height": 64, "width": 96, "use_resolution_binning": False},
    "Lumina-Next": {"height": 64, "width": 96, "clean_caption": False},
    "Kandinsky 5": {"height": 64, "width": 96, "negative_prompt": "a dog and a very red car"},
    "Wan": {"height": 48, "width": 64, "num_frames": 1, "max_sequence_length": 16, "negative_prompt": "a dog"},
    "Cosmos 2": {"height": 48, "width": 64, "max_sequence_length": 16, "negative_prompt": "a dog"},
    "LTX-Video": {"height": 32, "width": 64, "num_frames": 1, "max_sequence_length": 16},
    "Latte": {"height": 64, "width": 96, "video_length": 1, "clean_caption": False},
    "Kolors": {"height": 128, "width": 192, "max_sequence_length": 64},
    "DeepFloyd IF": {"height": 16, "width": 24, "output_type": "pt", "clean_caption": False},
    "Kandinsky 3": {"height": 128, "width": 192},
    "Stable Cascade": {"height": 256, "width": 384},
    "DreamLite": {"height": 16, "width": 24},
}
"""Not square, and guided."""

SIDES = {"Kandinsky 3": (128, 192)}
"""Height and width of those that draw larger pictures alone."""

SIZES: dict[str, dict[str, Any]] = {
    "Hunyuan-DiT": {"diffusers.pipelines.hunyuandit.pipeline_hunyuandit.SUPPORTED_SHAPE": [(64, 96)]},
    "Kandinsky 5": {"resolutions": [(96, 64)]},
}
"""What says which sizes there are, of a module or of the pipeline -> small ones."""

UNSAVED = {"Cosmos 2": "its safety checker is a package of its own, which is not installed here"}
