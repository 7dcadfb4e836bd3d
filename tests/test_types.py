"""The bookkeeping of a trace: what was noted is told again, by image and by target."""

from __future__ import annotations

import pytest
import torch

from attnreg.trace import Sample, Trace
from attnreg.types import AttnregError, Grid, Measured, Target

CAT, DOG = Target("cat", (2,), ("cat</w>",)), Target("blue dog", (5, 6))


def test_nouns() -> None:
    assert Grid(3, 5).pixels == 15
    assert str(DOG) == "blue dog (tokens 5, 6)"
    assert issubclass(AttnregError, ValueError)
    assert Sample("a cat", 1, None, Trace(), 0.5).trace.records == []


def test_an_empty_trace_tells_nothing() -> None:
    trace = Trace(("a", "b"))
    assert (trace.layers, trace.steps, trace.regulated_steps) == (("a", "b"), 0, 0)
    assert trace.records == []
    assert trace.attention() == []


def noted() -> Trace:
    """Two prompts of two images each, the second prompt with two targets; two layers in step 0, one in step 1."""
    trace = Trace(("low", "high"))
    trace.begin([(CAT,), (CAT, DOG)], images_per_prompt=2)
    grid = Grid(2, 3)
    for step, layer, more in ((0, "low", 0.0), (0, "high", 0.1), (1, "low", 0.3)):
        one = torch.tensor([[0.10], [0.20]]) + more
        two = torch.tensor([[0.30, 0.40], [0.50, 0.60]]) + more
        loss = torch.tensor([4.0, 3.0])
        trace.note(step, layer, [0, 1], grid, Measured(one, one * 2))
        trace.note(step, layer, [2, 3], grid, Measured(two, two / 2, loss, loss - 1))
    return trace


def test_records_in_order() -> None:
    records = noted().records
    assert [(r.step, r.layer, r.image) for r in records] == [
        (step, layer, image) for step, layer in ((0, "low"), (0, "high"), (1, "low")) for image in range(4)
    ]
    first, last = records[0], records[7]
    assert (first.grid, first.loss_before, first.loss_after) == (Grid(2, 3), None, None)
    assert (first.mass_before, first.mass_after) == (pytest.approx((0.1,)), pytest.approx((0.2,)))
    assert (last.grid, last.loss_before, last.loss_after) == (Grid(2, 3), 3.0, 2.0)
    assert (last.mass_before, last.mass_after) == (pytest.approx((0.6, 0.7)), pytest.approx((0.3, 0.35)))


def test_attention_is_the_mean_over_steps_and_layers() -> None:
    """By hand: the three additions 0, 0.1 and 0.3 have the mean 0.4 / 3."""
    more = 0.4 / 3
    expected = [
        {"cat": (0.1 + more, 0.2 + 2 * more)},
        {"cat": (0.2 + more, 0.4 + 2 * more)},
        {"cat": (0.3 + more, 0.15 + more / 2), "blue dog": (0.4 + more, 0.2 + more / 2)},
        {"cat": (0.5 + more, 0.25 + more / 2), "blue dog": (0.6 + more, 0.3 + more / 2)},
    ]
    found = noted().attention()
    assert [list(image) for image in found] == [list(image) for image in expected]
    for image, wanted in zip(found, expected, strict=True):
        for name, pair in image.items():
            assert pair == pytest.approx(wanted[name]), name


def test_images_without_targets_are_left_out() -> None:
    """Only image 1 of two was regulated: it is the only one in the account, under its own prompt's names."""
    trace = Trace(("low",))
    trace.begin([(CAT,), (DOG,)], images_per_prompt=1)
    trace.note(0, "low", [1], Grid(1, 1), Measured(torch.tensor([[0.25]]), torch.tensor([[0.5]])))
    assert [record.image for record in trace.records] == [1]
    assert trace.attention() == [{"blue dog": (0.25, 0.5)}]


def test_a_new_call_forgets_the_last() -> None:
    trace = noted()
    trace.steps = trace.regulated_steps = 9
    trace.begin([(DOG,)], images_per_prompt=1)
    assert (trace.records, trace.attention(), trace.steps, trace.regulated_steps) == ([], [], 0, 0)
    assert trace.targets == [(DOG,)]
    assert trace.layers == ("low", "high")
