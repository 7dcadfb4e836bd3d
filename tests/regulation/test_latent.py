"""The loop that moves a latent, against the published loop and finite differences, on a toy with a gradient."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import by_hand
from attnreg.regulation.edit import LatentEdit, Maps
from attnreg.regulation.latent import Aim, LatentSettings, Refinement, scheduled
from attnreg.regulation.settings import number, numbers, setting, yes_or_no
from attnreg.types import AttnregError, Grid

WORDS = by_hand.words_of("a cat and a dog")


@dataclass(frozen=True, kw_only=True)
class Seen(LatentSettings):
    """A toy method: the first target shall be looked at, the more the better."""

    threshold: float = setting(0.0, number(), "toy")
    cap: int = 0

    def aim(self, maps, words, step, total, memory):
        share = maps.cross[:, words.columns.targets[0][0]].mean()
        return Aim(1 - share, float(share.detach()))

    def refinement(self, step, total):
        return Refinement(self.threshold, self.cap) if step == 0 else None


def loss_at(latent, toy):
    return 1 - float(toy(latent).cross[:, WORDS.columns.targets[0][0]].mean())


def slope_at(latent, toy, step=1e-6):
    """The gradient by central differences."""
    slope = torch.zeros_like(latent)
    for index in np.ndindex(*latent.shape):
        ahead, behind = latent.clone(), latent.clone()
        ahead[index] += step
        behind[index] -= step
        slope[index] = (loss_at(ahead, toy) - loss_at(behind, toy)) / (2 * step)
    return slope


def published(latent, toy, size, threshold, cap):
    """Attend-and-Excite's loop as its authors wrote it, which looks at the first latent twice."""
    loss = loss_at(latent, toy)
    if 1 - loss < threshold:
        turn = 0
        while 1 - loss < threshold:
            turn += 1
            loss = loss_at(latent, toy)
            latent = latent - size * slope_at(latent, toy)
            if turn >= cap:
                break
    return latent - size * slope_at(latent, toy)


@settings(max_examples=12)
@given(by_hand.SEEDS, st.floats(0.1, 20), st.floats(0.03, 0.3), st.integers(1, 4))
def test_the_loop_is_the_published_one(seed, size, threshold, cap):
    toy, latent = by_hand.Toy(seed), by_hand.noise(seed, 1, 2)
    moved = Seen(step_size=size, threshold=threshold, cap=cap).update(latent, toy, WORDS, 0, 1, {})
    torch.testing.assert_close(moved.latent, published(latent, toy, size, threshold, cap), rtol=1e-4, atol=1e-6)
    assert moved.loss_before == pytest.approx(loss_at(latent, toy))


@settings(max_examples=8)
@given(st.integers(0, 9), st.floats(0.1, 3), st.floats(0.1, 30))
def test_one_move_by_finite_differences(step, strength, size):
    toy, latent = by_hand.Toy(1), by_hand.noise(1, 1, 2)
    moved = Seen(step_size=size, strength=strength, cap=0).update(latent, toy, WORDS, step, 10, {})
    pace = np.sqrt(np.linspace(1.0, 0.5, 10)[step])
    expected = latent - strength * size * pace * slope_at(latent, by_hand.Toy(1))
    torch.testing.assert_close(moved.latent, expected, rtol=1e-5, atol=1e-7)
    assert (moved.passes, toy.calls) == (1, 1)
    assert moved.loss_after is None


@pytest.mark.parametrize(("threshold", "passes"), [(0.0, 1), (1.0, 6)])
def test_refinement_ends_at_its_threshold_and_at_its_cap(threshold, passes):
    toy = by_hand.Toy()
    edit = Seen(threshold=threshold, cap=5)
    assert edit.update(by_hand.noise(), toy, WORDS, 0, 9, {}).passes == passes == toy.calls
    assert edit.update(by_hand.noise(), by_hand.Toy(), WORDS, 1, 9, {}).passes == 1


def test_refinement_stops_one_move_after_its_threshold():
    toy, latent = by_hand.Toy(), by_hand.noise()
    goal = 1 - loss_at(latent, toy) + 1e-6
    toy.calls = 0
    assert Seen(step_size=0.1, threshold=goal, cap=50).update(latent, toy, WORDS, 0, 9, {}).passes == toy.calls == 3


@pytest.mark.parametrize("settings", [{"strength": 0.0}, {"step_size": 0.0}], ids=str)
def test_nothing_asked_nothing_done(settings):
    toy, latent = by_hand.Toy(), by_hand.noise()
    moved = Seen(cap=3, **settings).update(latent, toy, WORDS, 0, 9, {})
    assert moved.latent is latent
    assert (moved.passes, toy.calls) == (0, 0)


class Content(Seen):
    """A loss of exactly 0."""

    def aim(self, maps, words, step, total, memory):
        return Aim(0 * maps.cross.sum(), -1.0)


def test_a_loss_of_zero_moves_nothing():
    toy, latent = by_hand.Toy(), by_hand.noise()
    moved = Content(cap=5, threshold=1.0).update(latent, toy, WORDS, 0, 9, {})
    assert moved.latent is latent
    assert moved[1:] == (0.0, 0.0, 1, None, None)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_callers_modes_are_left_alone(mode):
    toy = by_hand.Toy()
    with mode():
        latent = by_hand.noise()
        moved = Seen().update(latent, toy, WORDS, 0, 9, {})
        assert not torch.is_grad_enabled()
    assert not moved.latent.requires_grad
    assert not torch.equal(moved.latent, latent)
    again = Seen().update(by_hand.noise(), toy, WORDS, 0, 9, {})
    torch.testing.assert_close(moved.latent.clone(), again.latent)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_models_type_and_a_loss_in_float32(dtype):
    seen = []

    class Noting(Seen):
        def aim(self, maps, words, step, total, memory):
            seen.extend([maps.cross.dtype, maps.own.dtype])
            return super().aim(maps, words, step, total, memory)

    latent = by_hand.noise(dtype=dtype)
    moved = Noting().update(latent, by_hand.Toy(dtype=dtype), WORDS, 0, 9, {})
    assert moved.latent.dtype == dtype
    assert seen == [torch.float32] * 2
    exact = Seen().update(latent.double(), by_hand.Toy(), WORDS, 0, 9, {})
    torch.testing.assert_close(moved.latent.double(), exact.latent, rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("dtype", "remedy"), [(torch.float32, "smaller step_size"), (torch.float16, "dtype float32 or bfloat16")], ids=str
)
@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_what_is_not_finite_is_an_error(what, dtype, remedy):
    class Broken(Seen):
        def aim(self, maps, words, step, total, memory):
            loss = maps.cross.sum()
            return Aim(loss / 0 if what == "loss" else (loss - loss).sqrt() + 1)

    with pytest.raises(AttnregError, match=rf"Broken: expected a finite {what} in step 2, .*{remedy}"):
        Broken().update(by_hand.noise(dtype=dtype), by_hand.Toy(dtype=dtype), WORDS, 2, 9, {})


def test_maps_that_forget_the_latent_are_an_error():
    weights = torch.ones(4, by_hand.TOKENS, requires_grad=True)

    def see(latent):
        return Maps(weights.softmax(-1), None, Grid(2, 2))

    with pytest.raises(AttnregError, match="maps that depend on the latent"):
        Seen().update(by_hand.noise(), see, WORDS, 0, 9, {})


@pytest.mark.parametrize(
    ("total", "steps"), [(50, {0: 0.1, 10: 0.2, 20: 0.3}), (15, {0: 0.1, 3: 0.2, 6: 0.3}), (1, {0: 0.3})]
)
def test_refinements_scale_with_the_steps(total, steps):
    found = {step: scheduled((0.1, 0.2, 0.3), 7, step, total) for step in range(total)}
    assert {step: due.threshold for step, due in found.items() if due} == steps
    assert {due.cap for due in found.values() if due} == {7}
    assert scheduled((0.1,), 0, 0, total) is None
    assert scheduled((), 5, 0, total) is None


def test_it_is_a_latent_edit():
    assert isinstance(Seen(), LatentEdit)
    assert replace(Seen(), strength=2.0).strength == 2.0
    with pytest.raises(TypeError, match="abstract"):
        LatentSettings()


@pytest.mark.parametrize(
    ("check", "value", "message"),
    [
        (yes_or_no, 1, "true or false"),
        (yes_or_no, "yes", "true or false"),
        (numbers(0, 1), 0.5, "several numbers"),
        (numbers(0, 1), "0.5", "several numbers"),
        (numbers(0, 1), (0.5, 2), "at most 1"),
        (numbers(0, 1), (0.5, None), "a number"),
    ],
)
def test_kinds_of_settings(check, value, message):
    with pytest.raises(AttnregError, match=f"taste: .*{message}"):
        check("taste", value)


def test_kinds_of_settings_accept():
    assert yes_or_no("taste", False) is False
    assert numbers(0, 1)("taste", [0, 1]) == (0.0, 1.0)
    assert numbers()("taste", ()) == ()
