"""Add-ons that a kind of model has not: diffusers, or the package, has none for it, with a regulation or without.

Each is tried without one. Where such a test fails, there is an add-on to be tried in `test_add_ons.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import pytest
from diffusers.hooks import apply_first_block_cache, apply_mag_cache, apply_taylorseer_cache

from add_ons import MODELS, Options, denoiser, draw, tome
from caches import STEPS, deep_cache, faster_cache


def ip_adapter(pipe: Any, options: Options) -> None:
    pipe.load_ip_adapter("somewhere")


def img2img(pipe: Any, options: Options) -> None:
    diffusers.AutoPipelineForImage2Image.from_pipe(pipe)


def inpaint(pipe: Any, options: Options) -> None:
    diffusers.AutoPipelineForInpainting.from_pipe(pipe)


def first_block_cache(pipe: Any, options: Options) -> None:
    apply_first_block_cache(denoiser(pipe), diffusers.FirstBlockCacheConfig(threshold=10.0))


def taylor_seer(pipe: Any, options: Options) -> None:
    """On every layer over the text, which are not among those that it takes by itself."""
    config = diffusers.TaylorSeerCacheConfig(cache_interval=2, cache_identifiers=[r".*attn2"])
    apply_taylorseer_cache(denoiser(pipe), config)


def mag_cache(pipe: Any, options: Options) -> None:
    apply_mag_cache(denoiser(pipe), diffusers.MagCacheConfig(mag_ratios=[1.0] * STEPS, num_inference_steps=STEPS))
    hooked = [name for name, module in denoiser(pipe).named_modules() if name and hasattr(module, "_diffusers_hook")]
    raise LookupError(f"hooked: {hooked}")


Missing = tuple[Callable[[Any, Options], None], type[Exception], str]
"""What is tried, and how diffusers or the package says that it has it not."""
NO_CONTEXT: tuple[type[Exception], str] = (ValueError, "No cache context is set")
MISSING: dict[str, Missing] = {
    "IP-Adapter-PixArt": (ip_adapter, AttributeError, "load_ip_adapter"),
    "img2img-PixArt": (img2img, ValueError, "can't find a pipeline linked to"),
    "inpainting-PixArt": (inpaint, ValueError, "can't find a pipeline linked to"),
    "First Block Cache-UNet": (first_block_cache, IndexError, "pop from empty list"),
    "First Block Cache-PixArt": (first_block_cache, *NO_CONTEXT),
    "TaylorSeer-UNet": (taylor_seer, *NO_CONTEXT),
    "TaylorSeer-PixArt": (taylor_seer, *NO_CONTEXT),
    "MagCache-UNet": (mag_cache, LookupError, r"^hooked: \[\]$"),
    "FasterCache-UNet": (faster_cache, RuntimeError, "chunk expects at least a 1-dimensional tensor"),
    "DeepCache-PixArt": (deep_cache, AttributeError, "'unet'"),
    "DeepCache-FLUX": (deep_cache, AttributeError, "'unet'"),
    "token merging-PixArt": (tome, AttributeError, "named_modules"),
    "token merging-FLUX": (tome, AttributeError, "named_modules"),
}


@pytest.mark.parametrize("case", MISSING, ids=list(MISSING))
@pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")  # FasterCache's
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # that of all its pipelines
def test_there_is_none(case: str) -> None:
    put_on, error, words = MISSING[case]
    make, base = MODELS[case.rsplit("-", 1)[1]]
    pipe, options = make(), {"num_inference_steps": STEPS, "output_type": "latent"} | base

    def tried() -> None:
        put_on(pipe, options)
        draw(pipe, options)

    with pytest.raises(error, match=words):
        tried()
