"""The add-ons people use with diffusers' pipelines: each puts itself on a tiny pipeline, and says how it is called."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import accelerate
import diffusers
import numpy as np
import tomesd
import torch
from optimum import quanto
from peft import LoraConfig, inject_adapter_in_model
from PIL import Image
from torch import Tensor, nn
from torchao.quantization import Int8WeightOnlyConfig, quantize_

import tiny
import tiny_transformers
from attnreg.attention.families import family_of
from caches import STEPS, cache, deep_cache, faster_cache, mag_cache, pyramid_attention_broadcast

PROMPT = "a cat and a blue balloon"


def unet_pipeline() -> Any:
    """Two levels: what is tried here does not depend on how many there are."""
    return tiny.stable_diffusion(
        sample_size=16,
        block_out_channels=(32, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )


MODELS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "UNet": (unet_pipeline, {"height": 64, "width": 96}),
    "PixArt": (
        tiny_transformers.pixart,
        {"height": 64, "width": 96, "max_sequence_length": 16, "use_resolution_binning": False, "clean_caption": False},
    ),
    "FLUX": (
        tiny_transformers.flux,
        {"height": 32, "width": 48, "max_sequence_length": 16, "true_cfg_scale": 2.0, "negative_prompt": "a dog"},
    ),
}
"""One of each kind of attention to the text: a UNet, cross-attention in a transformer, joint attention."""
OTHERS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "Sana": (
        tiny_transformers.sana, {"height": 32, "width": 64, "max_sequence_length": 48, "use_resolution_binning": False}
    ),
}  # fmt: skip
"""Where diffusers has an add-on for another model of a kind."""
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8))
CPU = torch.device("cpu")
Options = dict[str, Any]


class AddOn(NamedTuple):
    """How an add-on is put on a pipeline."""

    put_on: Callable[[Any, Options], Any]
    """Given the pipeline and the options of its call, which it may change; returns another pipeline, or `None`."""
    models: tuple[str, ...] = tuple(MODELS)
    """Those for which diffusers, or the package, has it."""
    skips: tuple[str, ...] = ()
    """Those of which it leaves out attention to the text, in some layers and steps."""

    @property
    def steps(self) -> int:
        """How many are drawn: a cache needs some to leave something out."""
        return STEPS if self.skips else 3


def denoiser(pipe: Any) -> Any:
    return family_of(pipe)[1]


def lora(pipe: Any, options: Options) -> None:
    config = LoraConfig(r=4, init_lora_weights=False, target_modules=["to_q", "to_k", "to_v"])
    torch.manual_seed(8)
    inject_adapter_in_model(config, denoiser(pipe))


def ip_adapter(pipe: Any, options: Options, count: int = 1) -> None:
    """Loaded by diffusers' own code, from random weights in the published layout."""
    torch.manual_seed(4)
    model = denoiser(pipe)
    joint = not hasattr(pipe, "unet")
    width = model.config.joint_attention_dim if joint else model.config.cross_attention_dim
    weights: dict[str, Tensor] = {}
    names = [name for name in model.attn_processors if ".attn2." in name or name.startswith("transformer_blocks")]
    # The published files number a UNet's cross-attention layers 1, 3, 5, ... in the order of its processors.
    for number, name in enumerate(names):
        inner = model.get_submodule(name.removesuffix(".processor")).to_k.weight.shape[0]
        for part in ("to_k_ip", "to_v_ip"):
            key = f"{number if joint else 2 * number + 1}.{part}"
            weights |= {f"{key}.weight": torch.randn(inner, width), f"{key}.bias": torch.zeros(inner)}
    projection = {
        "proj.weight": torch.randn(4 * width, width),
        "proj.bias": torch.zeros(4 * width),
        "norm.weight": torch.ones(width),
        "norm.bias": torch.zeros(width),
    }
    model._load_ip_adapter_weights([{"image_proj": projection, "ip_adapter": weights}] * count)
    rows = 1 if joint else 2
    options["ip_adapter_image_embeds"] = [torch.randn(rows, 1, width)]
    if joint:
        options["negative_ip_adapter_image_embeds"] = [torch.randn(rows, 1, width)]


def control_net(pipe: Any, options: Options) -> Any:
    parts = dict(pipe.components)
    if hasattr(pipe, "unet"):
        options["image"] = PICTURE
        parts["controlnet"] = tiny.controlnet(pipe.unet)
        return diffusers.StableDiffusionControlNetPipeline(**parts, requires_safety_checker=False)
    options["control_image"] = PICTURE.resize((options["width"], options["height"]))
    if isinstance(pipe, diffusers.SanaPipeline):
        torch.manual_seed(3)
        config = {key: value for key, value in pipe.transformer.config.items() if not key.startswith("_")}
        del config["guidance_embeds"], config["guidance_embeds_scale"], config["qk_norm"], config["timestep_scale"]
        parts["controlnet"] = diffusers.SanaControlNetModel(**config | {"num_layers": 1}).eval()
        return diffusers.SanaControlNetPipeline(**parts)
    torch.manual_seed(3)
    config = {key: pipe.transformer.config[key] for key in (
        "patch_size", "in_channels", "attention_head_dim", "num_attention_heads", "joint_attention_dim",
        "pooled_projection_dim", "axes_dims_rope",
    )}  # fmt: skip
    net = diffusers.FluxControlNetModel(num_layers=1, num_single_layers=1, **config).eval()
    for weights in (*net.controlnet_blocks.parameters(), *net.controlnet_single_blocks.parameters()):
        nn.init.normal_(weights, std=0.2)
    parts["controlnet"] = net
    return diffusers.FluxControlNetPipeline(**_without_pictures(parts))


def _without_pictures(parts: dict[str, Any]) -> dict[str, Any]:
    return {name: part for name, part in parts.items() if name not in ("image_encoder", "feature_extractor")}


def img2img(pipe: Any, options: Options) -> Any:
    options |= {"image": PICTURE, "strength": 0.5, "num_inference_steps": 2 * options["num_inference_steps"]}
    if hasattr(pipe, "unet"):
        del options["height"], options["width"]
        return diffusers.StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)
    return diffusers.FluxImg2ImgPipeline(**_without_pictures(pipe.components))


def inpaint(pipe: Any, options: Options) -> Any:
    options |= {"image": PICTURE, "mask_image": PICTURE.convert("L")}
    if hasattr(pipe, "unet"):
        return diffusers.StableDiffusionInpaintPipeline(**pipe.components, requires_safety_checker=False)
    options |= {"strength": 1.0}
    return diffusers.FluxInpaintPipeline(**_without_pictures(pipe.components))


def compiled(pipe: Any, options: Options) -> None:
    denoiser(pipe).compile(backend="eager")


def compiled_blocks(pipe: Any, options: Options, fullgraph: bool = False) -> None:
    model = denoiser(pipe)
    if getattr(model, "_repeated_blocks", None):
        model.compile_repeated_blocks(backend="eager", fullgraph=fullgraph)
    else:
        for block in model.transformer_blocks:
            block.compile(backend="eager", fullgraph=fullgraph)


def model_offload(pipe: Any, options: Options) -> None:
    pipe.enable_model_cpu_offload(device="cpu")


def sequential_offload(pipe: Any, options: Options) -> None:
    """As `enable_sequential_cpu_offload` does to each model; to text encoders accelerate cannot without a GPU."""
    accelerate.cpu_offload(denoiser(pipe), execution_device=CPU)


def group_offload(kind: str) -> Callable[[Any, Options], None]:
    def put_on(pipe: Any, options: Options) -> None:
        groups = {"num_blocks_per_group": 1} if kind == "block_level" else {}
        denoiser(pipe).enable_group_offload(onload_device=CPU, offload_device=CPU, offload_type=kind, **groups)

    return put_on


def layerwise_casting(pipe: Any, options: Options) -> None:
    denoiser(pipe).enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)


def vae_slices_and_tiles(pipe: Any, options: Options) -> None:
    pipe.vae.enable_slicing()
    pipe.vae.enable_tiling()
    options["output_type"] = "pt"


def torchao_int8(pipe: Any, options: Options) -> None:
    quantize_(denoiser(pipe), Int8WeightOnlyConfig())


def quanto_int8(pipe: Any, options: Options) -> None:
    quanto.quantize(denoiser(pipe), weights=quanto.qint8)
    quanto.freeze(denoiser(pipe))


def fused_qkv(pipe: Any, options: Options) -> None:
    denoiser(pipe).fuse_qkv_projections()


def callbacks(pipe: Any, options: Options) -> None:
    def louder(pipe: Any, step: int, time: Any, values: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"latents": values["latents"] * 1.01}

    if "callback_on_step_end" in inspect.signature(pipe.__call__).parameters:
        options["callback_on_step_end"] = louder
    else:
        options["callback"] = lambda step, time, latents: latents.mul_(1.01)


def attention_slicing(pipe: Any, options: Options) -> None:
    pipe.enable_attention_slicing(1)


def tome(pipe: Any, options: Options) -> None:
    tomesd.apply_patch(pipe, ratio=0.5, use_rand=False)


ADD_ONS: dict[str, AddOn] = {
    "LoRA": AddOn(lora),
    "IP-Adapter": AddOn(ip_adapter, ("UNet", "FLUX")),
    "ControlNet": AddOn(control_net, ("UNet", "Sana", "FLUX")),
    "img2img": AddOn(img2img, ("UNet", "FLUX")),
    "inpainting": AddOn(inpaint, ("UNet", "FLUX")),
    "torch.compile": AddOn(compiled),
    "torch.compile of blocks": AddOn(compiled_blocks),
    "model offload": AddOn(model_offload),
    "sequential offload": AddOn(sequential_offload),
    "group offload, blocks": AddOn(group_offload("block_level")),
    "group offload, leaves": AddOn(group_offload("leaf_level")),
    "layerwise casting": AddOn(layerwise_casting),
    "VAE slicing and tiling": AddOn(vae_slices_and_tiles),
    "int8 by torchao": AddOn(torchao_int8),
    "int8 by quanto": AddOn(quanto_int8),
    "First Block Cache": AddOn(cache(lambda _: diffusers.FirstBlockCacheConfig(threshold=10.0)), ("FLUX",), ("FLUX",)),
    "TaylorSeer": AddOn(
        cache(lambda _: diffusers.TaylorSeerCacheConfig(cache_interval=2, disable_cache_before_step=2)),
        ("FLUX",),
        ("FLUX",),
    ),
    "MagCache": AddOn(mag_cache, ("PixArt", "FLUX"), ("PixArt", "FLUX")),
    "Pyramid Attention Broadcast": AddOn(pyramid_attention_broadcast, skips=tuple(MODELS)),
    "FasterCache": AddOn(faster_cache, ("PixArt", "FLUX"), ("FLUX",)),
    "DeepCache": AddOn(deep_cache, ("UNet",), ("UNet",)),
    "fused QKV": AddOn(fused_qkv),
    "callbacks": AddOn(callbacks),
    "attention slicing": AddOn(attention_slicing, ("PixArt", "FLUX")),
    "token merging": AddOn(tome, ("UNet",)),
}  # fmt: skip


def built(name: str, model: str, regulated: Callable[[Any], None] = lambda _: None) -> tuple[Any, Options]:
    """A tiny pipeline with an add-on, and the options of its call; `regulated` is done to it before."""
    make, base = (MODELS | OTHERS)[model]
    pipe, options = make(), {"num_inference_steps": ADD_ONS[name].steps, "output_type": "latent"} | base
    regulated(pipe)
    other = ADD_ONS[name].put_on(pipe, options)
    return (pipe if other is None else tiny.quiet(other)), options


def draw(pipe: Any, options: Options, prompt: Any = PROMPT) -> Tensor:
    images: Tensor = pipe(prompt, generator=torch.Generator().manual_seed(0), **options).images
    return images
