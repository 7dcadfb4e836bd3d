"""SAGA: its loss by hand, its descent against torch's own optimiser with one graph, and what it asks of a step."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import by_hand
from attnreg.methods.saga import Saga, held_to
from attnreg.regulation.edit import Maps
from attnreg.regulation.noises import normal_noises
from attnreg.regulation.sight import Sight
from attnreg.types import AttnregError

LEVEL = (0.6, 0.8)
PAIR = by_hand.words_of("a blue balloon and a cat")


class ToySight(by_hand.Toy, Sight):
    """The toy in a step whose predicted picture is told."""

    level = LEVEL
    channel_axis = 0
    asked = 0
    prompt = nothing = under = None  # nobody asks for these

    def picture(self, latent: Tensor) -> Tensor:
        self.asked += 1
        return 2 * latent.tanh() + torch.arange(4.0, dtype=latent.dtype)[:, None, None]


def overlap_by_hand(images: list[by_hand.Map]) -> float:
    terms = []
    for i, one in enumerate(images):
        for other in images[:i]:
            pairs = list(zip(by_hand.flat(one), by_hand.flat(other), strict=True))
            terms.append(sum(min(a, b) for a, b in pairs) / sum(a + b for a, b in pairs))
    return sum(terms) / len(terms) if terms else 0.0


@given(by_hand.SEEDS, by_hand.GRIDS, st.booleans(), st.sampled_from(by_hand.PROMPTS))
def test_loss_by_hand(seed: int, grid: by_hand.Grid, padding: bool, prompt: str) -> None:
    words, maps = by_hand.words_of(prompt), by_hand.attention(seed, grid)
    images = by_hand.noun_maps(maps, words, padding)
    aim = Saga(padding=padding).aim(maps, words, 0, 50, {})
    assert float(aim.loss) == pytest.approx((by_hand.neglect(images) + overlap_by_hand(images)) / 2, abs=1e-6)


def by_optimiser(edit: Saga, latent: Tensor, sight: ToySight) -> Tensor:
    """The same written with a graph from the mean to the mean loss, and `torch.optim.SGD`."""
    signal, spread = LEVEL
    picture = sight.picture(latent)
    noises = normal_noises(latent)
    mean = torch.empty_like(latent)
    for channel in range(4):
        mean[channel] = signal * picture[channel].sum() / picture[channel].numel()
    mean.requires_grad_(True)
    bound = (signal * picture).std()
    optimiser = torch.optim.SGD([mean], lr=edit.strength * edit.step_size, momentum=edit.momentum)

    def held() -> Tensor:
        factor = bound / mean.std()
        return mean * factor if factor < 1 else mean

    for _ in range(edit.updates):
        samples = [held() + spread * next(noises).double() for _ in range(edit.noises)]
        losses = [edit.aim(sight(sample), PAIR, 2, 10, {}).loss for sample in samples]
        optimiser.zero_grad()
        (sum(losses) / edit.noises).backward()
        optimiser.step()
    return (held() + spread * next(noises).double()).detach()


@pytest.mark.parametrize("settings", [{}, {"strength": 0.1, "momentum": 0.7}, {"step_size": 500.0}], ids=str)
def test_the_descent_is_that_of_an_optimiser(settings: dict[str, float]) -> None:
    """With large steps the contrast is held, and its gradient goes through what holds it."""
    edit, latent = Saga(updates=4, noises=3, **settings), by_hand.noise(0, 4, 5)
    sight = ToySight(3)
    moved = edit.update(latent, sight, PAIR, 2, 10, {})
    assert (moved.passes, sight.calls, sight.asked) == (1 + 4 * 3, 4 * 3, 1)
    torch.testing.assert_close(moved.latent, by_optimiser(edit, latent, ToySight(3)), rtol=0, atol=1e-6)


def test_a_descent_lowers_the_loss_of_noises_that_it_has_not_seen() -> None:
    edit, latent, toy = Saga(updates=30, noises=4), by_hand.noise(0, 5, 5), ToySight(3, gain=3.0)
    signal, spread = LEVEL
    picture = signal * toy.picture(latent)
    start = picture.mean((1, 2), keepdim=True).expand_as(picture)

    def expected(mean: Tensor) -> float:
        generator = torch.Generator().manual_seed(7)
        fresh = [torch.randn(latent.shape, generator=generator, dtype=torch.float64) for _ in range(64)]
        return sum(edit.look(mean + spread * one, toy, PAIR, 2, 10, {}).loss for one in fresh) / len(fresh)

    noises = list(zip(range(30 * 4 + 1), normal_noises(latent), strict=False))
    learnt = edit.update(latent, toy, PAIR, 2, 10, {}).latent - spread * noises[-1][1].double()
    assert expected(learnt) < expected(start) - 0.005  # the same 64 noises for both
    assert float(learnt.std()) <= float(picture.std()) * (1 + 1e-9)


def test_it_begins_anew_once_and_alike() -> None:
    edit, latent, memory = Saga(updates=2, noises=2), by_hand.noise(0, 4, 5), {}
    first = edit.update(latent, ToySight(3), PAIR, 2, 10, memory)
    second = edit.update(first.latent, ToySight(3), PAIR, 3, 10, memory)
    assert second.latent is first.latent
    assert second.passes == 0
    assert torch.equal(edit.update(latent, ToySight(3), PAIR, 2, 10, {}).latent, first.latent)


def test_precisions() -> None:
    latent = by_hand.noise(0, 4, 5)
    exact = Saga(updates=2, noises=2, step_size=2.0).update(latent, ToySight(3), PAIR, 2, 10, {})
    for dtype in (torch.float32, torch.bfloat16):
        toy = ToySight(3, dtype=dtype)
        moved = Saga(updates=2, noises=2, step_size=2.0).update(latent.to(dtype), toy, PAIR, 2, 10, {})
        assert moved.latent.dtype == dtype
        loose = 1e-3 if dtype == torch.float32 else 0.2
        torch.testing.assert_close(moved.latent.double(), exact.latent, rtol=loose, atol=loose)


def test_contrast_is_held_from_above_alone() -> None:
    one = torch.tensor([1.0, 3.0, 5.0])
    torch.testing.assert_close(held_to(one, torch.tensor(1.0)), one / 2)
    assert held_to(one, torch.tensor(9.0)) is one


def test_what_tells_no_noise_level_is_refused() -> None:
    def see(latent: Tensor) -> Maps:
        return by_hand.Toy()(latent)

    with pytest.raises(AttnregError, match="expected a Sight"):
        Saga().update(by_hand.noise(), see, PAIR, 2, 10, {})
