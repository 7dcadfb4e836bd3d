"""What is said of a picture: every line from the record that it is made of."""

from __future__ import annotations

import pytest

from attnreg.account import account, acted, marks
from attnreg.trace import Sample, Trace
from attnreg.types import Decision, LatentRecord, StartRecord


def sample(*starts: StartRecord, steps: int = 1) -> Sample:
    trace = Trace()
    trace.steps, trace.regulated_steps = 12, steps
    trace.starts = list(starts)
    return Sample("a bird and a frog", 3, None, trace, 1.0)


@pytest.mark.parametrize(
    ("record", "line", "below"),
    [
        (
            StartRecord(0, (3.69,), 0, spared=True),
            "the model reads every target in what this seed leads to; its own noise is kept (score 3.69)",
            ("", "left as it is"),
        ),
        (
            StartRecord(0, (3.69,), 0),
            "its own noise is kept (score 3.69)",
            ("", ""),
        ),
        (
            StartRecord(0, (0.52, 5.03), 1, doubted="bird"),
            'the model does not clearly read "bird" in what this seed leads to; begun from another noise '
            "(number 2 of 2 tried, score 0.52 -> 5.03)",
            ('"bird" not clearly read', "begun from another noise"),
        ),
        (
            StartRecord(0, (0.52, 0.3, 0.2), 0, doubted="blue crown"),
            'the model does not clearly read "blue crown" in what this seed leads to, nor more clearly in 2 others; '
            "its own noise is kept (score 0.52)",
            ('"blue crown" not clearly read', "no better noise found"),
        ),
        (
            StartRecord(0, (0.52,), 0, doubted="bird"),
            'the model does not clearly read "bird" in what this seed leads to, and no other noise is tried; '
            "its own noise is kept (score 0.52)",
            ('"bird" not clearly read', "no better noise found"),
        ),
        (
            StartRecord(0, (0.52, 0.0, 0.0, 4.01), 3, doubted="bird", given_up=(1, 2), given_up_after=3),
            'the model does not clearly read "bird" in what this seed leads to; begun from another noise '
            "(number 4 of 4 tried, score 0.52 -> 4.01; 2 given up after 3 passes)",
            ('"bird" not clearly read', "begun from another noise"),
        ),
        (
            StartRecord(0, (0.52, 0.3, 0.0), 0, doubted="bird", given_up=(2,), given_up_after=1),
            'the model does not clearly read "bird" in what this seed leads to, nor more clearly in 2 others; '
            "its own noise is kept (score 0.52; 1 given up after 1 pass)",
            ('"bird" not clearly read', "no better noise found"),
        ),
        (
            StartRecord(0, (0.52, 0.8), 1),
            "the model does not clearly read some target in what this seed leads to; begun from another noise "
            "(number 2 of 2 tried, score 0.52 -> 0.80)",
            ("some target not clearly read", "begun from another noise"),
        ),
    ],
)
def test_a_start(record: StartRecord, line: str, below: tuple[str, str]) -> None:
    assert account(sample(record)) == line
    assert marks(sample(record)) == below


def test_what_came_of_a_noise() -> None:
    record = StartRecord(0, (0.52, 0.0, 0.0), 0, given_up=(2,), given_up_after=3)
    assert [record.told(number) for number in range(3)] == ["0.52", "0.00", "given up after 3 passes"]


def test_other_methods() -> None:
    plain = sample(steps=0)
    assert account(plain) == "no step was regulated"
    embedded = sample(steps=12)
    assert account(embedded) == "regulated in 12 of 12 steps"
    assert marks(embedded) == ("", "")
    embedded.trace.updates = [LatentRecord(0, 0, 0.5, None, 3), LatentRecord(1, 0, 0.25, None, 1)]
    assert account(embedded) == "latent moved in 2 steps, 4 passes with a gradient, loss 0.500 -> 0.250"


def test_who_acted() -> None:
    trace = Trace()
    assert acted(trace) == ""
    trace.decisions = [Decision(image, method, "so it is") for image, method in enumerate(("a", "b", "a"))]
    assert acted(trace) == "a, b"
    assert str(trace.decisions[0]) == "a, since so it is"
