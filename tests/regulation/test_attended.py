"""The maps that latent edits look at, against loops."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import by_hand
from attnreg.regulation.attended import KERNEL, distributions, maps_of, neglect, sharpened, smoothed, word_columns
from attnreg.regulation.edit import PromptColumns
from attnreg.types import Grid


@given(by_hand.SEEDS, by_hand.GRIDS, st.booleans(), st.sampled_from(by_hand.PROMPTS))
def test_maps_by_hand(seed, grid, padding, prompt):
    words, maps = by_hand.words_of(prompt), by_hand.attention(seed, grid, sharp=2.0)
    sharp = sharpened(maps.cross, words.columns, padding)
    torch.testing.assert_close(sharp, torch.tensor(by_hand.sharp_rows(maps, words, padding), dtype=torch.float64))
    groups = [target.tokens for target in words.targets]
    expected = [by_hand.word_map(sharp.tolist(), group, grid) for group in groups]
    found = smoothed(maps_of(sharp, groups, grid))
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    assert float(neglect(found)) == pytest.approx(by_hand.neglect(expected), abs=1e-9)
    shares = [by_hand.share(by_hand.flat(image)) for image in expected]
    torch.testing.assert_close(distributions(found), torch.tensor(shares, dtype=torch.float64), rtol=1e-6, atol=1e-12)


def test_the_kernel_is_the_published_one():
    assert list(KERNEL) == pytest.approx([0.212, 0.576, 0.212], abs=5e-4)
    assert sum(KERNEL) == pytest.approx(1)


@pytest.mark.parametrize(
    ("start", "end", "padding", "competing"),
    [
        (0, 4, False, [1, 2, 3]),
        (0, 4, True, [1, 2, 3, 4, 5, 6]),
        (None, None, False, [0, 1, 2, 3, 4, 5, 6, 7]),
        (0, None, True, [1, 2, 3, 4, 5, 6, 7]),
        (0, 8, True, [1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_which_columns_compete(start, end, padding, competing):
    columns = PromptColumns(((2,),), start, end)
    sharp = sharpened(torch.full((1, 8), 1 / 8), columns, padding)
    assert sharp[0].nonzero().flatten().tolist() == competing
    assert word_columns(columns, 8) == range(0 if start is None else 1, 8 if end is None else end)


def test_a_distribution_of_nothing_is_even():
    assert distributions(torch.zeros(1, 2, 2)).tolist() == [[0.25] * 4]


def test_a_map_without_gradient_trouble():
    """Attention that underflows in the second softmax leaves finite logarithms and gradients."""
    cross = torch.zeros(4, 6)
    cross[:, 1] = 1
    cross.requires_grad_(True)
    maps = maps_of(sharpened(cross, PromptColumns(((2,), (1,)), 0, 5)), [(2,), (1,)], Grid(2, 2))
    distributions(smoothed(maps)).log().sum().backward()
    assert torch.isfinite(cross.grad).all()


def test_words_that_are_told_compete_alone():
    """Whatever stands around them, and padding or not; a column that is named without being a word is one of them."""
    cross = torch.rand(6, 9, dtype=torch.float64)
    columns = PromptColumns(((2,), (8,)), words=(1, 2, 5))
    for padding in (True, False):
        sharp = sharpened(cross, columns, padding)
        torch.testing.assert_close(sharp[:, [1, 2, 5, 8]], (100 * cross[:, [1, 2, 5, 8]]).softmax(-1))
        assert not sharp[:, [0, 3, 4, 6, 7]].any()
