"""Models of FLUX's build: double and single blocks over text and picture in one sequence, text first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attnreg.attention.families.family import EMBEDDING, Family, TextColumns
from attnreg.attention.families.joint import JOINT, Flux
from attnreg.types import Grid


@dataclass(frozen=True)
class Flux2(Flux):
    """FLUX.2, whose klein can keep the keys of reference pictures.

    Then they stand between the text's and the picture's. In the first step a layer attends twice: text and picture to
    everything, then the references to themselves. Later the references are keys alone.
    """

    def picture(self, arguments: Mapping[str, Any], denoiser: nn.Module) -> tuple[Grid, int]:
        """The positions behind the references, where their keys are being kept."""
        ids: Tensor = arguments["img_ids"]
        ids = ids[0] if ids.ndim == 3 else ids
        return super().picture({"img_ids": ids[_extracted(arguments) :]}, denoiser)

    def further_keys(self, arguments: Mapping[str, Any]) -> int:
        """Those of the references."""
        kept = arguments.get("kv_cache") if arguments.get("kv_cache_mode") == "cached" else None
        return _extracted(arguments) if kept is None else int(kept.num_ref_tokens)


@dataclass(frozen=True)
class Chroma(Flux):
    """T5 alone, with a mask; the negative prompt is encoded with the prompt."""

    negative: int | None = 3
    apart: bool = True
    conditions: tuple[str, ...] = ("encoder_hidden_states", "txt_ids", "attention_mask")

    def conditioned(self, values: Sequence[Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The mask is one of the picture's positions as well."""
        *others, mask = values
        if mask is not None:
            pixels = arguments[self.sample].shape[1]
            mask = torch.cat([mask, torch.ones(len(mask), pixels, device=mask.device, dtype=torch.bool)], 1)
        return super().conditioned([*others, mask], arguments)


@dataclass(frozen=True)
class Bria(Flux):
    """The negative prompt is denoised in the same call; all texts are equally long."""

    negative: int | None = 1
    time_divisor: float = 1.0
    conditions: tuple[str, ...] = ()

    def guides_otherwise(self, told: Mapping[str, Any]) -> str:
        """What is guided may be scaled, and cut, by what all of it is like."""
        return "scales or clips what it predicts" if told.get("normalize") or told.get("clip_value") else ""


@dataclass(frozen=True)
class LongCatImage(Flux):
    """Guided predictions are no longer than those under the prompt."""

    def without_prompt(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The embedded guidance is told with the prompt alone."""
        return {name: value for name, value in arguments.items() if name != "guidance"}

    def guided(self, prompted: Tensor, plain: Tensor, scale: float, told: Mapping[str, Any]) -> Tensor:
        """Each position is at most as long as under the prompt, unless that is turned off."""
        guided = super().guided(prompted, plain, scale, told)
        if not told.get("enable_cfg_renorm"):
            return guided
        ratio: Tensor = torch.norm(prompted, dim=-1, keepdim=True) / (torch.norm(guided, dim=-1, keepdim=True) + 1e-8)
        return guided * ratio.clamp(min=told.get("cfg_renorm_min", 0.0), max=1.0)


def _extracted(arguments: Mapping[str, Any]) -> int:
    """How many positions of references come before the picture's, whose keys are to be kept."""
    return int(arguments.get("num_ref_tokens", 0)) if arguments.get("kv_cache_mode") == "extract" else 0


FLUX_LIKE: tuple[Family, ...] = (
    Flux2("FLUX.2", "Flux2Transformer2DModel", encoders=(TextColumns(),)),
    Chroma("Chroma", "ChromaTransformer2DModel", encoders=(TextColumns(),)),
    Bria("Bria", "BriaTransformer2DModel", encoders=(TextColumns(),)),
    Flux(
        "Bria FIBO",
        "BriaFiboTransformer2DModel",
        encoders=(TextColumns(),),
        negative=1,
        kinds=JOINT - {EMBEDDING},  # each block is given the text as another layer of the encoder read it
        conditions=(),
    ),
    Flux(
        "Ovis-Image",
        "OvisImageTransformer2DModel",
        encoders=(TextColumns(dropped="user_prompt_begin_id", keeps_padding=True),),
        negative=1,
        apart=True,
    ),
    LongCatImage(
        "LongCat-Image",
        "LongCatImageTransformer2DModel",
        encoders=(TextColumns(dropped="prompt_template_encode_prefix", keeps_padding=True),),
    ),
)
"""Spliced into `FAMILIES`."""
