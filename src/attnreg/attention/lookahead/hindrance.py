"""Whether starts can be followed beside a pipeline: asked before it is tried, and answered in words."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attnreg.attention.calls.call import Call, denoised_alone_error, perturbed
from attnreg.attention.families import family_of
from attnreg.attention.layers.skipping import skips_error
from attnreg.attention.lookahead.guidance import Guidance
from attnreg.attention.lookahead.noise_schedule import is_known

INSTEAD = "a method that edits attention"
OF_CONTROLS = ("block_controlnet_hidden_states", "controlnet_block_samples", "controlnet_single_block_samples")
"""Arguments of transformers that a ControlNet makes of the latents; of UNets `Controls` knows them."""


class Hindrance(NamedTuple):
    """Why starts cannot be followed."""

    why: str
    """Half a sentence, for who asks what to do instead: "the run begins from a picture"."""
    error: str
    """The line that is raised where nothing can be done instead."""


def of_latents(pipe: Any, call: Call, given: Tensor) -> Hindrance | None:
    """What is in the way of giving a call other latents; `None` if nothing is.

    Args:
        pipe: the pipeline.
        call: its call of the denoiser.
        given: the latents of that call before they were scaled, `(row, channel, height, width)`.
    """
    name, (_, denoiser) = type(pipe).__name__, family_of(pipe)
    if error := skips_error(denoiser, INSTEAD):
        return Hindrance("features are cached from step to step, and would be of other latents", str(error))
    if perturbed(pipe):
        return Hindrance(f"{name} perturbs the attention of some rows", denoised_alone_error(pipe, f"{INSTEAD} alone"))
    parts = given.split(call.images)
    if len(given) % call.images or not all(torch.equal(part, parts[0]) for part in parts):
        return Hindrance(
            f"{name} arranges its batch in a way that is not known",
            f"expected the latents of {call.images} images, once or several times, got {len(given)} that differ; "
            f"this pipeline arranges its batch in a way that is not known: choose {INSTEAD}",
        )
    if beside := call.family.beside_latents(call.arguments, denoiser):
        return Hindrance(
            f"{name} gives the denoiser {beside} beside the latents",
            f"expected a denoiser that is given latents alone, got {name}, which gives it {beside} as well; "
            f"choose {INSTEAD}",
        )
    return None


def of_starts(pipe: Any, call: Call, given: Tensor) -> Hindrance | None:
    """The first thing that is in the way of following starts in a pipeline's first step; as `of_latents`."""
    return (
        of_latents(pipe, call, given)
        or of_levels(pipe)
        or next(_of_beginning(pipe, call), None)
        or next(_of_guidance(pipe, call), None)
    )


def of_pictures(pipe: Any, call: Call) -> Hindrance | None:
    """What is in the way of telling the picture that is predicted in a step under guidance; `None` if nothing is."""
    return of_levels(pipe) or next(_of_guidance(pipe, call), None)


def of_levels(pipe: Any) -> Hindrance | None:
    """What is in the way of telling how much noise a latent holds; `None` if nothing is."""
    scheduler = pipe.scheduler
    if is_known(scheduler):
        return None
    kind = scheduler.config.get("prediction_type", "epsilon")
    return Hindrance(
        f"the noise schedule of {type(scheduler).__name__} with {kind} is not known",
        "expected a scheduler with the noise schedule of a diffusion model, whose model predicts the noise, "
        f"the velocity or the sample, got {type(scheduler).__name__} with {kind}; "
        f"choose DDIM, Euler, DPM++ or {INSTEAD}",
    )


def _of_beginning(pipe: Any, call: Call) -> Iterator[Hindrance]:
    scheduler, name = pipe.scheduler, type(pipe).__name__
    first = scheduler.timesteps[0]
    told = call.arguments[call.family.time]
    began = torch.as_tensor(told).flatten()[0]
    begins_at_first = torch.equal(began, call.family.told_time(first, told).to(began))
    takes = inspect.signature(pipe.prepare_latents).parameters if hasattr(pipe, "prepare_latents") else {}
    # Inpainting knows when it begins with noise alone; image-to-image at full strength still adds it to a picture.
    if not begins_at_first or ("image" in takes and "is_strength_max" not in takes):
        yield Hindrance(
            "the run begins from a picture, which other noise would wipe out",
            f"expected a run that begins with noise alone, at time step {float(first):g}, got one that "
            f"begins from a picture, at {call.family.untold_time(float(began)):g}; other noise would wipe it out: "
            f"choose {INSTEAD}",
        )
    if any(call.arguments.get(one) is not None for one in OF_CONTROLS):
        yield Hindrance(
            f"{name} gives the denoiser what a ControlNet made of other latents",
            f"expected a denoiser that is given latents alone, got {name} with a ControlNet, which cannot be asked "
            f"anew there; choose {INSTEAD}",
        )


def _of_guidance(pipe: Any, call: Call) -> Iterator[Hindrance]:
    name = type(pipe).__name__
    if not call.guided_plainly:
        yield Hindrance(f"{name} does not guide in the plain way", call.guidance_error)
    if not call.rows_without_prompt and call.negative is None:
        return
    guidance = Guidance(pipe, call.family)
    if guidance.scale is None:
        yield Hindrance(
            f"{name} does not tell its {guidance.name}",
            f"expected a pipeline that tells its {guidance.name}, got {name}, whose starts cannot be followed: "
            f"choose {INSTEAD}",
        )
    if own_way := call.family.guides_otherwise(guidance.told):
        yield Hindrance(
            f"{name} {own_way}",
            f"expected guidance by the prediction without the prompt, alike in all steps, got {name}, which "
            f"{own_way}; leave that out, or choose "
            f"{INSTEAD}",
        )
