"""One table of the model families that can be regulated: which module denoises, where text meets image.

A new family is one row of `FAMILIES`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from attnreg.types import AttnregError

REFERENCE_SIDE = 16
"""Side of the maps that the published method regulates: 16 x 16 at 512 x 512 pixels."""


@dataclass(frozen=True)
class Family:
    """How one kind of denoiser is built."""

    denoiser: str
    """The pipeline's attribute that holds it."""
    model: str
    """Name of its class."""
    is_text_attention: Callable[[str, nn.Module], bool]
    """Whether a named module is one in which image positions look at text."""
    default_layers: Callable[[nn.Module, Sequence[str]], list[str]]
    """Which of those layers "auto" means."""
    image_attention: Callable[[str], str]
    """The name of the layer beside one of them in which image positions look at one another, on the same map."""


def unet_level(name: str, levels: int) -> int:
    """How many times the UNet has halved the latent where the named module works."""
    if block := re.match(r"(down|up)_blocks\.(\d+)\.", name):
        index = int(block[2])
        return index if block[1] == "down" else levels - 1 - index
    return levels - 1


def layers_nearest_reference(unet: nn.Module, names: Sequence[str]) -> list[str]:
    """The layers of the down and up blocks whose maps are nearest to the published 16 x 16, at the model's own size.

    In Stable Diffusion 1 and 2 these are the published `down_blocks.2` and `up_blocks.1`; in SDXL the 32 x 32 layers.
    The rule needs no name, so it carries over to UNets of any depth.
    """
    config: Any = unet.config
    levels = len(config.block_out_channels)
    size = config.sample_size or REFERENCE_SIDE * 4
    height, width = (size, size) if isinstance(size, int) else size
    by_level: dict[int, list[str]] = {}
    for name in names:
        if not name.startswith("mid_block"):
            by_level.setdefault(unet_level(name, levels), []).append(name)
    if not by_level:
        return list(names)
    return by_level[
        min(by_level, key=lambda level: abs(math.log2(height * width) / 2 - level - math.log2(REFERENCE_SIDE)))
    ]


def is_unet_cross_attention(name: str, module: nn.Module) -> bool:
    """Whether the module is an attention of a UNet's transformer block that attends to the text.

    The second one, and the first as well in a UNet of `only_cross_attention`.
    """
    return name.endswith((".attn1", ".attn2")) and bool(getattr(module, "is_cross_attention", False))


def unet_self_attention(name: str) -> str:
    """The first attention of the transformer block whose second one is named."""
    return re.sub(r"\.attn2$", ".attn1", name)


FAMILIES = (
    Family(
        denoiser="unet",
        model="UNet2DConditionModel",
        is_text_attention=is_unet_cross_attention,
        default_layers=layers_nearest_reference,
        image_attention=unet_self_attention,
    ),
)
"""Stable Diffusion 1.x and 2.x, SDXL, and every pipeline around their UNets (img2img, inpaint, ControlNet, ...)."""


def plain(module: nn.Module) -> nn.Module:
    """The module itself, taken out of the wrapper that `torch.compile(module)` returns."""
    inner = getattr(module, "_orig_mod", module)
    assert isinstance(inner, nn.Module)
    return inner


def family_of(pipe: Any) -> tuple[Family, nn.Module]:
    """The pipeline's row of the table and its denoiser; `AttnregError` if it has none."""
    for family in FAMILIES:
        model = getattr(pipe, family.denoiser, None)
        if isinstance(model, nn.Module) and any(base.__name__ == family.model for base in type(plain(model)).__mro__):
            return family, plain(model)
    known = ", ".join(f"{family.model} as .{family.denoiser}" for family in FAMILIES)
    held = ", ".join(
        f".{name}: {type(plain(part)).__name__}"
        for name, part in getattr(pipe, "components", {}).items()
        if isinstance(part, nn.Module)
    )
    raise AttnregError(
        f"expected a diffusers pipeline with a denoiser that can be regulated ({known}), got {type(pipe).__name__} "
        f"with {held or 'no model'}; see docs/architecture.md for how a family is added"
    )


def select_layers(family: Family, denoiser: nn.Module, wanted: Sequence[str]) -> dict[str, nn.Module]:
    """The text-attention modules that names, "auto" or "all" select, by name.

    A name selects every layer below it: "up_blocks.1" or "mid_block"; in it `*`, `?` and `[...]` stand for letters.
    Raises `AttnregError` that lists the layers there are if one of the words selects nothing.
    """
    layers = {name: module for name, module in denoiser.named_modules() if family.is_text_attention(name, module)}
    chosen: set[str] = set()
    for word in wanted:
        if word == "all":
            found = list(layers)
        elif word == "auto":
            found = family.default_layers(denoiser, list(layers))
        else:
            # A name must begin and end where a part of the path does: up_blocks.1 is no prefix of up_blocks.10.
            found = [name for name in layers if fnmatchcase(f".{name}.", f"*.{word}.*")]
        if not found:
            blocks = dict.fromkeys(re.sub(r"\.(attentions|transformer_blocks)\..*", "", name) for name in layers)
            there = ", ".join(sorted(blocks)) or "(this model has no cross-attention at all)"
            raise AttnregError(
                f"expected layers that the model has, got {word!r}, which selects none; "
                f"use one of {there}, 'auto' or 'all'"
            )
        chosen.update(found)
    return {name: module for name, module in layers.items() if name in chosen}


def beside(family: Family, denoiser: nn.Module, layers: Sequence[str]) -> dict[str, nn.Module]:
    """The modules beside the named text-attention layers in which image positions look at one another, by name.

    Raises `AttnregError` where they look at text instead.
    """
    found = {name: denoiser.get_submodule(name) for name in map(family.image_attention, layers)}
    if looking := [name for name, module in found.items() if family.is_text_attention(name, module)]:
        raise AttnregError(
            f"expected a model whose image positions look at one another, got one with text in {looking[0]} as well; "
            "choose a method that edits attention over the text alone"
        )
    return found
