"""The neglect score, against loops by hand; and what the arrays of a trace tell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from attnreg import AttnregError
from attnreg.plot.explained import LINE, MARGIN, SIDE
from attnreg.plot.heat import heat_of
from attnreg.trace import Seen, Trace
from attnreg.trace.neglect import MIDDLE, NEGLECTED, STEEPNESS, clarity, neglect
from attnreg.types import Grid, Target


def by_loops(maps: Any) -> list[float]:
    """`c_t`, one position at a time."""
    steps, targets, height, width = maps.shape
    mean = [
        [[sum(maps[s, t, y, x] for s in range(steps)) / steps for x in range(width)] for y in range(height)]
        for t in range(targets)
    ]

    def smooth(t: int, y: int, x: int) -> float:
        near = [
            mean[t][min(max(y + dy, 0), height - 1)][min(max(x + dx, 0), width - 1)]
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
        ]
        return sum(near) / 9

    found = []
    for t in range(targets):
        y, x = max(((y, x) for y in range(height) for x in range(width)), key=lambda place, t=t: smooth(t, *place))
        peak = smooth(t, y, x)
        whole = sum(map(sum, mean[t])) / (height * width)
        rival = max((smooth(s, y, x) for s in range(targets) if s != t), default=0.0)
        found.append(peak / whole * peak / (peak + rival))
    return found


@pytest.mark.parametrize("shape", [(3, 2, 5, 7), (1, 1, 2, 3), (2, 4, 6, 4)])
def test_clarity_against_loops(shape: tuple[int, int, int, int]) -> None:
    maps = np.random.default_rng(0).uniform(0.01, 0.2, shape).astype(np.float32)
    np.testing.assert_allclose(clarity(maps), by_loops(maps), rtol=1e-6)
    np.testing.assert_allclose(neglect(maps), 1 / (1 + (np.array(by_loops(maps)) / MIDDLE) ** STEEPNESS), rtol=1e-6)


def test_a_word_without_a_place_of_its_own_is_neglected() -> None:
    """The first has a place, the second is even, the third lies where the first is; how much they have is the same."""
    maps = np.full((2, 3, 8, 8), 0.02, np.float32)
    maps[:, 0, 1:4, 1:4] = 0.3
    maps[:, 2, 1:4, 1:4] = 0.06
    maps /= maps.mean((2, 3), keepdims=True)
    there, even, hidden = neglect(maps).tolist()
    assert there < NEGLECTED <= min(even, hidden)
    np.testing.assert_allclose(neglect(10 * maps), neglect(maps), rtol=1e-6)


def test_nothing_at_all_is_neglected_and_no_error() -> None:
    assert neglect(np.zeros((1, 2, 4, 4), np.float32)).tolist() == [1.0, 1.0]


def noted() -> Trace:
    """Two layers of one size and one of another, three steps, the second of them edited."""
    trace = Trace(("a", "b", "c"), keeps_maps=True)
    trace.begin([(Target("frog", (2,)), Target("blue crown", (4, 5)))], images_per_prompt=1)
    trace.steps = 3
    for step in range(3):
        for layer, grid, value in (("a", Grid(2, 3), 0.1), ("b", Grid(2, 3), 0.3), ("c", Grid(4, 6), 0.9)):
            maps = torch.full((1, 2, grid.pixels), value + step)
            trace.note_maps(step, layer, [0], grid, maps, 2 * maps if step == 1 else None)
    return trace


def test_what_was_noted_step_by_step() -> None:
    seen = noted().seen()
    assert (seen.words, seen.steps, seen.total, seen.edited) == (
        ("frog", "blue crown"),
        (0, 1, 2),
        3,
        (False, True, False),
    )
    assert seen.layers == ("a", "b")
    np.testing.assert_allclose(seen.before[:, 0, 0, 0], [0.2, 1.2, 2.2], rtol=1e-6)
    np.testing.assert_allclose(seen.after[:, 1, 1, 2], [0.2, 2.4, 2.2], rtol=1e-6)
    np.testing.assert_allclose(seen.shares(edited=False)[:, 0], [0.2, 1.2, 2.2], rtol=1e-6)


def test_heatmaps_by_word_and_step() -> None:
    trace = noted()
    assert trace.heatmap("frog").shape == (2, 3)
    np.testing.assert_allclose(trace.heatmap("crown"), 2.4, rtol=1e-6)  # the step that was edited
    np.testing.assert_allclose(trace.heatmap("blue crown", steps=[0, 2]), 1.2, rtol=1e-6)
    assert trace.neglected().keys() == {"frog", "blue crown"}
    for word, match in (("crow", "did you mean"), ("zebra", "name one of them")):
        with pytest.raises(AttnregError, match=match):
            trace.heatmap(word)
    with pytest.raises(AttnregError, match="steps from 0 to 2, got 3"):
        trace.heatmap("frog", steps=[3])
    with pytest.raises(AttnregError, match="at least one"):
        trace.heatmap("frog", steps=[])


def test_a_word_of_two_targets_is_refused() -> None:
    maps = np.zeros((1, 2, 2, 2), np.float32)
    seen = Seen(("red car", "red bowl"), (0,), 1, (False,), ("a",), maps, maps)
    assert seen.index("bowl") == 1
    with pytest.raises(AttnregError, match="in several; name it whole"):
        seen.index("red")


def test_a_plot_has_both_sides_where_attention_was_edited() -> None:
    trace = noted()
    both = trace.plot()
    plain = Trace(("a",), keeps_maps=True)
    plain.begin(trace.targets, images_per_prompt=1)
    plain.steps = 1
    plain.note_maps(0, "a", [0], Grid(2, 3), torch.rand(1, 2, 6))
    one = plain.plot()
    assert both.mode == one.mode == "RGBA"
    assert both.height > 1.5 * one.height
    tall = [trace.plot(tall=True), plain.plot(tall=True)]
    assert tall[0].height > 1.5 * tall[1].height
    assert tall[0].width == tall[1].width < one.width, "a column, whatever the number of steps"
    with pytest.raises(AttnregError, match="keeps maps"):
        Trace(("a",)).plot()


def test_figures_that_stand_beside_one_another_have_one_scale() -> None:
    def even(value: float) -> Trace:
        trace = Trace(("a",), keeps_maps=True)
        trace.begin([(Target("frog", (2,)),)], images_per_prompt=1)
        trace.steps = 1
        trace.note_maps(0, "a", [0], Grid(2, 2), torch.full((1, 1, 4), value))
        return trace

    faint, strong = even(0.1), even(0.2)
    place = MARGIN + SIDE // 2, MARGIN + LINE + 32 + SIDE // 2  # in the middle of the only map

    def colour(trace: Trace, beside: Trace | None) -> Any:
        return trace.plot(tall=True, beside=beside).getpixel(place)[:3]

    assert colour(faint, None) == colour(strong, None) == heat_of(1)
    assert colour(strong, faint) == heat_of(1)
    assert colour(faint, strong) == pytest.approx(heat_of(0.5), abs=2)
