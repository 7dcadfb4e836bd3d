"""Rows of a batch are found by their embeddings, whatever the order, the guidance or the number of copies."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attnreg import AttnregError
from attnreg.attention.calls.rows import rows_of_images


def embedding(name: int) -> torch.Tensor:
    return torch.full((1, 3, 2), float(name))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=5), st.integers(1, 3), st.randoms(use_true_random=False))
def test_any_order_of_blocks(names: list[int], copies: int, rng: object) -> None:
    """Each image's rows hold its embedding; each row is given out once; images with one prompt share evenly."""
    prompts = torch.cat([embedding(name) for name in names])
    negative = torch.cat([embedding(9)] * len(names))
    blocks = [prompts] * copies + [negative]
    rng.shuffle(blocks)  # type: ignore[attr-defined]
    hidden = torch.cat(blocks)
    pairs = rows_of_images(hidden, prompts, negative)
    assert len(pairs) == copies * len(names)
    assert len({row for row, _ in pairs}) == len(pairs)
    for row, image in pairs:
        assert torch.equal(hidden[row], prompts[image])
    assert all(sum(image == i for _, image in pairs) == copies for i in range(len(names)))


def test_order_within_equal_prompts_is_kept() -> None:
    hidden = torch.cat([embedding(9), embedding(9), embedding(1), embedding(1)])
    assert rows_of_images(hidden, hidden[2:], hidden[:2]) == [(2, 0), (3, 1)]


def test_a_negative_prompt_that_reads_like_the_prompt() -> None:
    hidden = torch.cat([embedding(1)] * 4)
    assert rows_of_images(hidden, hidden[2:], hidden[:2]) == [(2, 0), (3, 1)]
    assert rows_of_images(hidden[:2], hidden[:2], hidden[:2]) == [(0, 0), (1, 1)], "guidance off"


@pytest.mark.parametrize("copies", [1, 2])
def test_a_negative_prompt_that_is_another_images_prompt(copies: int) -> None:
    """And one image's prompt is empty, as are the others' negative prompts."""
    prompts = torch.cat([embedding(name) for name in (1, 2, 0)])
    negative = torch.cat([embedding(name) for name in (2, 1, 0)])
    hidden = torch.cat([negative, *[prompts] * copies])
    assert rows_of_images(hidden, prompts, negative) == [(3 + i, i % 3) for i in range(3 * copies)]


@pytest.mark.parametrize("hidden", [embedding(2), torch.cat([embedding(1)] * 3), torch.ones(2, 4, 2)])
def test_embeddings_that_do_not_fit(hidden: torch.Tensor) -> None:
    with pytest.raises(AttnregError, match="embedding"):
        rows_of_images(hidden, torch.cat([embedding(1)] * 2), None)
