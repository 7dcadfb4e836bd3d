"""The model families that can be regulated, one entry each: which module denoises, where text meets the picture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from attnreg.attention.families.cross import CROSS_TRANSFORMERS
from attnreg.attention.families.cross_transformer import CrossTransformer
from attnreg.attention.families.cross_unet import CROSS_UNETS
from attnreg.attention.families.family import MASKED, STARTED, WHOLE, Family, TextColumns, tokenizer_in
from attnreg.attention.families.flux_like import FLUX_LIKE
from attnreg.attention.families.joint import FluxOne, QwenImage, StableDiffusion3, ZImage
from attnreg.attention.families.likeness import closest, named
from attnreg.attention.families.mixed import MIXED
from attnreg.attention.families.probed import PROBE, probed
from attnreg.attention.families.refused import REFUSED
from attnreg.attention.families.single_stream import SINGLE_STREAM
from attnreg.attention.families.unet import UNet
from attnreg.types import AttnregError

FAMILIES: tuple[Family, ...] = (
    UNet("Stable Diffusion", "UNet2DConditionModel"),
    StableDiffusion3(
        "Stable Diffusion 3",
        "SD3Transformer2DModel",
        encoders=(
            TextColumns(),
            TextColumns("text_encoder_2", "tokenizer_2"),
            TextColumns("text_encoder_3", "tokenizer_3", after="tokenizer"),
        ),
    ),
    FluxOne("FLUX", "FluxTransformer2DModel", encoders=(TextColumns("text_encoder_2", "tokenizer_2"),)),
    CrossTransformer(
        "PixArt",
        "PixArtTransformer2DModel",
        encoders=(TextColumns(),),
        kinds=WHOLE,
        conditions=MASKED,
        scale="guidance_scale",
    ),
    CrossTransformer(
        "Sana",
        "SanaTransformer2DModel",
        encoders=(TextColumns(cut_from_the_left=True),),
        over_itself="",  # linear: there is no softmax
        kinds=STARTED,
        conditions=MASKED,
    ),
    QwenImage(
        "Qwen-Image", "QwenImageTransformer2DModel", encoders=(TextColumns(dropped="prompt_template_encode_start_idx"),)
    ),
    ZImage("Z-Image", "ZImageTransformer2DModel", encoders=(TextColumns(),)),
    *FLUX_LIKE,
    *SINGLE_STREAM,
    *MIXED,
    *CROSS_TRANSFORMERS,
    *CROSS_UNETS,
)
"""Special ones behind general ones: a pipeline is of the last that it fits."""


def plain(module: nn.Module) -> nn.Module:
    """The module itself, taken out of the wrapper that `torch.compile(module)` returns."""
    inner = getattr(module, "_orig_mod", module)
    assert isinstance(inner, nn.Module)
    return inner


def family_of(pipe: Any, name: str | None = None) -> tuple[Family, nn.Module]:
    """The pipeline's family and its denoiser.

    Args:
        pipe: a pipeline of diffusers.
        name: of a family, where it is not to be told by the denoiser's class; "probe": what has to be found out.

    Returns:
        The entry of `FAMILIES`, or what stands for one that is probed; and the denoiser's module.

    Raises:
        AttnregError: there is no entry for the pipeline, or it does not fit the one that is named.
    """
    if name is not None:
        denoisers = list(dict.fromkeys(family.denoiser for family in FAMILIES))
        asked, module = probed(pipe, denoisers) if name == PROBE else named(pipe, name, FAMILIES)
        return asked, plain(module)
    if (found := _found(pipe)) is not None:
        return found
    inner = [
        name for name, part in getattr(pipe, "__dict__", {}).items() if hasattr(part, "components") and _found(part)
    ]
    if inner:
        raise AttnregError(
            f"expected the pipeline that denoises, got {type(pipe).__name__}, which calls it; regulate its "
            f".{inner[0]} and call this one inside of the block"
        )
    for part in getattr(pipe, "components", {}).values():
        if reason := REFUSED.get(type(plain(part)).__name__ if isinstance(part, nn.Module) else ""):
            raise AttnregError(
                f"expected a denoiser that can be regulated, got {type(plain(part)).__name__}: {reason}; choose "
                "another model"
            )
    known = ", ".join(family.name for family in FAMILIES)
    held = ", ".join(
        f".{name}: {type(plain(part)).__name__}"
        for name, part in getattr(pipe, "components", {}).items()
        if isinstance(part, nn.Module)
    )
    raise AttnregError(
        f"expected a diffusers pipeline with a denoiser that can be regulated ({known}), got {type(pipe).__name__} "
        f"with {held or 'no model'}; {_advice(pipe)}"
    )


def _found(pipe: Any) -> tuple[Family, nn.Module] | None:
    """Special families stand behind general ones: a pipeline is of the last that it fits."""
    for family in reversed(FAMILIES):
        model = getattr(pipe, family.denoiser, None)
        if isinstance(model, nn.Module) and family.is_of(pipe, plain(model)):
            return family, plain(model)
    return None


def _advice(pipe: Any) -> str:
    """What to do about a pipeline whose denoiser is in no entry."""
    for name in dict.fromkeys(family.denoiser for family in FAMILIES):
        if isinstance(model := getattr(pipe, name, None), nn.Module):
            near = closest(plain(model), FAMILIES)
            force = f"the nearest is {near.name}: try family={near.name!r} (--family), or " if near else "try "
            return f"{force}family='{PROBE}', which finds out by itself; docs/models.md says what either risks"
    return "see docs/architecture.md for how a family is added"


def tokenizer_of(pipe: Any, family: Family | None = None) -> Any:
    """The tokenizer that reads most of a prompt: the last one whose tokens stand in columns of their own.

    Of a UNet's pipeline it is `tokenizer`, or `tokenizer_2` where that is the only one (SDXL's refiner).

    Args:
        pipe: a pipeline of diffusers.
        family: of it, where that is known.

    Raises:
        AttnregError: the pipeline has none.
    """
    family = family or family_of(pipe)[0]
    names = [columns.tokenizer for columns in reversed(family.encoders)] or ["tokenizer", "tokenizer_2"]
    for name in names:
        if (held := getattr(pipe, name, None)) is not None:
            return tokenizer_in(held)
    raise AttnregError(
        f"expected a pipeline with .{names[0]}, got {type(pipe).__name__} without; "
        "load the whole pipeline, text encoder included"
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
            there = ", ".join(sorted(blocks)) or "(no layer of this model lets the picture look at the text alone)"
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
