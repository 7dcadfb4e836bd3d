"""Predictions that are made of several in transformers: against what the denoiser predicts for each prompt alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import tiny_families
from attnreg import AttnregError, regulate
from attnreg.attention.calls.call import prediction_in
from attnreg.attention.families import FAMILIES, family_of
from attnreg.methods.composable_diffusion import ComposableDiffusion
from test_families import PROMPT, everything_in
from tiny_families import SMALL

COMPOSED = [
    family.name for family in FAMILIES if "prediction" in family.kinds and family.name in tiny_families.FAMILIES
]
STEPS = 2
OPTIONS = {"Latte": {"mask_feature": False}}
"""Else even what is predicted without the prompt depends on how long the prompt is."""
TARGETS, WEIGHTS = ["cat", "blue balloon"], (2.0, 0.5)


def draw(name: str, pipe: Any, prompt: Any = PROMPT, **options: Any) -> Tensor:
    settings = {"num_inference_steps": STEPS, "output_type": "latent"} | SMALL[name] | OPTIONS.get(name, {}) | options
    return tiny_families.drawn(pipe, prompt, settings)


def first_step(name: str, pipe: Any, prompt: str, **options: Any) -> list[Tensor]:
    """What the pipeline is given in its first step, row by row of each call."""
    family, denoiser = family_of(pipe)
    calls: list[Tensor] = []
    handle = denoiser.register_forward_hook(
        lambda _, __, output: calls.append(family.stacked(prediction_in(output)).clone())
    )
    try:
        draw(name, pipe, prompt, **options)
    finally:
        handle.remove()
    return [row for call in calls[: len(calls) // STEPS] for row in call]


@pytest.mark.parametrize("name", COMPOSED)
def test_agrees_with_the_sum_by_hand(name: str) -> None:
    """`eps_0 + sum_i w_i (eps_i - eps_0)`, each of them what the unmodified pipeline asks under a prompt of its own."""
    pipe = tiny_families.FAMILIES[name]()
    _, denoiser = family_of(pipe)
    original, passes = denoiser.forward, list[int]()

    def counting(*args: Any, **kwargs: Any) -> Any:
        passes.append(1)
        return original(*args, **kwargs)

    denoiser.forward = counting
    try:
        cat = first_step(name, pipe, "cat")
        plain = len(passes)
        balloon = first_step(name, pipe, "blue balloon")
        before = len(passes)
        with regulate(pipe, TARGETS, ComposableDiffusion(weights=WEIGHTS)) as trace:
            composed = first_step(name, pipe, PROMPT)
    finally:
        del denoiser.forward
    own = [not torch.equal(one, other) for one, other in zip(cat, balloon, strict=True)]
    assert sum(own) == 1, "the prompt's row"
    nothing = [one for one, is_own in zip(cat, own, strict=True) if not is_own] or first_step(name, pipe, "")
    assert (trace.steps, trace.regulated_steps) == (STEPS, STEPS)
    # One for each phrase, and for nothing where the pipeline asks that not at all; never twice what it asks itself.
    assert len(passes) - before == plain + STEPS * (len(TARGETS) + (len(own) == 1))
    expected = [
        WEIGHTS[0] * one + WEIGHTS[1] * other + (1 - sum(WEIGHTS)) * nothing[0] if is_own else one
        for one, other, is_own in zip(cat, balloon, own, strict=True)
    ]
    torch.testing.assert_close(composed, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["Qwen-Image", "Z-Image", "PixArt"])
def test_images_do_not_see_one_another(name: str) -> None:
    """In calls of their own, in a list and in one batch; phrases of different numbers and lengths."""
    pipe = tiny_families.FAMILIES[name]()
    plain, objects = draw(name, pipe), everything_in(pipe)
    prompts, targets = [PROMPT, "a dog"], [TARGETS, ["dog"]]
    with regulate(pipe, targets, ComposableDiffusion()):
        together = draw(name, pipe, prompts)
    with regulate(pipe, TARGETS, ComposableDiffusion()):
        torch.testing.assert_close(together[:1], draw(name, pipe), rtol=1e-3, atol=1e-3)
    with regulate(pipe, TARGETS, ComposableDiffusion(strength=0.0)):
        assert torch.equal(draw(name, pipe), plain)
    assert objects == everything_in(pipe)
    assert torch.equal(draw(name, pipe), plain)


def test_guidance_that_differs_from_step_to_step_is_refused() -> None:
    pipe = tiny_families.FAMILIES["Stable Diffusion 3"]()
    with (
        regulate(pipe, config=ComposableDiffusion()),
        pytest.raises(AttnregError, match="which leaves out blocks to guide in some steps; leave that out"),
    ):
        draw("Stable Diffusion 3", pipe, skip_guidance_layers=[0])
