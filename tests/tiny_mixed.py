"""Tiny randomly initialised pipelines of the families in `attention/families/mixed.py`, from their own classes."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AdaptiveProjectedMixGuidance,
    AuraFlowPipeline,
    AuraFlowTransformer2DModel,
    AutoencoderKLHunyuanImage,
    CogVideoXDDIMScheduler,
    CogView3PlusPipeline,
    CogView3PlusTransformer2DModel,
    CogView4Pipeline,
    CogView4Transformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    HiDreamImagePipeline,
    HiDreamImageTransformer2DModel,
    HunyuanImagePipeline,
    HunyuanImageTransformer2DModel,
    Lumina2Pipeline,
    Lumina2Transformer2DModel,
    NucleusMoEImagePipeline,
    NucleusMoEImageTransformer2DModel,
    PRXPixelPipeline,
    PRXTransformer2DModel,
)
from tokenizers.processors import TemplateProcessing
from transformers import (
    ByT5Tokenizer,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    GlmConfig,
    GlmForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3Model,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

import tiny
import tiny_transformers
from tiny_transformers import WIDTH, qwen_tokenizer, t5, transformer_vae
from training.tokenizer import new_t5_tokenizer, new_tokenizer


def byte_pairs(start: str, **settings: Any) -> PreTrainedTokenizerFast:
    """The byte pairs of `qwen_tokenizer` behind a token that begins every text."""
    learnt = qwen_tokenizer().backend_tokenizer
    learnt.add_special_tokens([start])
    learnt.post_processor = TemplateProcessing(
        single=f"{start} $A", special_tokens=[(start, learnt.token_to_id(start))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=learnt, bos_token=start, **settings)


def aura_flow() -> AuraFlowPipeline:
    """One joint and one single block, eight registers."""
    torch.manual_seed(0)
    transformer = AuraFlowTransformer2DModel(
        sample_size=32, patch_size=2, in_channels=4, out_channels=4, num_mmdit_layers=1, num_single_dit_layers=1,
        attention_head_dim=8, num_attention_heads=4, caption_projection_dim=WIDTH, joint_attention_dim=WIDTH,
        pos_embed_max_size=1024,
    )  # fmt: skip
    size = len(new_t5_tokenizer())
    torch.manual_seed(3)
    encoder = UMT5EncoderModel(
        UMT5Config(vocab_size=size, d_model=WIDTH, d_kv=8, d_ff=37, num_layers=2, num_heads=4, dropout_rate=0.0)
    )
    return tiny.quiet(
        AuraFlowPipeline(
            tokenizer=new_t5_tokenizer(), text_encoder=encoder.eval(), vae=transformer_vae(4),
            transformer=transformer.eval(), scheduler=FlowMatchEulerDiscreteScheduler(),
        )
    )  # fmt: skip


def cogview3() -> CogView3PlusPipeline:
    """Two blocks, a diffusion schedule."""
    torch.manual_seed(0)
    transformer = CogView3PlusTransformer2DModel(
        patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=2,
        text_embed_dim=WIDTH, time_embed_dim=8, condition_dim=2, pos_embed_max_size=32, sample_size=16,
    )  # fmt: skip
    return tiny.quiet(
        CogView3PlusPipeline(
            tokenizer=new_t5_tokenizer(), text_encoder=t5(), vae=transformer_vae(4), transformer=transformer.eval(),
            scheduler=CogVideoXDDIMScheduler(),
        )
    )  # fmt: skip


def cogview4() -> CogView4Pipeline:
    """Two blocks; prompts are filled up on the left."""
    torch.manual_seed(0)
    transformer = CogView4Transformer2DModel(
        patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=2,
        text_embed_dim=WIDTH, time_embed_dim=8, condition_dim=4, sample_size=16,
    )  # fmt: skip
    tokenizer = byte_pairs("<sop>", pad_token="<|im_end|>", padding_side="left", model_max_length=1024)
    torch.manual_seed(2)
    encoder = GlmForCausalLM(
        GlmConfig(
            hidden_size=WIDTH, intermediate_size=8, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            head_dim=8, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, eos_token_id=None,
        )
    )  # fmt: skip
    return tiny.quiet(
        CogView4Pipeline(
            tokenizer=tokenizer, text_encoder=encoder.eval(), vae=transformer_vae(4), transformer=transformer.eval(),
            scheduler=FlowMatchEulerDiscreteScheduler(
                base_shift=0.25, max_shift=0.75, base_image_seq_len=256, use_dynamic_shifting=True,
                time_shift_type="linear",
            ),
        )
    )  # fmt: skip


def hunyuan_image() -> HunyuanImagePipeline:
    """One double and one single block behind a refiner of the text; what is quoted is read letter by letter."""
    torch.manual_seed(0)
    transformer = HunyuanImageTransformer2DModel(
        in_channels=4, out_channels=4, num_attention_heads=4, attention_head_dim=8, num_layers=1, num_single_layers=1,
        num_refiner_layers=1, patch_size=(1, 1), text_embed_dim=16, text_embed_2_dim=WIDTH, rope_axes_dim=(4, 4),
    )  # fmt: skip
    torch.manual_seed(1)
    vae = AutoencoderKLHunyuanImage(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(32, 32, 32, 32), layers_per_block=1,
        scaling_factor=0.476986, spatial_compression_ratio=8, sample_size=128,
    )  # fmt: skip
    torch.manual_seed(3)
    letters = T5EncoderModel(
        T5Config(vocab_size=384, d_model=WIDTH, d_kv=8, d_ff=16, num_layers=1, num_heads=2, dropout_rate=0.0)
    )
    tokenizer = qwen_tokenizer()
    pipe = HunyuanImagePipeline(
        # What the last but two of its layers make of the text is taken.
        text_encoder=tiny_transformers.qwen_2_5_vl(len(tokenizer), layers=4), tokenizer=tokenizer,
        text_encoder_2=letters.eval(),
        tokenizer_2=ByT5Tokenizer(), vae=vae.eval(), transformer=transformer.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        guider=AdaptiveProjectedMixGuidance(adaptive_projected_guidance_start_step=1),
        ocr_guider=AdaptiveProjectedMixGuidance(adaptive_projected_guidance_start_step=1),
    )  # fmt: skip
    pipe.tokenizer_max_length, pipe.tokenizer_2_max_length = 96, 32
    return tiny.quiet(pipe)


def lumina2() -> Lumina2Pipeline:
    """Two layers behind refiners; Gemma reads what it is for before the prompt."""
    torch.manual_seed(0)
    transformer = Lumina2Transformer2DModel(
        sample_size=16, patch_size=2, in_channels=4, hidden_size=16, num_layers=2, num_refiner_layers=1,
        num_attention_heads=2, num_kv_heads=1, multiple_of=16, norm_eps=1e-5, axes_dim_rope=(4, 2, 2), cap_feat_dim=16,
    )  # fmt: skip
    tokenizer = tiny_transformers.gemma_tokenizer()
    torch.manual_seed(2)
    encoder = Gemma2Model(
        Gemma2Config(
            head_dim=8, hidden_size=16, intermediate_size=32, num_attention_heads=2, num_hidden_layers=2,
            num_key_value_heads=2, vocab_size=len(tokenizer), attn_implementation="eager",
        )
    )  # fmt: skip
    return tiny.quiet(
        Lumina2Pipeline(
            tokenizer=tokenizer, text_encoder=encoder.eval(), vae=transformer_vae(4, 4), transformer=transformer.eval(),
            scheduler=FlowMatchEulerDiscreteScheduler(),
        )
    )  # fmt: skip


def long_clip() -> CLIPTextModelWithProjection:
    """One that reads 128 tokens."""
    tokenizer = new_tokenizer()
    torch.manual_seed(2)
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=37, num_hidden_layers=1,
            num_attention_heads=4, max_position_embeddings=128, projection_dim=WIDTH,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    ).eval()  # fmt: skip


def hidream() -> HiDreamImagePipeline:
    """One double and one single block with experts; T5 and two layers of Llama."""
    torch.manual_seed(0)
    transformer = HiDreamImageTransformer2DModel(
        patch_size=4, in_channels=4, out_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=8,
        num_attention_heads=2, caption_channels=[WIDTH, 16], text_emb_dim=2 * WIDTH, num_routed_experts=2,
        num_activated_experts=1, axes_dims_rope=(4, 2, 2), max_resolution=(128, 128), llama_layers=[0, 1],
    )  # fmt: skip
    llama_tokenizer = byte_pairs("<|begin|>", eos_token="<|im_end|>", model_max_length=512)
    torch.manual_seed(4)
    llama = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
            vocab_size=len(llama_tokenizer), max_position_embeddings=512, attn_implementation="eager",
            bos_token_id=llama_tokenizer.bos_token_id, eos_token_id=llama_tokenizer.eos_token_id,
        )
    )  # fmt: skip
    pipe = HiDreamImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(), vae=transformer_vae(4, 1), text_encoder=long_clip(),
        tokenizer=new_tokenizer(), text_encoder_2=long_clip(), tokenizer_2=new_tokenizer(), text_encoder_3=t5(),
        tokenizer_3=new_t5_tokenizer(), text_encoder_4=llama.eval(), tokenizer_4=llama_tokenizer,
        transformer=transformer.eval(),
    )  # fmt: skip
    pipe.default_sample_size = 32  # the pipeline draws as many pixels as a square of this side has, whatever is asked
    return tiny.quiet(pipe)


def prx_transformer(channels: int, side: int, width: int, **settings: Any) -> PRXTransformer2DModel:
    """Two blocks, whose modulation is not zero as it is made."""
    torch.manual_seed(0)
    transformer = PRXTransformer2DModel(
        in_channels=channels, patch_size=side, context_in_dim=width, hidden_size=16, mlp_ratio=2.0, num_heads=2,
        depth=2, axes_dim=[4, 4], **settings,
    )  # fmt: skip
    for block in transformer.blocks:
        torch.nn.init.normal_(block.modulation.lin.weight, std=0.2)
        torch.nn.init.normal_(block.modulation.lin.bias, std=0.5)
    return transformer.eval()


def qwen3(tokenizer: Any) -> Qwen3Model:
    """Two layers."""
    torch.manual_seed(2)
    return Qwen3Model(
        Qwen3Config(
            hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
            vocab_size=len(tokenizer), max_position_embeddings=512,
        )
    ).eval()  # fmt: skip


def prx_pixel() -> PRXPixelPipeline:
    """The one without an autoencoder: it denoises the picture itself."""
    tokenizer = qwen_tokenizer()
    return tiny.quiet(
        PRXPixelPipeline(
            transformer=prx_transformer(3, 32, 16, bottleneck_size=8, resolution_embeds=True),
            scheduler=FlowMatchEulerDiscreteScheduler(), text_encoder=qwen3(tokenizer), tokenizer=tokenizer,
            prompt_max_tokens=64,
        )
    )  # fmt: skip


def qwen3_vl(tokenizer: Any) -> Qwen3VLForConditionalGeneration:
    """Eight layers, of which NucleusMoE takes the first one's output."""
    torch.manual_seed(2)
    return Qwen3VLForConditionalGeneration(
        Qwen3VLConfig(
            text_config={
                "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 8, "num_attention_heads": 2,
                "num_key_value_heads": 2, "vocab_size": len(tokenizer), "rope_theta": 1000000.0, "head_dim": 8,
                "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"},
            },
            vision_config={
                "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16,
            },
        )
    ).eval()  # fmt: skip


def nucleus() -> NucleusMoEImagePipeline:
    """One dense block and one with experts."""
    torch.manual_seed(0)
    transformer = NucleusMoEImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=4,
        num_key_value_heads=2, joint_attention_dim=16, axes_dims_rope=(8, 4, 4), moe_enabled=True,
        dense_moe_strategy="leave_first_block_dense", num_experts=2, moe_intermediate_dim=16, capacity_factors=2.0,
    )  # fmt: skip
    for weights in transformer.transformer_blocks[1].img_mlp.experts.parameters():  # whatever the memory held
        torch.nn.init.normal_(weights, std=0.1)
    read = tiny_transformers.qwen_image()
    tokenizer = read.tokenizer
    return tiny.quiet(
        NucleusMoEImagePipeline(
            transformer=transformer.eval(), scheduler=FlowMatchEulerDiscreteScheduler(), vae=read.vae,
            text_encoder=qwen3_vl(tokenizer), processor=Processor(tokenizer),
        )
    )  # fmt: skip


class Processor:
    """Stands for a processor of pictures and texts, which asks for torchvision: the text's part of it."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def apply_chat_template(self, messages: Any, tokenize: bool = False, **settings: Any) -> Any:
        """As the tokenizer does, the parts of a message being its text; tokens are of a batch of one."""
        flat = [{"role": one["role"], "content": _text_of(one["content"])} for one in messages]
        made = self.tokenizer.apply_chat_template(flat, tokenize=tokenize, **settings)
        return [made] if tokenize else made

    def __call__(self, text: list[str], **settings: Any) -> Any:
        """Tokens."""
        return self.tokenizer(text, **settings)


def _text_of(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


FAMILIES = {
    "AuraFlow": aura_flow,
    "CogView3+": cogview3,
    "CogView4": cogview4,
    "HunyuanImage": hunyuan_image,
    "Lumina 2": lumina2,
    "HiDream": hidream,
    "PRX": prx_pixel,
    "NucleusMoE": nucleus,
}
"""Family -> a tiny pipeline of it."""
SMALL: dict[str, dict[str, Any]] = {
    "AuraFlow": {"height": 32, "width": 48, "max_sequence_length": 16},
    "CogView3+": {"height": 32, "width": 48, "max_sequence_length": 16, "negative_prompt": "a dog"},
    "CogView4": {"height": 32, "width": 48, "negative_prompt": "a dog"},
    "HunyuanImage": {"height": 32, "width": 48, "negative_prompt": "a dog"},
    "Lumina 2": {"height": 32, "width": 64},
    "HiDream": {"height": 24, "width": 40, "max_sequence_length": 32},
    "PRX": {"height": 64, "width": 96, "use_resolution_binning": False},
    "NucleusMoE": {"height": 32, "width": 48, "negative_prompt": "a dog and a very red car"},
}
"""Not square, and guided."""
TOGETHER = {"PRX": {"guidance_scale": 1.0}}
"""Its pipelines repeat the time step twice, whatever the batch: guided, they take one prompt at a time."""
SIDES = {"HiDream": (24, 40)}
"""It draws as many pixels as a square of its own side has: the nearest to the shape that is asked for."""
SIZES = {"HiDream": {"default_sample_size": 32}}
"""What says which sizes there are -> small ones."""
UNSAVED = {"NucleusMoE": "its processor needs torchvision, which is not installed here"}
"""Why a pipeline cannot be saved and loaded here."""
