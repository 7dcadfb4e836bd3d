"""Seeds as people write them."""

from __future__ import annotations

import pytest

from attnreg.errors import AttnregError
from attnreg.seeds import seeds_of


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("0", [0]),
        ("0-3", [0, 1, 2, 3]),
        ("1,5,9", [1, 5, 9]),
        (" 2 - 3 , 0 ", [2, 3, 0]),
        ("4-4", [4]),
        ("1,0-2", [1, 0, 2]),
    ],
)
def test_seeds_of_a_text(text: str, seeds: list[int]) -> None:
    assert seeds_of(text) == tuple(seeds)


def test_seeds_of_numbers_and_lists() -> None:
    assert seeds_of(7) == (7,)
    assert seeds_of([3, "0-1", 3]) == (3, 0, 1)


@pytest.mark.parametrize(
    "value",
    [
        10**6000, float("inf"), float("nan"), [[1]], b"12", {"a": 1}, range(10**9), [10**30], "9" * 5000,
        ",".join(f"{i}000-{i}999" for i in range(1, 20)), "3-1", "x", "-1", "", "0-", "1,,2", "0-99999999",
        "1.5", -1, True, 1.5, [None], 2**63,
    ],
    ids=range(23),
)  # fmt: skip
def test_what_is_no_seed_is_refused(value: object) -> None:
    with pytest.raises(AttnregError, match="seeds: expected"):
        seeds_of(value)
