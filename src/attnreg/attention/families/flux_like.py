"""Models of FLUX's build: double and single blocks over text and picture in one sequence, text first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from attnreg.attention.families.family import Family, TextColumns
from attnreg.attention.families.joint import Flux
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


def _extracted(arguments: Mapping[str, Any]) -> int:
    """How many positions of references come before the picture's, whose keys are to be kept."""
    return int(arguments.get("num_ref_tokens", 0)) if arguments.get("kv_cache_mode") == "extract" else 0


FLUX_LIKE: tuple[Family, ...] = (
    Flux2("FLUX.2", "Flux2Transformer2DModel", encoders=(TextColumns(),)),
    Flux("Chroma", "ChromaTransformer2DModel", encoders=(TextColumns(),), negative=3, apart=True),
    Flux("Bria", "BriaTransformer2DModel", encoders=(TextColumns(),), negative=1),
    Flux("Bria FIBO", "BriaFiboTransformer2DModel", encoders=(TextColumns(),), negative=1),
    Flux(
        "Ovis-Image",
        "OvisImageTransformer2DModel",
        encoders=(TextColumns(dropped="user_prompt_begin_id", keeps_padding=True),),
        negative=1,
        apart=True,
    ),
    Flux(
        "LongCat-Image",
        "LongCatImageTransformer2DModel",
        encoders=(TextColumns(dropped="prompt_template_encode_prefix", keeps_padding=True),),
    ),
)
"""Spliced into `FAMILIES`."""
