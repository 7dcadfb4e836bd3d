"""One prompt, one method, one seed: one picture and its account."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

import tiny
from attnreg.methods import METHODS
from attnreg.methods.attention_scaling import AttentionScaling
from attnreg.regulation.config import AttentionRegulation
from attnreg.sampling import configure, generate
from attnreg.trace import Sample
from attnreg.types import AttnregError

PROMPT = "a cat and a blue balloon"
SMALL = {"height": 64, "width": 64, "num_inference_steps": 2}


@pytest.fixture(scope="module")
def pipe() -> Any:
    return tiny.stable_diffusion()


def pixels(sample: Sample) -> np.ndarray:
    return np.asarray(sample.picture)


def test_one_seed_one_picture(pipe: Any) -> None:
    """The same seed twice, another in between, and the pipeline called by hand as diffusers documents it."""
    first, other, again = (generate(pipe, PROMPT, None, seed=seed, **SMALL) for seed in (7, 8, 7))
    assert np.array_equal(pixels(first), pixels(again))
    assert not np.array_equal(pixels(first), pixels(other))
    by_hand = pipe(PROMPT, generator=torch.Generator().manual_seed(7), **SMALL).images[0]
    assert np.array_equal(pixels(first), np.asarray(by_hand))
    assert first.picture.size == (64, 64)


def test_a_sample_tells_how_it_came_about(pipe: Any) -> None:
    drawn = generate(pipe, PROMPT, AttentionScaling(shift=3.0), seed=5, targets=["blue balloon"], **SMALL)
    assert (drawn.prompt, drawn.seed) == (PROMPT, 5)
    assert 0 < drawn.seconds < 600
    assert (drawn.trace.steps, drawn.trace.regulated_steps) == (2, 1)
    (attention,) = drawn.trace.attention()
    assert list(attention) == ["blue balloon"]
    before, after = attention["blue balloon"]
    assert 0 < before < after < 1
    assert generate(pipe, PROMPT, None, seed=5, **SMALL).trace.attention() == []


def test_adjectives_may_be_left_out(pipe: Any) -> None:
    drawn = generate(pipe, PROMPT, AttentionScaling(), adjectives=False, **SMALL)
    assert list(drawn.trace.attention()[0]) == ["cat", "balloon"]


def test_options_left_open_are_the_pipelines_own(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`None` is not handed on; everything else is."""
    given: dict[str, Any] = {}
    call = type(pipe).__call__

    def spy(self: Any, prompt: str, **options: Any) -> Any:
        given.update(options)
        return call(self, prompt, **options)

    monkeypatch.setattr(type(pipe), "__call__", spy)
    generate(pipe, PROMPT, None, guidance_scale=None, negative_prompt="dog", **SMALL)
    assert given.pop("generator").initial_seed() == 0
    assert given == SMALL | {"negative_prompt": "dog"}


def test_strength_zero_equals_none(pipe: Any) -> None:
    plain = generate(pipe, PROMPT, configure("none"), **SMALL)
    zero = generate(pipe, PROMPT, configure("attention-regulation", {"strength": 0.0}), **SMALL)
    whole = generate(pipe, PROMPT, configure("attention-regulation"), **SMALL)
    assert np.array_equal(pixels(plain), pixels(zero))
    assert not np.array_equal(pixels(plain), pixels(whole))


def test_an_error_leaves_the_pipeline_as_it_was(pipe: Any) -> None:
    with pytest.raises(AttnregError, match="'dog'"):
        generate(pipe, PROMPT, AttentionRegulation(), targets=["dog"], **SMALL)
    assert "forward" not in vars(pipe.unet)
    assert "encode_prompt" not in vars(pipe)


def test_configure() -> None:
    assert configure("none") is None
    assert configure("none", {}) is None
    assert configure("attention-regulation", {"area": 0.5, "window": [0.0, 1.0]}) == AttentionRegulation(
        area=0.5, window=(0.0, 1.0)
    )
    for name, method in METHODS.items():
        if method.config is not None:
            assert configure(name) == method.config()


@pytest.mark.parametrize(
    ("method", "settings", "parts"),
    [
        ("atention-regulation", {}, ["'atention-regulation'", "none, auto, attention-balance,"]),
        ("none", {"strength": 1.0}, ["settings of none", "it has none", "strength"]),
        (
            "attention-scaling",
            {"area": 0.5},
            ["settings of attention-scaling", "strength, window, layers, shift", "area"],
        ),
        ("attention-regulation", {"area": 0.0}, ["area", "0"]),
        ("attention-regulation", {"window": (0.5, 0.2)}, ["window", "swap"]),
        ("attention-regulation", {"layers": ["("]}, ["layers", "'('"]),
    ],
)
def test_configure_refuses(method: str, settings: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(AttnregError) as told:
        configure(method, settings)
    assert [part for part in parts if part not in str(told.value)] == []


def test_public_names_are_what_they_say() -> None:
    """In a process of its own: what an earlier import leaves on the package must not stand in for a public name."""
    code = (
        "import attnreg.cli, attnreg.studio, attnreg; from attnreg import *; import attnreg as a;"
        "assert all(callable(getattr(a, n)) for n in a.__all__ if n != 'METHODS'), 'a name is a module';"
        "assert isinstance(METHODS, dict)"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
