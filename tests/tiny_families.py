"""Every transformer family with a tiny pipeline, from the modules that build them: what tests are parametrised by."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import tiny
import tiny_cross
import tiny_flux_like
import tiny_mixed
import tiny_single_stream
import tiny_transformers
from attnreg.attention.families import FAMILIES as KNOWN

FAMILIES = (
    tiny_transformers.FAMILIES
    | tiny_flux_like.FAMILIES
    | tiny_single_stream.FAMILIES
    | tiny_mixed.FAMILIES
    | tiny_cross.FAMILIES
)
"""Family, or family and variant -> a tiny pipeline of it."""
SMALL = tiny_transformers.SMALL | tiny_flux_like.SMALL | tiny_single_stream.SMALL | tiny_mixed.SMALL | tiny_cross.SMALL
"""Options that draw a small picture of each, not square."""
EVERY = {"Stable Diffusion": tiny.stable_diffusion, **FAMILIES}
"""The UNets of Stable Diffusion as well."""
SMALL_OF_EVERY = {"Stable Diffusion": {"height": 64, "width": 80, "guidance_scale": 5.0}} | SMALL
VARIANTS = tiny_flux_like.VARIANTS
"""Those that share their family with another -> the family."""
UNSAVED = tiny_single_stream.UNSAVED | tiny_mixed.UNSAVED | tiny_cross.UNSAVED
"""Those that cannot be written to a directory here -> why."""
TOGETHER = tiny_mixed.TOGETHER
"""What a pipeline needs in order to take two prompts at once."""
SEE_ONE_ANOTHER = {
    "Qwen-Image 2.1": "the picture is placed behind the longest prompt",
    "Kandinsky 5": "what fills up a shorter prompt is attended to",
    "Latte": "what fills up a prompt is attended to in a batch, and cut off alone",
}
"""Those whose images of a batch are other ones than alone, unmodified as well -> why."""
SIDES = tiny_mixed.SIDES | tiny_cross.SIDES
"""Height and width that a pipeline draws which does not take every size."""
SIZES: dict[str, dict[str, Any]] = tiny_transformers.SIZES | tiny_mixed.SIZES | tiny_cross.SIZES
"""What says which sizes there are, by its path, or an attribute of the pipeline -> small ones."""
_HAVE_STARTS = {one.name for one in KNOWN if "start" in one.kinds}
FOLLOWED = [name for name in FAMILIES if VARIANTS.get(name, name) in _HAVE_STARTS and "image" not in SMALL[name]]
"""Those whose starts can be followed: not beside a picture to refer to."""


def drawn(pipe: Any, prompt: str | list[str], settings: dict[str, Any], seed: int = 0) -> Tensor:
    """What a pipeline draws of a prompt, or of several, each from a seed of its own: pictures, frames or a prior's."""
    count = 1 if isinstance(prompt, str) else len(prompt)
    if count > 1 and isinstance(settings.get("negative_prompt"), str):
        settings = settings | {"negative_prompt": [settings["negative_prompt"]] * count}
    generators = [torch.Generator().manual_seed(seed + number) for number in range(count)]
    written = prompt if isinstance(prompt, str) else [*prompt]  # some pipelines write into the list
    images = pipe(prompt=written, generator=generators, **settings)[0]
    return torch.stack(list(images)) if isinstance(images, list) else images
