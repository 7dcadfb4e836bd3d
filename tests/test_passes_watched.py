"""Whoever watches is told of every pass of the denoiser, can end the picture there, and leaves nothing behind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tiny
from attnreg.attention.regulate import apply_attention_regulation, remove_attention_regulation
from attnreg.regulation.balance import AttentionBalance
from attnreg.regulation.best_start import BestStart
from attnreg.sampling import generate
from attnreg.watching import Progress, watched

PROMPT = "a cat and a dog"
SMALL = {"height": 64, "width": 64, "num_inference_steps": 3}


@pytest.fixture(scope="module")
def pipe() -> Any:
    made = tiny.stable_diffusion()
    made.set_progress_bar_config(disable=True)
    return made


class Passes:
    """Counts the denoiser's own passes by a hook of torch's on its last layer, whoever calls it and how."""

    def __init__(self, pipe: Any) -> None:
        self.count = 0
        self.hook = pipe.unet.conv_out.register_forward_hook(self.note)

    def note(self, *_: Any) -> None:
        self.count += 1


@pytest.mark.parametrize("edit", [None, AttentionBalance(), BestStart(starts=2, enough=1e9, good=1e9)])
def test_every_pass_and_step_is_told_and_the_picture_is_the_same(pipe: Any, edit: Any) -> None:
    told: list[Progress] = []
    passes = Passes(pipe)
    seen = generate(pipe, PROMPT, edit, watch=told.append, **SMALL)
    passes.hook.remove()
    unseen = generate(pipe, PROMPT, edit, **SMALL)
    assert np.array_equal(np.asarray(seen.picture), np.asarray(unseen.picture))
    assert told[-1] == Progress(3, 3, passes.count)
    assert [one.step for one in told] == sorted(one.step for one in told)
    assert [one.passes for one in told] == sorted(one.passes for one in told)
    assert {one.passes for one in told} >= set(range(passes.count)), "before each pass"
    assert passes.count == 3 if edit is None else passes.count >= 3


@pytest.mark.parametrize("edit", [None, BestStart(starts=3, enough=1e9, good=1e9)])
def test_what_it_raises_ends_the_picture_before_the_next_pass(pipe: Any, edit: Any) -> None:
    before = set(vars(pipe)), set(vars(pipe.unet))
    passes = Passes(pipe)

    def enough(progress: Progress) -> None:
        if progress.passes == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(pipe, PROMPT, edit, watch=enough, **SMALL)
    passes.hook.remove()
    assert passes.count == 2
    assert (set(vars(pipe)), set(vars(pipe.unet))) == before


def test_a_regulation_that_stays_does_not_tell_afterwards(pipe: Any) -> None:
    """One that is applied inside of the block goes on calling what it found there."""
    told: list[Progress] = []
    with watched(pipe, told.append):
        apply_attention_regulation(pipe, AttentionBalance())
        pipe(PROMPT, **SMALL)
    count = len(told)
    pipe(PROMPT, **SMALL)
    assert count == len(told) > 0
    remove_attention_regulation(pipe)
    assert "forward" not in vars(pipe.unet)


def test_a_bar_over_things_is_the_pipelines_own(pipe: Any) -> None:
    """Some pipelines hand their time steps to the bar, and go through it."""
    with watched(pipe, lambda _: None):
        assert list(pipe.progress_bar([1, 2])) == [1, 2]
