"""What a step can be asked about one image: how much noise its latent holds, and which picture is predicted from it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from torch import Tensor

import tiny
import tiny_families
from attnreg import AttnregError, regulate
from attnreg.attention.lookahead.noise_schedule import is_flow
from test_latents import Push

AT = 1


def asked(pipe: Any, prompts: Any, options: dict[str, Any]) -> tuple[list[Any], list[tuple[Any, ...]], Any]:
    """What every image is told in one step, with what the scheduler is given in it, and the sample before it."""
    told: list[Any] = []
    stepped: list[tuple[Any, ...]] = []
    step = pipe.scheduler.step

    def look(see: Any, latent: Tensor, words: Any) -> None:
        told.append((latent.clone(), see.level, see.picture(latent), see.channel_axis))

    def noting(output: Tensor, time: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
        # Asked before the step is taken: afterwards schedulers have counted it.
        index = pipe.scheduler.step_index if getattr(pipe.scheduler, "step_index", None) is not None else 0
        result = step(output, time, sample, *args, **kwargs)
        stepped.append((output.clone(), time, sample.clone(), index, result))
        return result

    pipe.scheduler.step = noting
    try:
        with regulate(pipe, config=Push(AT, by=0.0, look=look)):
            tiny_families.drawn(pipe, prompts, options)
    finally:
        del pipe.scheduler.step
    return told, stepped, pipe.scheduler


@pytest.mark.parametrize("kind", [DDIMScheduler, EulerDiscreteScheduler])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_on_a_unet(kind: Any, prediction: str, guidance: float) -> None:
    """Against the scheduler's own `pred_original_sample` of the guided prediction, and its own way to add noise."""
    pipe = tiny.stable_diffusion()
    pipe.scheduler = kind.from_config(pipe.scheduler.config, prediction_type=prediction, clip_sample=False)
    options = {"height": 64, "width": 80, "num_inference_steps": 4, "output_type": "latent", "guidance_scale": guidance}
    prompts = ["a cat and a dog", "a frog and a blue balloon"]
    told, stepped, scheduler = asked(pipe, prompts, options)
    assert len(told) == 2
    _, time, sample, _, result = stepped[AT]
    for image, (latent, (signal, spread), picture, axis) in enumerate(told):
        assert torch.equal(latent, sample[image])
        assert axis == 0
        torch.testing.assert_close(picture, result[1][image], rtol=1e-3, atol=1e-3)
        ones, zeros = torch.ones(1, 1), torch.zeros(1, 1)
        at = torch.as_tensor([time])
        assert signal == pytest.approx(float(scheduler.add_noise(ones, zeros, at)), rel=1e-4)
        assert spread == pytest.approx(float(scheduler.add_noise(zeros, ones, at)), rel=1e-4)


@pytest.mark.parametrize("name", ["Stable Diffusion 3", "FLUX", "Qwen-Image", "Z-Image", "PixArt"])
def test_on_transformers(name: str) -> None:
    """By the straight line under flow matching; with guidance in one call, in calls of its own, and without."""
    pipe = tiny_families.FAMILIES[name]()
    options = {"num_inference_steps": 4, "output_type": "latent"} | tiny_families.SMALL[name]
    told, stepped, scheduler = asked(pipe, "a cat and a blue balloon", options)
    output, time, sample, index, _ = stepped[AT]
    ((latent, (signal, spread), picture, axis),) = told
    flat = sample.reshape(latent.shape).float()
    assert latent.shape[axis] < latent.numel()
    if is_flow(scheduler):
        sigma = float(scheduler.sigmas[index])
        assert (signal, spread) == pytest.approx((1 - sigma, sigma), rel=1e-4)
        expected = flat - sigma * output.reshape(latent.shape).float()
        torch.testing.assert_close(picture, expected, rtol=1e-3, atol=1e-3)
    else:
        alpha = float(scheduler.alphas_cumprod[int(time)])
        assert (signal, spread) == pytest.approx((alpha**0.5, (1 - alpha) ** 0.5), rel=1e-4)
        noise = output.narrow(1, 0, sample.shape[1]).reshape(latent.shape).float()
        torch.testing.assert_close(picture, (flat - spread * noise) / signal, rtol=1e-3, atol=1e-3)


def test_a_schedule_that_is_not_known_is_refused() -> None:
    pipe = tiny.stable_diffusion()
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config, timestep_type="continuous")
    options = {"height": 64, "width": 64, "num_inference_steps": 2, "output_type": "latent"}
    with pytest.raises(AttnregError, match="noise schedule"):
        asked(pipe, "a cat", options)
