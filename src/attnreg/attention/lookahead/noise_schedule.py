"""How much picture and how much noise a latent holds at a time step, for diffusion and for flow matching alike.

A latent is `a z + s e`, picture `z` and noise `e` of variance 1. In diffusion `a^2 + s^2 = 1`; under flow matching
(Esser et al., 2024, arXiv:2403.03206) `a + s = 1`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

KINDS = ("epsilon", "v_prediction", "sample")
"""What models predict whose schedule is known: the noise, the velocity of diffusion, the picture."""


def is_flow(scheduler: Any) -> bool:
    """Whether a scheduler's latents lie on straight lines from picture to noise, whose velocity the model predicts."""
    return type(scheduler).__name__.startswith("FlowMatch") or (
        scheduler.config.get("prediction_type") == "flow_prediction" and bool(scheduler.config.get("use_flow_sigmas"))
    )


def is_known(scheduler: Any) -> bool:
    """Whether it is known what a scheduler's latents are made of at its time steps."""
    if is_flow(scheduler):
        return not scheduler.config.get("invert_sigmas", False)
    known = getattr(scheduler, "alphas_cumprod", None) is not None
    # Euler's time steps are logarithms of noise levels then, not places in that schedule.
    known &= scheduler.config.get("timestep_type", "discrete") == "discrete"
    return bool(known) and scheduler.config.get("prediction_type", "epsilon") in KINDS


def mixture(scheduler: Any, time: Tensor) -> tuple[float, float]:
    """`(a, s)` of a latent at a time step, of a sample of variance 1."""
    if is_flow(scheduler):
        sigma = float(time) / scheduler.config.num_train_timesteps
        return 1 - sigma, sigma
    signal = share_of_signal(scheduler.alphas_cumprod, float(time))
    return math.sqrt(signal), math.sqrt(1 - signal)


def parts_of(
    scheduler: Any,
    predicted: Float[Tensor, image * latent],
    sample: Float[Tensor, image * latent],
    time: Tensor,
) -> tuple[Float[Tensor, image * latent], Float[Tensor, image * latent]]:
    """The picture and the noise that a sample is made of, as they are predicted, in float32."""
    a, s = mixture(scheduler, time)
    predicted, noisy = predicted.float(), sample.float()
    if is_flow(scheduler):
        return noisy - s * predicted, noisy + a * predicted
    kind = scheduler.config.get("prediction_type", "epsilon")
    if kind == "epsilon":
        return (noisy - s * predicted) / a, predicted
    if kind == "v_prediction":
        return a * noisy - s * predicted, a * predicted + s * noisy
    return predicted, (noisy - a * predicted) / s


def pushed(
    scheduler: Any, predicted: Float[Tensor, image * latent], push: Float[Tensor, image * latent], time: Any
) -> Float[Tensor, image * latent]:
    """A prediction after the velocity `e - x` that it means was changed by `push`, the sample being the same.

    Of `z = a x + s e` follows `a dx + s de = 0`, so that `de = a push / (a + s)` and `dx = -s push / (a + s)`. What a
    model predicts in further channels stays as it is.
    """
    a, s = mixture(scheduler, torch.as_tensor(time))
    kind = scheduler.config.get("prediction_type", "epsilon")
    factors = {"epsilon": a / (a + s), "v_prediction": 1 / (a + s), "sample": -s / (a + s)}
    changed = push if is_flow(scheduler) else factors[kind] * push
    if predicted.shape == changed.shape:
        return predicted + changed.to(predicted)
    own, further = predicted.split([changed.shape[1], predicted.shape[1] - changed.shape[1]], 1)
    return torch.cat([own + changed.to(own), further], 1)


def time_of(scheduler: Any, share: float) -> Tensor:
    """The time step of a noise level, told as a share of the steps that a diffusion model is trained with.

    Under flow matching it is the step at which noise and picture stand in the same relation `s / a` as in Stable
    Diffusion's schedule at that share.
    """
    trained = scheduler.config.num_train_timesteps
    like = scheduler.timesteps[0]
    if not is_flow(scheduler):
        return torch.full_like(like, min(round(share * trained), trained - 1))
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    signal = share_of_signal((1 - betas).cumprod(0), share * 1000)
    ratio = math.sqrt((1 - signal) / signal)
    return torch.full_like(like, trained * ratio / (1 + ratio))


def share_of_signal(alphas: Float[Tensor, " time"], timestep: float) -> float:
    """Alpha bar at a time step, which may lie between two (Karras' noise levels do): interpolated geometrically.

    Kept above 0, where a schedule that ends in pure noise has no logarithm.
    """
    low = min(max(math.floor(timestep), 0), len(alphas) - 1)
    high = min(low + 1, len(alphas) - 1)
    below, above = (math.log(max(float(alphas[at]), 1e-8)) for at in (low, high))
    return math.exp(below + (above - below) * min(max(timestep - low, 0.0), 1.0))
