"""InitNO's losses against loops and finite differences, its search, its caps and its noises."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import by_hand
from attnreg.methods.initno import (
    FURTHEST,
    STEADY,
    InitNO,
    adam,
    conflict,
    divergence,
    moments,
    near_standard,
    stray,
)

PAIR = by_hand.words_of("a cat and a dog")


def brightest(image: by_hand.Map) -> tuple[int, int]:
    return max(((y, x) for y in range(len(image)) for x in range(len(image[0]))), key=lambda at: image[at[0]][at[1]])


def conflict_by_hand(images: list[by_hand.Map], own: list[list[float]], grid: by_hand.Grid) -> float:
    rows = []
    for image in images:
        y, x = brightest(image)
        rows.append(by_hand.flat(by_hand.smoothed(by_hand.picture(own[y * grid.width + x], grid))))
    terms = [
        sum(min(a, b) for a, b in zip(rows[i], rows[j], strict=True)) / (sum(rows[i]) + sum(rows[j]))
        for i in range(len(rows))
        for j in range(i)
    ]
    return sum(terms) / len(terms) if terms else 0.0


def stray_by_hand(images: list[by_hand.Map]) -> float:
    total = 0.0
    for image in images:
        body, region, waiting = by_hand.otsu(image), set(), {brightest(image)}
        while waiting:
            y, x = waiting.pop()
            region.add((y, x))
            for at in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                inside = 0 <= at[0] < len(image) and 0 <= at[1] < len(image[0])
                if inside and body[at[0]][at[1]] and at not in region:
                    waiting.add(at)
        outside = [v for y, row in enumerate(image) for x, v in enumerate(row) if (y, x) not in region]
        if outside and max(outside) > min(image[y][x] for y, x in region):
            total += max(outside)
    return total


@given(by_hand.SEEDS, by_hand.GRIDS, st.booleans(), st.sampled_from(by_hand.PROMPTS), st.floats(0, 2))
def test_loss_by_hand(seed, grid, padding, prompt, weight):
    words, maps = by_hand.words_of(prompt), by_hand.attention(seed, grid)
    aim = InitNO(padding=padding, clean_up=weight).aim(maps, words, 0, 50, {})
    images = by_hand.noun_maps(maps, words, padding)
    neglected, mixed = by_hand.neglect(images), conflict_by_hand(images, maps.own.tolist(), grid)
    assert float(aim.loss) == pytest.approx(neglected + mixed + weight * stray_by_hand(images), abs=1e-6)
    assert aim.attained == pytest.approx(1 - neglected if mixed <= 0.3 else -1, abs=1e-6)


@settings(max_examples=5)
@given(by_hand.SEEDS)
def test_gradients(seed):
    generator = torch.Generator().manual_seed(seed)
    seen = torch.rand(3, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    own = torch.rand(9, 9, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(conflict, (seen.detach(), own))
    if float(stray(seen).detach()):
        assert torch.autograd.gradcheck(stray, (seen,))


def test_adam_by_hand():
    """Kingma & Ba's algorithm 1, one number at a time, with the running means written out as sums."""
    gradients = torch.randn(5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    running = (torch.zeros(1, 2, 3, dtype=torch.float64),) * 2
    for turn in range(1, 6):
        running = moments(running, gradients[turn - 1].reshape(1, 2, 3))
        for index, step in enumerate(adam(*running, turn).flatten().tolist()):
            past = gradients[:turn, index].tolist()
            mean = sum(0.1 * 0.9 ** (turn - 1 - i) * g for i, g in enumerate(past)) / (1 - 0.9**turn)
            square = sum(0.001 * 0.999 ** (turn - 1 - i) * g * g for i, g in enumerate(past)) / (1 - 0.999**turn)
            assert step == pytest.approx(mean / (math.sqrt(square) + STEADY))


@given(by_hand.SEEDS, st.floats(0, 10))
def test_noise_stays_near_the_standard_one(seed, far):
    generator = torch.Generator().manual_seed(seed)
    mean, variance = (far * torch.randn(1, 2, 3, generator=generator) for _ in range(2))
    apart = [
        m * m / 2 + (math.exp(v) - 1 - v) / 2
        for m, v in zip(mean.flatten().tolist(), variance.flatten().tolist(), strict=True)
    ]
    assert divergence(mean, variance) == pytest.approx(sum(apart) / 6, rel=1e-3, abs=1e-6)
    near = near_standard(mean, variance)
    assert divergence(*near) <= FURTHEST
    if divergence(mean, variance) <= FURTHEST:
        assert near[0] is mean
    elif far < 1:
        assert divergence(*near) > FURTHEST / 2  # shrunk no more than need be


def test_the_search_has_caps():
    """Nothing is good enough: 2 noises x 3 steps, then 4 more, then the ordinary update with its refinement."""
    toy = by_hand.Toy()
    edit = InitNO(noises=2, noise_steps=3, last_steps=4, neglect_goal=0.0, thresholds=(1.0,), refinements=5)
    moved = edit.update(by_hand.noise(), toy, PAIR, 0, 50, {})
    assert moved.passes == toy.calls == 2 * 3 + 4 + 1 + 5
    assert edit.update(by_hand.noise(), toy, PAIR, 1, 50, {}).passes == 1


def test_a_good_noise_ends_the_search_at_once():
    toy, latent = by_hand.Toy(), by_hand.noise()
    edit = InitNO(neglect_goal=1.0, conflict_goal=1.0, refinements=0)
    moved = edit.update(latent, toy, PAIR, 0, 50, {})
    assert moved.passes == toy.calls == 2
    plain = InitNO(noises=0, refinements=0).update(latent, by_hand.Toy(), PAIR, 0, 50, {})
    torch.testing.assert_close(moved.latent, plain.latent)


def test_the_search_betters_its_own_noise_within_its_bounds():
    edit, memory, latent = InitNO(noises=1, last_steps=0, neglect_goal=0.0, noise_steps=30), {}, by_hand.noise(0, 8, 8)

    def look(z):
        return edit.look(z, by_hand.Toy(gain=4.0), PAIR, 0, 50, memory)

    found = edit._search(latent, 30, look, memory)
    look(latent)
    assert found.score < memory["neglect"] + memory["conflict"] - 0.01
    assert 0 < float((found.latent - latent).abs().max()) < 0.5


def test_one_target_and_a_picture_to_start_from():
    """No pair, no conflict; with `noises=1` the latent is never exchanged, only moved a little."""
    latent = by_hand.noise(0, 8, 8)
    edit = InitNO(noises=1, noise_steps=3, last_steps=3, step_size=1e-6, refinements=0)
    moved = edit.update(latent, by_hand.Toy(), by_hand.words_of("a cat"), 0, 50, {})
    assert float((moved.latent - latent).abs().max()) < 0.3
