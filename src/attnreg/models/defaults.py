"""What a pipeline draws by itself: its size, steps and guidance, read from the pipeline and not from a table."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attnreg.types import AttnregError

DENOISERS = ("unet", "transformer")
"""How pipelines of diffusers call the network that denoises."""
REWRITING = ("enable_prompt_rewrite", "use_pe")
"""Options that let a language model put the prompt in its own words, drawn anew each time."""
SCHEDULE = "guidance_schedule"
"""An option that tells the guidance of every step, and must be as long as they are many."""
PICTURES = ("image", "control_image")
"""Options that decide a picture's size where none is given."""


FRAMES = ("num_frames", "video_length")
"""Options that say how many frames a video has; a picture is a video of one."""


@dataclass(frozen=True)
class Defaults:
    """What a pipeline draws where nothing is asked for; `None` where it cannot be told."""

    height: int | None
    width: int | None
    """In pixels."""
    steps: int | None
    guidance_scale: float | None
    guidance: str
    """The option that scales classifier-free guidance: "guidance_scale", or "true_cfg_scale" where that name is kept
    for models that were taught their guidance and this is none."""


def denoiser_of(pipe: Any) -> Any:
    """The network that denoises: a UNet or a transformer.

    Raises:
        AttnregError: the pipeline has neither, or it draws no picture by itself.
    """
    if getattr(pipe, "prior", None) is not None:
        raise AttnregError(
            f"expected a pipeline that draws pictures, got {type(pipe).__name__}, which draws what another one makes a "
            "picture of; in Python, call the combined pipeline inside of regulate(pipe.prior_pipe)"
        )
    for name in DENOISERS:
        if (found := getattr(pipe, name, None)) is not None:
            return found
    raise AttnregError(
        f"expected a pipeline with a {' or a '.join(DENOISERS)}, got {type(pipe).__name__}; choose another model"
    )


def defaults_of(pipe: Any) -> Defaults:
    """The pipeline's own settings, from the signature of its call and the configuration of its denoiser."""
    said = {name: one.default for name, one in _parameters(pipe).items()}
    height, width = _size(pipe)
    distilled = said.get("guidance_scale") is None and "true_cfg_scale" in said
    guidance = "true_cfg_scale" if distilled else "guidance_scale"
    scale = said.get(guidance)
    return Defaults(
        said["height"] if isinstance(said.get("height"), int) else height,
        said["width"] if isinstance(said.get("width"), int) else width,
        said["num_inference_steps"] if isinstance(said.get("num_inference_steps"), int) else None,
        float(scale) if isinstance(scale, int | float) else None,
        guidance,
    )


def options_for(pipe: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options as this pipeline takes them.

    Args:
        pipe: a text-to-image pipeline.
        given: options by the names that Stable Diffusion has for them. Those that are `None` are left to the pipeline.

    Returns:
        The same with both sides of the picture where one is given: some pipelines drop the one if the other is
        missing, without a word. Guidance under the name that this pipeline has for it. The prompt is drawn as it is
        written: a pipeline that would let a language model rewrite it first is told not to, for the seed would not
        decide the picture any more, and the words would be others. A schedule of the guidance is made to fit the steps.
        One frame where it draws videos, and a PIL image.

    Raises:
        AttnregError: an option that the pipeline does not have.
    """
    options = {name: value for name, value in given.items() if value is not None}
    known = _parameters(pipe)
    own = defaults_of(pipe)
    if "guidance_scale" in options and own.guidance not in options:
        options[own.guidance] = options.pop("guidance_scale")
    if not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in known.values()) and (
        unknown := [name for name in options if name not in known]
    ):
        raise AttnregError(
            f"expected options of {type(pipe).__name__}, got {unknown[0]}, which it has not; leave it out"
        )
    options |= {name: False for name in REWRITING if name in known and name not in options}
    if SCHEDULE in known and SCHEDULE not in options:
        options |= _scheduled(known[SCHEDULE].default, options)
    options |= {name: 1 for name in FRAMES if name in known and name not in options}
    if "output_type" in known and known["output_type"].default != "pil":  # some return arrays unless they are told
        options.setdefault("output_type", "pil")
    if not any(name in options for name in PICTURES):
        options |= sides_for(pipe, options.get("height"), options.get("width"))
    return options


def sides_for(pipe: Any, height: int | None, width: int | None) -> dict[str, int]:
    """Both sides of a picture where one is given, the other being the pipeline's own; none where none is."""
    if height is None and width is None:
        return {}
    own = defaults_of(pipe)
    sides = {"height": height or own.height, "width": width or own.width}
    return {name: side for name, side in sides.items() if side is not None}


def picture_of(output: Any) -> Any:
    """The first picture of what a pipeline returned, under whatever name; of a video of one frame, that frame."""
    pictures = output.images if hasattr(output, "images") else output[0]
    return pictures[0][0] if isinstance(pictures[0], list) else pictures[0]


def check_size(pipe: Any, picture: Any, options: Mapping[str, Any]) -> None:
    """Make sure that a picture has the size that was asked for; some pipelines round it, or take one of a few.

    Args:
        pipe: what drew it.
        picture: what was drawn; anything but a PIL image has no size to be looked at.
        options: what was asked for, from `options_for`.

    Raises:
        AttnregError: it has another.
    """
    drawn = getattr(picture, "size", None)
    if not isinstance(drawn, tuple):
        return
    asked = options.get("width", drawn[0]), options.get("height", drawn[1])
    if drawn != asked:
        raise AttnregError(
            f"expected a picture {asked[1]} pixels high and {asked[0]} wide, got {drawn[1]} and {drawn[0]} from "
            f"{type(pipe).__name__}; ask for --height {drawn[1]} --width {drawn[0]}"
        )


def _scheduled(schedule: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Guidance step by step as it goes with the options: none beside one for all steps, and as long as these."""
    if options.get("guidance_scale") is not None:
        return {SCHEDULE: None}
    steps = options.get("num_inference_steps", 0)
    if not isinstance(schedule, tuple) or not steps or steps == len(schedule):
        return {}
    return {SCHEDULE: tuple(schedule[step * len(schedule) // steps] for step in range(steps))}


def _parameters(pipe: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(type(pipe).__call__).parameters


def _size(pipe: Any) -> tuple[int | None, int | None]:
    """Height and width that the pipeline computes: its latent's size by default, times what the autoencoder enlarges.

    Pipelines without an autoencoder denoise the picture itself. PRX keeps the picture's own side in the configuration.
    """
    if isinstance(side := getattr(pipe, "config", {}).get("default_sample_size"), int):
        return side, side
    latent = getattr(pipe, "default_sample_size", None)
    if latent is None:
        network = next((one for name in DENOISERS if (one := getattr(pipe, name, None)) is not None), None)
        latent = getattr(getattr(network, "config", None), "sample_size", None)
    sides = (latent, latent) if isinstance(latent, int) else tuple(latent or (None, None))
    factor = getattr(pipe, "vae_scale_factor", 1)
    height, width = (side * factor if isinstance(side, int) else None for side in sides[-2:])
    return height, width
