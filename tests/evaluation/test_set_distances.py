"""Sets apart: by hand, by slow loops, and for sets between which there is nothing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from attnreg.errors import AttnregError
from attnreg.evaluation.set_distances import DISTANCES, distance_between, floor_of, resampled_rows
from attnreg.measure.distributions import kernel_distance, kernel_distance_of_pairs

PROMPTS = ["a", "b", "a", "c", "b", "a", "d", "e"]
"""Of 8 pictures: prompts with one to three seeds, not in order."""


def normal(seed: int, count: int = 8, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, channels))


@pytest.mark.parametrize("name", DISTANCES)
def test_equal_sets_are_nowhere_apart(name: str) -> None:
    ours = normal(0)
    found = distance_between(DISTANCES[name], ours, PROMPTS, ours.copy(), paired=True)
    assert [found.value, found.low, found.high] == pytest.approx([0, 0, 0], abs=1e-6)


def test_a_shifted_set_lies_at_the_square_of_the_shift() -> None:
    """Equal covariances leave |m1 - m2|^2 alone; resampled in pairs, the shift is in every resample the same."""
    ours, shift = normal(0), np.array([1.0, -2.0, 0.5])
    found = distance_between(DISTANCES["frechet"], ours + shift, PROMPTS, ours, paired=True)
    assert [found.value, found.low, found.high] == pytest.approx([5.25, 5.25, 5.25])
    alone = distance_between(DISTANCES["frechet"], ours + shift, PROMPTS, ours, paired=False)
    assert alone.value == pytest.approx(5.25)
    assert alone.low < 5.0 < 5.5 < alone.high, "against a fixed reference the resampled means move"


def test_kernel_distance_of_pairs_by_hand() -> None:
    """Four terms for every two different pairs; written out for one channel and two pairs, then in loops."""
    # k(1,2) = 27, k(0,1) = 1, k(1,1) = 8, k(2,0) = 1: 2 (27 + 1 - 8 - 1) over 2 ordered pairs.
    assert kernel_distance_of_pairs(np.array([[1.0], [2.0]]), np.array([[0.0], [1.0]])) == pytest.approx(19.0)
    x, y = normal(0), normal(1)
    k = lambda a, b: (float(a @ b) / 3 + 1) ** 3  # noqa: E731
    terms = [
        k(x[i], x[j]) + k(y[i], y[j]) - k(x[i], y[j]) - k(x[j], y[i]) for i, j in itertools.permutations(range(8), 2)
    ]
    assert kernel_distance_of_pairs(x, y) == pytest.approx(np.mean(terms))
    assert kernel_distance(x, x) < -1, "what takes the sets for independent is no use for pairs"
    with pytest.raises(AttnregError, match="pairs of pictures, got 8 and 7"):
        kernel_distance_of_pairs(x, y[:7])


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("name", DISTANCES)
def test_the_interval_is_that_of_a_slow_loop(name: str, paired: bool) -> None:
    """Draw prompts one after another, gather their pictures one by one, move the quantiles onto the distance."""
    ours, theirs = normal(0) + 1, normal(1)
    measured = DISTANCES[name].of_pairs if paired else DISTANCES[name].apart
    rng, names, values = np.random.default_rng(3), ["a", "b", "c", "d", "e"], []
    for _ in range(40):
        first, second = [], []
        for lot in rng.integers(0, 5, 5):
            for row, prompt in enumerate(PROMPTS):
                if prompt == names[lot]:
                    first.append(ours[row])
                    second.append(theirs[row])
        values.append(measured(np.array(first), np.array(second) if paired else theirs))
    found = distance_between(DISTANCES[name], ours, PROMPTS, theirs, paired=paired, resamples=40, seed=3)
    moved = measured(ours, theirs) - np.mean(values)
    low, high = np.quantile(values, [0.025, 0.975]) + moved
    expected = [measured(ours, theirs), low if name == "kernel" else max(low, 0.0), high]
    assert [found.value, found.low, found.high] == pytest.approx(expected)
    assert found.low < found.value < found.high


def test_a_resample_takes_all_seeds_of_a_prompt() -> None:
    for rows in resampled_rows(PROMPTS, 50):
        seen = [PROMPTS[row] for row in rows]
        times = {prompt: seen.count(prompt) / PROMPTS.count(prompt) for prompt in seen}
        assert all(each == int(each) for each in times.values())
        assert sum(times.values()) == 5, "as many prompts as there are"
    assert any(len(rows) != len(PROMPTS) for rows in resampled_rows(PROMPTS, 50))


def test_one_prompt_has_no_interval() -> None:
    found = distance_between(DISTANCES["frechet"], normal(0), ["a"] * 8, normal(1), paired=True)
    assert (found.low, found.high) == (-np.inf, np.inf)


def test_the_floor_is_that_of_a_slow_loop() -> None:
    theirs = normal(0, 9)
    rng, values = np.random.default_rng(5), []
    for _ in range(30):
        order = list(rng.permutation(9))
        values.append(kernel_distance(theirs[order[:4]], theirs[order[4:8]]))
    found = floor_of(DISTANCES["kernel"], theirs, splits=30, seed=5)
    expected = [np.mean(values), *np.quantile(values, [0.025, 0.975])]
    assert [found.value, found.low, found.high] == pytest.approx(expected)
    with pytest.raises(AttnregError, match="at least 4 pictures of the reference, got 3"):
        floor_of(DISTANCES["kernel"], theirs[:3])
