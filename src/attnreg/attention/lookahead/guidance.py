"""How a pipeline makes one prediction of those with and without the prompt: as its family says, by its own scale."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any

from torch import Tensor

from attnreg.attention.families.family import Family


class Guidance:
    """The guidance of a call of a pipeline that is being run: read inside of it, once."""

    def __init__(self, pipe: Any, family: Family) -> None:
        self.pipe, self.family = pipe, family
        self.told = variables_of_call(pipe)
        """The variables of the pipeline's `__call__`: what it was told, and made of that."""

    @property
    def scale(self) -> float | None:
        """How strongly is guided; `None` if the pipeline does not tell."""
        told = self.told.get(self.family.scale) if self.family.scale else getattr(self.pipe, "guidance_scale", None)
        return None if told is None else float(told)

    @property
    def name(self) -> str:
        """Of what tells the scale."""
        return self.family.scale or "guidance_scale"

    def __call__(self, prompted: Tensor, plain: Tensor) -> Tensor:
        """The guided prediction."""
        scale = self.scale
        assert scale is not None  # else there is a hindrance
        guided = self.family.guided(prompted, plain, scale, self.told)
        if rescale := float(getattr(self.pipe, "guidance_rescale", 0.0)):
            # Seconds to load, of a pipeline that has loaded it or its like.
            from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

            guided = rescale_noise_cfg(guided, prompted, guidance_rescale=rescale)
        return guided


def variables_of_call(pipe: Any) -> Mapping[str, Any]:
    """The variables of the pipeline's `__call__` that runs; none if it does not."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "__call__" and frame.f_locals.get("self") is pipe:
            return frame.f_locals
        frame = frame.f_back
    return {}
