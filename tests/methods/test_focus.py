"""FOCUS: its cost by hand, the sign of its control, and what a pipeline's step becomes under it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import by_hand
import tiny
import tiny_families
from attnreg import AttnregError, regulate
from attnreg.attention.lookahead.noise_schedule import pushed
from attnreg.methods.focus import Focus, control
from attnreg.regulation.edit import LatentUpdated
from attnreg.regulation.sight import Sight

PAIR = by_hand.words_of("a blue balloon and a cat")


def blurred(image: by_hand.Map) -> by_hand.Map:
    """Nine neighbours under a Gaussian of standard deviation 1, mirrored at the edges."""

    def mirrored(index: int, length: int) -> int:
        return 0 if length == 1 else 1 if index < 0 else length - 2 if index >= length else index

    height, width = len(image), len(image[0])
    weights = {d: math.exp(-d * d / 2) / (1 + 2 * math.exp(-0.5)) for d in (-1, 0, 1)}
    return [
        [
            sum(
                weights[i] * weights[j] * image[mirrored(y + i, height)][mirrored(x + j, width)]
                for i in weights
                for j in weights
            )
            for x in range(width)
        ]
        for y in range(height)
    ]


def divergence_by_hand(maps: list[list[float]]) -> float:
    cubed = [by_hand.share([value**3 for value in one]) for one in maps]
    mean = [sum(values) / len(cubed) for values in zip(*cubed, strict=True)]
    each = [sum(q * math.log(q / m) for q, m in zip(one, mean, strict=True)) for one in cubed]
    return sum(each) / len(each) / math.log(len(each))


def cost_by_hand(maps: Any, subjects: tuple[tuple[int, ...], ...]) -> float:
    cross = maps.cross.tolist()
    tokens = [
        [by_hand.flat(blurred(by_hand.picture([row[column] for row in cross], maps.grid))) for column in own]
        for own in subjects
    ]
    within = [divergence_by_hand(own) for own in tokens if len(own) > 1]
    agree = sum(within) / len(within) if within else 0.0
    means = [[sum(values) / len(values) for values in zip(*own, strict=True)] for own in tokens]
    return (agree + (1 - divergence_by_hand(means) if len(means) > 1 else 0.0)) / 2


@given(by_hand.SEEDS, by_hand.GRIDS, st.sampled_from(by_hand.PROMPTS))
def test_cost_by_hand(seed: int, grid: by_hand.Grid, prompt: str) -> None:
    words, maps = by_hand.words_of(prompt), by_hand.attention(seed, grid)
    aim = Focus().aim(maps, words, 0, 50, {})
    assert float(aim.loss) == pytest.approx(cost_by_hand(maps, words.columns.targets), abs=1e-6)
    assert -1e-6 <= float(aim.loss) <= 1 + 1e-6


class ToySight(by_hand.Toy, Sight):
    """The toy at a noise level that is told."""

    channel_axis = 0
    level = (0.25, 0.75)
    prompt = nothing = under = None  # nobody asks for these

    def picture(self, latent: Tensor) -> Tensor:
        raise AssertionError("nobody asked")


def finite_difference(edit: Focus, latent: Tensor, toy: ToySight, at: tuple[int, ...]) -> float:
    one = torch.zeros_like(latent)
    one[at] = 1e-5
    up, down = (edit.look(latent + sign * one, toy, PAIR, 0, 10, {}).loss for sign in (1, -1))
    return (up - down) / 2e-5


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_the_push_by_hand(strength: float) -> None:
    """The published factor of flow matching, s = .75 of noise (there: 1 - .25), and the gradient by differences."""
    edit, latent, toy = Focus(strength=strength), by_hand.noise(0, 4, 5), ToySight(3)
    updated = edit.update(latent, toy, PAIR, 0, 10, {})
    assert updated.latent is latent
    assert (updated.passes, updated.loss_after) == (1, None)
    factor = strength * 4.0 * 2 * (0.75 + 1e-3) / (0.25 + 1e-3) * 0.75
    for at in [(0, 0, 0), (1, 2, 3), (3, 3, 4)]:
        assert float(updated.push[at]) == pytest.approx(factor * finite_difference(edit, latent, toy, at), rel=1e-4)


def test_a_step_of_eulers_method_lowers_the_cost() -> None:
    """`z + (s' - s) (v + push)` beside `z + (s' - s) v`, for a velocity that leaves the cost nearly as it is."""
    edit, toy = Focus(step_size=0.01), ToySight(3)
    for seed in range(5):
        latent = by_hand.noise(seed, 5, 5)
        push = edit.update(latent, toy, PAIR, 0, 10, {}).push
        before = edit.look(latent, toy, PAIR, 0, 10, {}).loss
        assert edit.look(latent - 0.05 * push, toy, PAIR, 0, 10, {}).loss < before
        assert edit.look(latent + 0.05 * push, toy, PAIR, 0, 10, {}).loss > before


def test_the_control_is_one_path_in_every_coordinate() -> None:
    """Of a latent c times as large the gradient is 1/c as large; what is added to the velocity is the same."""
    flow = control(0.4, 0.6)
    for scale in (0.5, 2.0, 7.0):
        assert control(scale * 0.4, scale * 0.6) / scale == pytest.approx(flow)
    assert math.isfinite(control(0.0, 1.0))


def test_nothing_to_tell_apart_is_nothing_to_do() -> None:
    latent, toy = by_hand.noise(0, 4, 5), ToySight(3)
    alone = by_hand.words_of("a cat", (2,))
    assert Focus().update(latent, toy, alone, 0, 10, {}) == LatentUpdated(latent, 0.0, 0.0, 1)
    for off in ({"strength": 0.0}, {"step_size": 0.0}):
        assert Focus(**off).update(latent, toy, PAIR, 0, 10, {}) == LatentUpdated(latent)
    with pytest.raises(AttnregError, match="expected a Sight"):
        Focus().update(latent, by_hand.Toy(), PAIR, 0, 10, {})


# --- in a pipeline ------------------------------------------------------------------------------------------------


class Watched(Focus):
    """Acts in its first step alone, and notes what it saw in every one."""

    def update(
        self, latent: Tensor, see: Any, words: Any, step: int, total: int, memory: dict[str, Any]
    ) -> LatentUpdated:
        found = self.look(latent, see, words, step, total, memory)
        noted = (latent.clone(), found.loss, found.gradient, see.level)
        SEEN.append(noted)
        return super().update(latent, see, words, step, total, memory) if step == AT else LatentUpdated(latent)


AT, SEEN = 2, list[Any]()
SHIFT = 0.05
"""How far some value of the latent is to be moved: random networks have small gradients, and rounding must not show."""


def followed(pipe: Any, options: dict[str, Any], step_size: float) -> list[Any]:
    """The latent, the cost, its gradient and the noise level before each step."""
    SEEN.clear()
    with regulate(pipe, config=Watched(step_size=step_size)):
        tiny_families.drawn(pipe, "a cat and a blue balloon", options)
    return list(SEEN)


def coefficient_of_noise(before: tuple[float, float], after: tuple[float, float]) -> float:
    """Of e in `A' x + S' e` where `x = (z - S e) / A`, z being the same."""
    return after[1] - after[0] * before[1] / before[0]


@pytest.mark.parametrize("kind", [DDIMScheduler, EulerDiscreteScheduler])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_a_step_of_diffusion_is_turned_as_that_of_the_path_of_flow(kind: Any, prediction: str) -> None:
    pipe = tiny.stable_diffusion()
    pipe.scheduler = kind.from_config(pipe.scheduler.config, prediction_type=prediction, clip_sample=False)
    options = {"height": 64, "width": 80, "num_inference_steps": 8, "output_type": "latent"}
    plain = followed(pipe, options, 0.0)
    _, _, gradient, (signal, spread) = plain[AT]
    s, slope = spread / (signal + spread), coefficient_of_noise(plain[AT][3], plain[AT + 1][3])
    unit = slope * signal * 2 * (s + 1e-3) / (1 - s + 1e-3) * s * gradient
    assert slope < 0
    size = SHIFT / float(unit.abs().max())
    turned = followed(pipe, options, size)
    assert torch.equal(plain[AT][0], turned[AT][0])
    torch.testing.assert_close(turned[AT + 1][0] - plain[AT + 1][0], size * unit, rtol=1e-3, atol=1e-3 * SHIFT)


@pytest.mark.parametrize("name", ["Stable Diffusion 3", "FLUX", "Z-Image"])
def test_a_step_under_flow_matching_goes_downhill(name: str) -> None:
    """By the published equation, and so the cost in the next step is lower than without."""
    pipe = tiny_families.FAMILIES[name]()
    options = {"output_type": "latent"} | tiny_families.SMALL[name] | {"num_inference_steps": 20}
    plain = followed(pipe, options, 0.0)
    _, _, gradient, (_, s) = plain[AT]
    after = plain[AT + 1][3][1]
    assert after < s
    unit = (after - s) * 2 * (s + 1e-3) / (1 - s + 1e-3) * s * gradient
    size = SHIFT / float(unit.abs().max())
    turned = followed(pipe, options, size)
    torch.testing.assert_close(turned[AT + 1][0] - plain[AT + 1][0], size * unit, rtol=1e-3, atol=1e-3 * SHIFT)
    assert turned[AT + 1][1] < plain[AT + 1][1]


def test_what_is_predicted_in_further_channels_stays() -> None:
    scheduler = DDIMScheduler(prediction_type="epsilon")
    predicted, push = torch.randn(1, 6, 2, 2), torch.randn(1, 3, 2, 2)
    made = pushed(scheduler, predicted, push, 400)
    assert torch.equal(made[:, 3:], predicted[:, 3:])
    assert torch.equal(made[:, :3], pushed(scheduler, predicted[:, :3], push, 400))
    assert not torch.equal(made[:, :3], predicted[:, :3])
