"""Axes with round numbers, and labels that cover neither marks nor one another."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnreg.report.geometry import LETTER, LINE, Point, Rectangle, axis, bent_axis, scatter, ticks, wrap


@given(st.floats(-1e4, 1e4), st.floats(1e-2, 1e4))
def test_ticks_enclose_and_are_round(low: float, width: float) -> None:
    found = ticks(low, low + width)
    assert found[0] <= low + 1e-6 * width
    assert found[-1] >= low + width * (1 - 1e-6)
    assert 2 <= len(found) <= 9
    step = found[1] - found[0]
    assert float(f"{step:.0e}") == pytest.approx(step, rel=1e-6)
    assert f"{step:.0e}"[0] in "125"


def test_ticks_of_a_single_value() -> None:
    assert ticks(3.0, 3.0)[0] < 3 < ticks(3.0, 3.0)[-1]


def test_an_axis_goes_little_below_the_lowest_value() -> None:
    """A bar that ends just below zero does not push the axis down by a whole tick."""
    made = axis(0, 100, [-30, 900, 4100], 5)
    assert made.ticks[0] == 0
    assert -150 < made.low < -30
    assert made.high == made.ticks[-1] >= 4100
    assert axis(0, 100, [-1000, 4000], 5).ticks[0] == -1000


def test_axes_show_zero_and_put_values_in_proportion() -> None:
    plot = scatter([Point("a", (10, 20, 30), (4, 5, 6))], 500, 300)
    assert plot.horizontal.low == plot.vertical.low == 0
    (mark,) = plot.marks
    share = (mark.x[1] - plot.horizontal.start) / (plot.horizontal.end - plot.horizontal.start)
    assert share == pytest.approx(20 / plot.horizontal.high, abs=0.01)
    assert mark.y[2] < mark.y[1] < mark.y[0], "a higher value is further up, where pixels are fewer"


@given(st.lists(st.floats(-50, 1e4), min_size=1, max_size=20), st.sampled_from([270.0, 460.0]))
def test_a_bent_axis_shows_everything_in_order(values: list[float], end: float) -> None:
    made = bent_axis(0, end, values, 10.0)
    pixels = [made.at(value) for value in sorted([0.0, *values])]
    assert pixels == sorted(pixels)
    assert 0 <= pixels[0] <= pixels[-1] <= end
    assert {0.0, 10.0} <= set(made.ticks)
    assert made.low <= made.ticks[0] <= made.ticks[-1] <= made.high


def test_a_bent_axis_is_even_first_and_logarithmic_later() -> None:
    made = bent_axis(0, 400, [0, 20_000], 10.0)
    first, second = made.at(1) - made.at(0), made.at(2) - made.at(1)
    assert second == pytest.approx(first, rel=0.02)
    assert made.at(10_000) - made.at(1_000) == pytest.approx(made.at(1_000) - made.at(100), rel=0.01)


@pytest.mark.parametrize("width", [340, 520])
def test_labels_keep_clear_of_one_another(width: int) -> None:
    names = ["none", "attention-regulation", "attention-scaling", "attend-and-excite", "syngen"]
    places = [(0, 0), (15, 16), (2, 3), (160, 18), (116, -11)]
    points = [Point(n, (x - 2, x, x + 2), (y - 6, y, y + 6)) for n, (x, y) in zip(names, places, strict=True)]
    plot = scatter(points, width, 380, 22)
    boxes = []
    for mark in plot.marks:
        wide = max(map(len, mark.label)) * LETTER
        left = mark.label_x if mark.anchor == "start" else mark.label_x - wide
        top = mark.label_y - LINE + 4
        boxes.append(Rectangle(left, top, left + wide, top + LINE * len(mark.label)))
    assert [mark.name for mark in plot.marks] == names
    assert all(one.overlap(other) == 0 for one, other in combinations(boxes, 2))
    assert all(box.left >= plot.horizontal.start - 1 and box.right <= width + 1 for box in boxes)
    for mark in plot.marks:
        dot = Rectangle(mark.x[1] - 5, mark.y[1] - 5, mark.x[1] + 5, mark.y[1] + 5)
        assert all(box.overlap(dot) == 0 for box in boxes)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("none", ("none",)),
        ("attention-regulation(strength=0.5)", ("attention-regulation", "(strength=0.5)")),
        ("attention-regulation:reference", ("attention-regulation:", "reference")),
        ("structured-diffusion+attention-balance", ("structured-diffusion+", "attention-balance")),
        ("x" * 50, ("x" * 22, "x" * 22, "x" * 6)),
    ],
)
def test_long_names_are_broken_where_they_may(name: str, lines: tuple[str, ...]) -> None:
    assert wrap(name, 22) == lines


@given(st.text(alphabet="ab-:(=_, ", min_size=1, max_size=60))
def test_breaking_loses_nothing(name: str) -> None:
    assert "".join(wrap(name, 12)).replace(" ", "") == name.replace(" ", "")
    assert all(len(line) <= 12 for line in wrap(name, 12))


def test_a_crowd_is_told_by_what_the_caller_says() -> None:
    crowd = [Point(f"method {i}", (0.1, 0.1 + i / 1000, 0.2), (-1.0, i / 100, 1.0), str(i)) for i in range(16)]
    assert [" ".join(mark.label) for mark in scatter(crowd, 340, 320).marks] == [str(i) for i in range(16)]
