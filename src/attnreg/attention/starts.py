"""How a choice among starts reaches a pipeline: each is denoised coarsely beside it, and looked at on the way."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attnreg.attention.call import Call, prediction_in
from attnreg.attention.look import Look
from attnreg.regulation.edit import Maps, PromptWords
from attnreg.regulation.kinds import Chosen, StartEdit
from attnreg.types import AttnregError, StartRecord, Trace

Latent = Float[Tensor, "channel height width"]
Latents = Float[Tensor, "image channel height width"]


class Starts:
    """Follows starts of a pipeline's pictures some way down, in a few large steps of its own.

    The steps are those of DDIM without noise (Song et al., 2021, arXiv:2010.02502, equation 12), under the pipeline's
    guidance, from one noise level of its schedule to another, whichever scheduler it has. Nothing of the pipeline's
    state is touched: what comes of it is a guess at where the pipeline itself will go.
    """

    def __init__(self, pipe: Any, edit: StartEdit, look: Look, trace: Trace) -> None:
        self.pipe, self.edit, self.look, self.trace = pipe, edit, look, trace

    @torch.no_grad()
    def best(
        self,
        call: Call,
        image: int,
        row: int,
        latent: Latent,
        words: PromptWords | None,
        scaled: Callable[[Latents], Latents],
    ) -> Chosen:
        """The start of the image whose prompt is in that row; the very latent that was given, if none is better.

        Raises `AttnregError` for a run that does not begin with noise, and for a noise schedule that is not known.
        """
        assert words is not None
        levels = self._levels(call)
        others = call.unconditional_rows()
        rows = [row] if others is None else [row, others[row % call.images]]
        extra = call.sample[rows, latent.shape[0] :]

        def follow(start: Latent) -> list[Maps]:
            sample = scaled(start.unsqueeze(0))
            for (timestep, signal), (_, next_signal) in pairwise(levels):
                both = torch.cat([sample.expand(len(rows), -1, -1, -1), extra], 1)
                given = call.given(timestep=timestep).of_rows(rows, sample=both)
                predicted = prediction_in(call.denoise(**given))[:, : latent.shape[0]].to(torch.float32)
                sample = self._denoised(sample, self._guided(predicted), signal, next_signal).to(sample)
            return self.look.by_layer(call.given(timestep=levels[-1][0]), row, torch.cat([sample, extra[:1]], 1))

        chosen = self.edit.choose(latent, follow, words)
        self.trace.starts.append(StartRecord(image, chosen.scores, chosen.number, chosen.spared))
        return chosen

    def _levels(self, call: Call) -> list[tuple[Tensor, float]]:
        """The time step and the share of signal (alpha bar, between 0 and 1) of every stop."""
        scheduler = self.pipe.scheduler
        alphas, kind = getattr(scheduler, "alphas_cumprod", None), scheduler.config.get("prediction_type", "epsilon")
        if alphas is None or kind not in ("epsilon", "v_prediction", "sample"):
            raise AttnregError(
                "expected a scheduler with the noise schedule of a diffusion model, whose model predicts the noise, "
                f"the velocity or the sample, got {type(scheduler).__name__} with {kind}; "
                "choose DDIM, Euler, DPM++ or a method that edits attention"
            )
        times = scheduler.timesteps
        began = torch.as_tensor(call.arguments["timestep"]).flatten()[0].to(times)
        if began != times[0]:
            raise AttnregError(
                f"expected a run that begins with noise, at time step {float(times[0]):g}, got one that begins at "
                f"{float(began):g}, from a picture; other noise would wipe it out: choose a method that edits attention"
            )
        return [(times[stop], share_of_signal(alphas, float(times[stop]))) for stop in self.edit.stops(len(times))]

    def _guided(self, predicted: Float[Tensor, "row channel height width"]) -> Latents:
        """The prediction of the prompt's row, led away from that of the other one."""
        if len(predicted) == 1:
            return predicted
        prompted, other = predicted.split(1)
        guided: Tensor = other + float(self.pipe.guidance_scale) * (prompted - other)
        return guided

    def _denoised(self, sample: Latents, predicted: Latents, signal: float, next_signal: float) -> Latents:
        """The sample at the next noise level."""
        kind = self.pipe.scheduler.config.get("prediction_type", "epsilon")
        noisy, a, s = sample.to(predicted), math.sqrt(signal), math.sqrt(1 - signal)
        if kind == "epsilon":
            clean, noise = (noisy - s * predicted) / a, predicted
        elif kind == "v_prediction":
            clean, noise = a * noisy - s * predicted, a * predicted + s * noisy
        else:
            clean, noise = predicted, (noisy - a * predicted) / s
        return math.sqrt(next_signal) * clean + math.sqrt(1 - next_signal) * noise


def share_of_signal(alphas: Float[Tensor, " time"], timestep: float) -> float:
    """Alpha bar at a time step, which may lie between two (Karras' noise levels do): interpolated geometrically.

    Kept above 0, where a schedule that ends in pure noise has no logarithm.
    """
    low = min(max(math.floor(timestep), 0), len(alphas) - 1)
    high = min(low + 1, len(alphas) - 1)
    below, above = (math.log(max(float(alphas[at]), 1e-8)) for at in (low, high))
    return math.exp(below + (above - below) * min(max(timestep - low, 0.0), 1.0))
