"""DeLeaker: its masks and cuts by loops. What comes of them in a pipeline: `attention/test_over_joint.py`."""

from __future__ import annotations

import math
import statistics
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

import by_hand
from attnreg.methods.deleaker import DeLeaker, bodies_of, cleaned, leaks
from attnreg.regulation.edit import PromptColumns, PromptWords
from attnreg.regulation.joint import JointAttention
from attnreg.types import Grid, Target

Mask = list[list[bool]]
GRIDS = st.builds(Grid, st.integers(2, 6), st.integers(2, 7))


def around(mask: Mask, y: int, x: int) -> list[bool]:
    rows = range(max(y - 1, 0), min(y + 2, len(mask)))
    return [mask[j][i] for j in rows for i in range(max(x - 1, 0), min(x + 2, len(mask[0])))]


def swept(mask: Mask, what: Any) -> Mask:
    return [[what(around(mask, y, x)) for x in range(len(mask[0]))] for y in range(len(mask))]


def body_by_hand(values: list[float], spread: float) -> list[bool]:
    bound = statistics.fmean(values) + spread * statistics.stdev(values)
    return [value > bound for value in values]


def leaks_by_hand(own: list[list[float]], body: list[bool], other: list[bool], spread: float) -> Mask:
    between = [
        [value if a and b else 0.0 for b, value in zip(other, row, strict=True)]
        for a, row in zip(body, own, strict=True)
    ]
    found = [value for row in between for value in row if value]
    if len(found) < 2:
        return [[False] * len(row) for row in between]
    bound = statistics.fmean(found) + spread * statistics.stdev(found)
    return [[value > bound for value in row] for row in between]


def blobs(seed: int, grid: Grid, count: int) -> Tensor:
    """Maps with bright regions, so that masks are not empty when specks are gone."""
    generator = torch.Generator().manual_seed(seed)
    rough = torch.rand(count, 1, grid.height, grid.width, generator=generator, dtype=torch.float64)
    return F.avg_pool2d(rough, 3, stride=1, padding=1).flatten(1) ** 4


@given(by_hand.SEEDS, GRIDS)
def test_specks_and_holes_by_hand(seed: int, grid: Grid) -> None:
    masks = blobs(seed, grid, 2).reshape(2, grid.height, grid.width) > 0.05
    expected = []
    for mask in masks.tolist():
        for what in (all, any, any, any, all, all):
            mask = swept(mask, what)
        expected.append(mask)
    assert (cleaned(masks.float()) > 0.5).tolist() == expected


@given(by_hand.SEEDS, GRIDS, st.floats(-1, 1.5))
def test_on_small_maps_what_stands_out_is_the_body(seed: int, grid: Grid, spread: float) -> None:
    """Opened, a thing that fills six of 64 positions would be a speck."""
    maps = blobs(seed, grid, 2)
    assert bodies_of(maps, grid, spread).tolist() == [body_by_hand(one, spread) for one in maps.tolist()]


@pytest.mark.parametrize(("side", "kept"), [(29, 1), (30, 0)])
def test_on_large_maps_specks_are_none(side: int, kept: int) -> None:
    """The published cleaning, from the size on at which three positions are a tenth of the map."""
    maps = torch.zeros(1, side, side + 3)
    maps[0, 4:12, 5:11] = 1.0
    maps[0, 20, 20] = 1.0
    expected = maps[0] > 0
    expected[20, 20] = bool(kept)
    found = bodies_of(maps.flatten(1), Grid(side, side + 3), 1.0)
    assert torch.equal(found[0], expected.flatten())


def words_at(*columns: tuple[int, ...]) -> PromptWords:
    return PromptWords(PromptColumns(columns), tuple(Target(f"t{one[0]}", one) for one in columns))


def attention_of(seed: int, grid: Grid, when: float, targets: list[tuple[int, ...]]) -> JointAttention:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(grid.pixels, 8 + grid.pixels, generator=generator, dtype=torch.float64)
    for columns, one in zip(targets, blobs(seed, grid, len(targets)), strict=True):
        logits[:, list(columns)] += (20 * one / one.max())[:, None] / 4
    both = logits.softmax(-1)
    return JointAttention(both[:, :8], both[:, 8:], grid, when)


@given(by_hand.SEEDS, GRIDS, st.sampled_from([1.0, 0.5]), st.integers(2, 3))
def test_the_change_by_hand(seed: int, grid: Grid, strength: float, count: int) -> None:
    targets = [(1, 2), (4,), (5, 7)][:count]
    attention = attention_of(seed, grid, 1.5, targets)
    edit = DeLeaker(strength=strength, spread=0.5, leak=0.75)
    change = edit.over_joint(attention, words_at(*targets), 10, {})
    text, own = attention.text.tolist(), attention.own.tolist()
    bodies = [
        body_by_hand([sum(row[column] for column in columns) / len(columns) for row in text], 0.5)
        for columns in targets
    ]
    cut = -math.inf if strength == 1 else math.log(1 - strength)
    factor = [[1.0] * 8 for _ in text]
    added = [[0.0] * 8 for _ in text]
    between = [[0.0] * grid.pixels for _ in text]
    for one in range(count):
        for pixel, inside in enumerate(bodies[one]):
            for column in targets[one] if inside else ():
                factor[pixel][column] = 1 + strength * 0.2
        for other in set(range(count)) - {one}:
            here = [mine and not theirs for mine, theirs in zip(bodies[one], bodies[other], strict=True)]
            there = [theirs and not mine for mine, theirs in zip(bodies[one], bodies[other], strict=True)]
            leaking = leaks_by_hand(own, here, there, 0.75)
            for pixel, inside in enumerate(here):
                for column in targets[other] if inside else ():
                    added[pixel][column] += cut
                for position, cuts in enumerate(leaking[pixel]):
                    between[pixel][position] = cut if cuts else between[pixel][position]
    for made, expected in ((change.factor, factor), (change.text, added), (change.own, between)):
        torch.testing.assert_close(made, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-6)


def test_what_leaks_between_nothing_is_nothing() -> None:
    own = torch.rand(4, 4)
    nobody, one, two = (
        torch.tensor([False] * 4),
        torch.tensor([True, False, False, False]),
        torch.tensor([False, True, True, False]),
    )
    assert not leaks(own, nobody, one, 1.0).any()
    assert not leaks(own, one, torch.tensor([False, True, False, False]), -1.0).any(), "of one value there is no spread"
    assert leaks(own, one, two, 0.0).sum() == 1


def test_positions_are_those_of_all_that_was_observed() -> None:
    """Not of the first layers nor of the last steps; edited a little later; one target alone is left as it is."""
    grid, targets, memory = Grid(4, 5), [(1, 2), (4,)], dict[str, Any]()
    edit, words = DeLeaker(observed_from=0.25, edited_from=0.5, observed_until=0.5), words_at(*[(1, 2), (4,)])
    seen = [attention_of(seed, grid, when, targets) for seed, when in enumerate((0.0, 0.25, 0.5, 1.75, 2.0))]
    made = [edit.over_joint(one, words, 4, memory) for one in seen]
    assert [one is not None for one in made] == [False, False, True, True, True]
    assert memory["observed"][grid][0] == 3
    looked = [torch.stack([one.text[:, list(columns)].mean(-1) for columns in targets]) for one in seen[1:4]]
    bodies = bodies_of(sum(looked) / 3, grid, 1.0)
    for body, columns in zip(bodies, targets, strict=True):
        assert torch.equal(made[-1].factor[:, columns[0]] > 1, body)
    assert edit.over_joint(seen[-1], words_at((1, 2)), 4, {}) is None
