"""What a way to choose among starts would have brought, counted by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attnreg.regulation.best_start import BestStart
from benchmarks.policies import outcome, pictures_in, told_apart
from benchmarks.starts import depths

STEPS, TEXTS = 12, 3
DEPTHS = depths(STEPS)


def line(prompt: str, start: int, whole: bool, early: float, score: float) -> str:
    """One start whose maps say `early` at every depth but the last, and whose score is `score` there."""
    seen = {
        str(depth): {
            "errors": [1.0, 9.0, score if depth == DEPTHS[-1] else 1.0],
            "peak": 1.0 if depth == DEPTHS[-1] else early**2,
            "apart": 1.0,
        }
        for depth in DEPTHS
    }
    told = {
        "prompt": prompt,
        "seed": 0,
        "start": start,
        "steps": STEPS,
        "whole": whole,
        "distance": start / 10,
        "depths": seen,
    }
    return json.dumps(told)


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """One picture is right and kept, one is mended by its third start, of one some starts are missing."""
    path = tmp_path / "lines.jsonl"
    path.write_text(
        "\n".join([
            *(line("a cat and a dog", start, True, 0.5, 3.0) for start in range(4)),
            line("a cat and a frog", 0, False, 0.1, 0.5),
            line("a cat and a frog", 1, False, 0.2, 4.0),
            line("a cat and a frog", 2, True, 0.9, 2.0),
            line("a cat and a frog", 3, False, 0.3, 0.7),
            line("a cat and a bird", 0, False, 0.1, 0.5),
        ]),
        encoding="utf-8",
    )  # fmt: skip
    return path


@pytest.mark.parametrize(
    ("settings", "gained", "distance", "passes"),
    [
        # All three are looked at after three steps, the second is followed to the last depth and read: two steps of
        # each pass guided, the chosen one's own are not taken again.
        ({"group": 3}, 1, 0.2, 24 + TEXTS + 2 * 7 + 2 * 2 * 3 + TEXTS),
        # One after the other: the first is good.
        ({"group": 1}, 0, 0.1, 24 + TEXTS + 2 * 7 + TEXTS),
        # Nothing is good: all are read, and the best is that one again.
        ({"group": 1, "good": 9.0}, 0, 0.1, 24 + TEXTS + 3 * (2 * 7 + TEXTS)),
    ],
)
def test_what_a_policy_brings(
    lines: Path, settings: dict[str, float], gained: int, distance: float, passes: int
) -> None:
    pictures = pictures_in(lines)
    assert [len(starts) for starts in pictures] == [4, 4]
    edit = BestStart(**{"starts": 4, "early": 3, "enough": 1.1, "good": 1.6} | settings)
    found = outcome(edit, pictures)
    assert (found.gained, found.lost, found.kept) == (gained, 0, 0.5)
    assert found.distance == pytest.approx(distance / 2)
    assert found.of_right == 0
    assert found.whole == (1 + gained) / 2
    assert found.passes == pytest.approx((24 + TEXTS + passes) / 2)


def test_telling_apart() -> None:
    assert told_apart([[(3.0, True), (1.0, False), (3.0, False)]]) == 0.75
    assert told_apart([[(3.0, True), (1.0, False)], [(0.0, True)], [(1.0, True), (2.0, False)]]) == 0.5
