"""Passes of the denoiser: a row each, a backward pass counting two, whatever the method does beside its steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import tiny
from attnreg.methods.attend_and_excite import AttendAndExcite
from attnreg.passes import counted
from attnreg.regulation.balance import AttentionBalance
from attnreg.regulation.best_start import BestStart
from attnreg.sampling import generate

PROMPT = "a cat and a dog"
SMALL = {"height": 64, "width": 64, "num_inference_steps": 3}


@pytest.fixture(scope="module")
def pipe() -> Any:
    made = tiny.stable_diffusion()
    made.set_progress_bar_config(disable=True)
    return made


@pytest.mark.parametrize(("guidance", "rows"), [(7.5, 2), (1.0, 1)])
@pytest.mark.parametrize("edit", [None, AttentionBalance()])
def test_an_ordinary_step_is_a_pass_a_row(pipe: Any, edit: Any, guidance: float, rows: int) -> None:
    with counted(pipe) as passes:
        generate(pipe, PROMPT, edit, guidance_scale=guidance, **SMALL)
    assert passes.count == 3 * rows


def test_a_look_with_its_gradient_is_three(pipe: Any) -> None:
    edit = AttendAndExcite(window=(0.0, 1.0), thresholds=(0.9,), refinements=2)
    with counted(pipe) as passes:
        sample = generate(pipe, PROMPT, edit, **SMALL)
    looks = sum(one.passes for one in sample.trace.updates)
    assert looks > 3
    assert passes.count == 3 * 2 + 3 * looks


def test_starts_that_are_read_are_counted_by_a_hook_too(pipe: Any) -> None:
    """Against torch's own hook on the last layer, which sees every whole pass."""
    seen: list[int] = []
    hook = pipe.unet.conv_out.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    with counted(pipe) as passes:
        generate(pipe, PROMPT, BestStart(starts=2, enough=1e9, good=1e9), **SMALL)
    hook.remove()
    assert passes.count == sum(seen) > 3 * 2


def test_nothing_is_left_behind_and_the_picture_is_the_same(pipe: Any) -> None:
    before = set(vars(pipe.unet))
    with counted(pipe) as passes:
        seen = generate(pipe, PROMPT, None, **SMALL)
    unseen = generate(pipe, PROMPT, None, **SMALL)
    assert np.array_equal(np.asarray(seen.picture), np.asarray(unseen.picture))
    assert set(vars(pipe.unet)) == before
    assert passes.count == 6, "what is drawn afterwards is not counted"
    with pytest.raises(ZeroDivisionError), counted(pipe):
        raise ZeroDivisionError
    assert set(vars(pipe.unet)) == before
    assert torch.is_grad_enabled()
