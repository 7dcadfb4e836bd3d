"""How a choice among starts reaches a pipeline: each is denoised coarsely beside it, and looked at on the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attnreg.attention.call import Call, denoised_under, prediction_in
from attnreg.attention.look import Look
from attnreg.regulation.edit import PromptWords
from attnreg.regulation.kinds import Chosen, EncodedText, Guess, StartEdit
from attnreg.types import AttnregError, StartRecord, Trace

AT_ONCE = 8
"""With so many texts a picture is read in one pass of the denoiser."""

Latent = Float[Tensor, "channel height width"]
Latents = Float[Tensor, "image channel height width"]
Further = Float[Tensor, "image further height width"]


class Starts:
    """Follows starts of a pipeline's pictures some way down, in a few large steps of its own.

    The steps are those of DDIM without noise (Song et al., 2021, arXiv:2010.02502, equation 12), under the pipeline's
    guidance, from one noise level of its schedule to another, whichever scheduler it has. Nothing of the pipeline's
    state is touched: what comes of it is a guess at where the pipeline itself will go.

    The picture that is guessed is then read: noise is laid over it, and the denoiser restores it, once under the prompt
    and once under each other text. Where another text restores it as well, the prompt's words are not all in it: so
    diffusion models tell classes apart (Li et al., 2023, arXiv:2303.16203).
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
        texts: Sequence[EncodedText],
        scaled: Callable[[Latents], Latents],
    ) -> Chosen:
        """The start of the image whose prompt is in that row; the very latent that was given, if none is better.

        texts: what it is read with, the prompt first.

        Raises `AttnregError` for a run that does not begin with noise, and for a noise schedule that is not known.
        """
        assert words is not None
        levels = self._levels(call)
        others = call.unconditional_rows()
        rows = [row] if others is None else [row, others[row % call.images]]
        extra = call.sample[rows, latent.shape[0] :]

        def both(sample: Latents) -> Float[Tensor, "row all_channels height width"]:
            return torch.cat([sample.expand(len(rows), -1, -1, -1), extra], 1)

        def follow(start: Latent) -> Guess:
            sample = scaled(start.unsqueeze(0))
            for (timestep, signal), (_, next_signal) in pairwise(levels):
                given = call.given(timestep=timestep).of_rows(rows, sample=both(sample))
                predicted = self._guided(prediction_in(call.denoise(**given)), sample)
                clean, noise = self._parts(sample, predicted, signal)
                sample = (math.sqrt(next_signal) * clean + math.sqrt(1 - next_signal) * noise).to(sample)
            timestep, signal = levels[-1]
            predicted, maps = self.look.by_layer(call.given(timestep=timestep), rows, both(sample))
            clean, _ = self._parts(sample, self._guided(predicted, sample), signal)
            return Guess(maps, self._errors(call, row, clean, texts, extra[:1]))

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

    def _errors(
        self, call: Call, row: int, clean: Latents, texts: Sequence[EncodedText], extra: Further
    ) -> tuple[float, ...]:
        """How far from the picture it is restored under each text, from the same noise: sums of squares."""
        scheduler = self.pipe.scheduler
        trained = scheduler.config.num_train_timesteps
        time = torch.full_like(scheduler.timesteps[0], min(round(self.edit.noise * trained), trained - 1))
        signal = share_of_signal(scheduler.alphas_cumprod, float(time))
        noise = torch.randn(clean.shape, generator=torch.Generator("cpu").manual_seed(0)).to(clean)
        noisy = math.sqrt(signal) * clean + math.sqrt(1 - signal) * noise
        sample = torch.cat([noisy.to(extra), extra], 1)
        given = call.given(timestep=time)
        errors: list[float] = []
        for first in range(0, len(texts), AT_ONCE):
            some = texts[first : first + AT_ONCE]
            count = len(some)
            predicted = denoised_under(given, [row] * count, some, sample=sample.repeat(count, 1, 1, 1))
            restored, _ = self._parts(noisy.expand(count, -1, -1, -1), predicted[:, : clean.shape[1]].float(), signal)
            errors += (restored - clean).square().sum((1, 2, 3)).tolist()
        return tuple(errors)

    def _guided(self, predicted: Float[Tensor, "row all_channels height width"], sample: Latents) -> Latents:
        """The prediction of the prompt's row, led away from that of the other one, in float32."""
        predicted = predicted[:, : sample.shape[1]].float()
        if len(predicted) == 1:
            return predicted
        prompted, other = predicted.split(1)
        guided: Tensor = other + float(self.pipe.guidance_scale) * (prompted - other)
        return guided

    def _parts(self, sample: Latents, predicted: Latents, signal: float) -> tuple[Latents, Latents]:
        """The picture and the noise that the sample is made of, as they are predicted."""
        kind = self.pipe.scheduler.config.get("prediction_type", "epsilon")
        noisy, a, s = sample.to(predicted), math.sqrt(signal), math.sqrt(1 - signal)
        if kind == "epsilon":
            return (noisy - s * predicted) / a, predicted
        if kind == "v_prediction":
            return a * noisy - s * predicted, a * predicted + s * noisy
        return predicted, (noisy - a * predicted) / s


def share_of_signal(alphas: Float[Tensor, " time"], timestep: float) -> float:
    """Alpha bar at a time step, which may lie between two (Karras' noise levels do): interpolated geometrically.

    Kept above 0, where a schedule that ends in pure noise has no logarithm.
    """
    low = min(max(math.floor(timestep), 0), len(alphas) - 1)
    high = min(low + 1, len(alphas) - 1)
    below, above = (math.log(max(float(alphas[at]), 1e-8)) for at in (low, high))
    return math.exp(below + (above - below) * min(max(timestep - low, 0.0), 1.0))
