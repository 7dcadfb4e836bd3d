"""Tiny modular pipelines: diffusers' own blocks over the parts of the tiny ordinary ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diffusers import (
    FluxModularPipeline,
    QwenImageModularPipeline,
    StableDiffusion3ModularPipeline,
    StableDiffusionXLModularPipeline,
    ZImageModularPipeline,
)

import tiny
import tiny_transformers as transformers

CLASSES: dict[str, tuple[type, Callable[[], Any]]] = {
    "SDXL": (StableDiffusionXLModularPipeline, tiny.stable_diffusion_xl),
    "Stable Diffusion 3": (StableDiffusion3ModularPipeline, transformers.stable_diffusion_3),
    "FLUX": (FluxModularPipeline, transformers.flux),
    "Qwen-Image": (QwenImageModularPipeline, transformers.qwen_image),
    "Z-Image": (ZImageModularPipeline, transformers.z_image),
}
"""Name -> the modular class, and what makes an ordinary pipeline of the same parts."""
SMALL: dict[str, dict[str, Any]] = {
    "SDXL": {"height": 128, "width": 192},
    "Stable Diffusion 3": {"height": 32, "width": 48, "max_sequence_length": 16},
    "FLUX": {"height": 32, "width": 48, "max_sequence_length": 16},
    "Qwen-Image": {"height": 32, "width": 48},
    "Z-Image": {"height": 32, "width": 48, "max_sequence_length": 64},
}
"""Options that draw a small picture, not square, that ordinary pipelines take as well."""


def modular(kind: type, parts: dict[str, Any], **guider: Any) -> Any:
    """A modular pipeline of these parts, its blocks its own; guider: another one than its blocks'."""
    pipe = kind()
    held = pipe.component_names
    pipe.update_components(**{name: part for name, part in (parts | guider).items() if name in held and part})
    if getattr(pipe, "guider", None) is not None:
        pipe.guider.enable()
    for block in leaves(pipe._blocks):
        if hasattr(block, "set_progress_bar_config"):
            block.set_progress_bar_config(disable=True)
    return pipe


def leaves(block: Any) -> list[Any]:
    """A block and all below it."""
    inner = getattr(block, "sub_blocks", None) or {}
    return [block, *(leaf for one in inner.values() for leaf in leaves(one))]
