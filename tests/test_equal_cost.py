"""The best of N by a verifier, from pictures that are shared, and the search around a pivot."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from attnreg.errors import AttnregError
from attnreg.evaluation.prompts import prompt_set
from attnreg.measure.asked import Prompt, Thing
from attnreg.records import Record
from attnreg.report.geometry import Rectangle
from benchmarks import equal_cost
from benchmarks.equal_cost import best_of, markdown, points_of, rows
from benchmarks.equal_cost_plot import Axes, Point, labels, lines_of, plot
from benchmarks.verifier import Verifier
from benchmarks.zero_order import KEPT, NEIGHBOURS, climb, neighbours


def record(seed: int, shows: float, prompt: str = "a cat", method: str = "none", passes: int | None = 24) -> Record:
    return Record(prompt, "", seed, method, "pocket", "", 1.0, None, {"pocket/all things": shows}, passes)


def test_best_of_n_takes_what_the_verifier_likes_going_round() -> None:
    plain = [(record(0, 0.0), 1.0), (record(1, 1.0), 3.0), (record(2, 0.0), 2.0)]
    assert [one.scores["pocket/all things"] for one in best_of(1, plain)] == [0.0, 1.0, 0.0]
    two = best_of(2, plain)
    assert [(one.seed, one.scores["pocket/all things"], one.passes) for one in two] == [
        (0, 1.0, 48), (1, 1.0, 48), (2, 0.0, 48),
    ]  # fmt: skip
    assert {one.method for one in two} == {"best of 2"}
    assert best_of(4, plain) == [], "there are only three seeds"
    assert len(best_of(3, [*plain, (record(3, 1.0, passes=None), 9.0)])) == 3, "what nobody counted is left out"


def test_rows_compare_on_the_pictures_of_both() -> None:
    records = [record(s, 0.0, f"a cat {p}") for s in range(2) for p in range(6)]
    records += [record(0, 1.0, f"a cat {p}", "best-start", 60) for p in range(6)]
    found = {row["method"]: row for row in rows(records, "best-start", 200)}
    assert found["none"]["pairs"] == 6
    assert found["none"]["above it"]["value"] == 1.0
    assert found["best-start"]["passes"] == 60
    table = markdown(list(found.values()), "best-start").splitlines()
    assert table[2].startswith("| none | 12 | 24 | 0.0 %")
    assert np.asarray(plot(points_of(list(found.values())), "title")).std() > 0


MEASURED = Path(__file__).parents[1] / "docs/results/equal-cost.json"
CROWDED = [Point(name, 24 + i, 0.5, 0.4, 0.6) for i, name in enumerate(["none", "best of 2", "auto", "taca", "focus"])]


def crosses(span: Rectangle, line: tuple[tuple[float, float], tuple[float, float]]) -> bool:
    """As `meets`, by looking at a thousand places of the line."""
    along = np.linspace(*np.asarray(line), 1000)
    return bool(((along >= (span.left, span.top)) & (along <= (span.right, span.bottom))).all(1).any())


@pytest.mark.parametrize(
    "points", [points_of(json.loads(MEASURED.read_text("utf-8"))), CROWDED], ids=["measured", "crowded"]
)
def test_no_label_crosses_anything(points: list[Point]) -> None:
    axes = Axes(points)
    places = labels(points, axes)
    assert set(places) == {point.name for point in points}
    for point in points:
        own = places[point.name]
        assert not any(crosses(own, line) for line in lines_of(points, axes)), point.name
        assert not any(own.overlap(other) for name, other in places.items() if name != point.name), point.name
        x, y = axes.at(point.passes, point.value)
        nearest = np.clip((x, y), (own.left, own.top), (own.right, own.bottom))
        assert 0 < np.hypot(*(nearest - (x, y))) < 100, "outside of its point, and near it"


def test_the_committed_plot_is_that_of_the_committed_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "plot.png"
    monkeypatch.setattr(sys, "argv", ["equal_cost", "--drawn", str(MEASURED), "--plot", str(out)])
    equal_cost.main()
    committed = Image.open(MEASURED.parents[1] / "pictures/equal-cost.png")
    assert np.array_equal(np.asarray(Image.open(out)), np.asarray(committed))


def test_neighbours_keep_the_length_and_most_of_the_direction() -> None:
    pivot = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(3))
    around = list(neighbours(pivot, torch.Generator().manual_seed(0)))
    assert len(around) == NEIGHBOURS
    for one in around:
        assert one.norm() == pytest.approx(float(pivot.norm()), rel=1e-5)
        assert torch.cosine_similarity(one.flatten(), pivot.flatten(), 0) == pytest.approx(KEPT, abs=1e-5)
    assert not torch.equal(around[0], around[1])


def test_the_search_goes_uphill_and_ends_where_none_is_better() -> None:
    drawn: list[Any] = []

    def draw(noises: Any) -> list[Any]:
        drawn.extend(noises)
        return list(noises)

    pivot = torch.ones(1, 2, 4, 4)
    up = climb(pivot, draw, lambda pictures: [float(one[0, 0, 0, 0]) for one in pictures], 0)
    assert up.drawn == len(drawn)
    assert up.score == max(float(one[0, 0, 0, 0]) for one in drawn) >= 1.0
    flat = climb(pivot, draw, lambda pictures: [0.0] * len(pictures), 0)
    assert (flat.drawn, flat.score) == (1 + NEIGHBOURS, 0.0)
    assert torch.equal(flat.picture, pivot)


def test_the_verifier_tells_a_noun_from_another_and_says_what_it_was_not_taught() -> None:
    verifier = Verifier()
    gray = Image.new("RGB", (128, 128), (128, 128, 128))
    (prompt, *_) = prompt_set("three-things")
    (score,) = verifier([gray], [prompt])
    assert score < 0, "nothing is there"
    with pytest.raises(AttnregError, match="got zebra"):
        verifier([gray], [Prompt("a zebra", things=(Thing("zebra"),))])
    with pytest.raises(AttnregError, match="whose things are listed"):
        verifier([gray], [Prompt("a cat")])
