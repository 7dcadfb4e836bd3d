"""One thread draws, whoever asks: in turn, to be stopped at every pass, and it outlives whatever goes wrong."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from attnreg.app import bounds
from attnreg.app.history import History
from attnreg.app.order import Order
from attnreg.app.queue import DONE, DRAWING, FAILED, STOPPED, WAITING, Job, Queue
from attnreg.errors import AttnregError
from attnreg.recipe import Recipe
from attnreg.trace import Sample, Trace
from attnreg.types import Grid, Target
from attnreg.watching import Progress

RECIPE = Recipe(prompt="a bird", seed=0, model="m", method="auto")


class Sitting:
    """In the place of a session: every picture is a pass that waits until the test lets it go."""

    edit = object()

    def __init__(self, gate: threading.Semaphore, error: Exception | None = None) -> None:
        self.gate, self.error, self.passes = gate, error, 0

    def trace(self, method: str) -> Trace:
        """One map, which is stronger with the method."""
        trace = Trace(("a",), keeps_maps=True)
        trace.begin([(Target("bird", (2,)),)], images_per_prompt=1)
        trace.steps = 1
        trace.note_maps(0, "a", [0], Grid(2, 2), torch.full((1, 1, 4), 0.1 if method == "none" else 0.2))
        return trace

    def pictures(
        self, seed: int, *, beside_unmodified: bool, watch: Any, maps: bool
    ) -> Iterator[tuple[Sample, Recipe]]:
        for method in ("none", "auto"):
            for step in range(3):
                watch(Progress(step, 3, step))
                assert self.gate.acquire(timeout=30)
                self.passes += 1
                if self.error:
                    raise self.error
            sample = Sample("a bird", seed, Image.new("RGB", (8, 8)), self.trace(method), 0.1)
            yield sample, Recipe(**(vars(RECIPE) | {"seed": seed, "method": method}))


def order(sitting: Sitting, seeds: tuple[int, ...]) -> Order:
    """An order that is handed this sitting."""
    made = object.__new__(Order)  # its fields need no model
    told = {"recipe": RECIPE, "seeds": seeds, "options": {}, "offered": SimpleNamespace(sitting=lambda _: sitting)}
    for name, value in told.items():
        object.__setattr__(made, name, value)
    return made


@pytest.fixture
def gate() -> threading.Semaphore:
    return threading.Semaphore(0)


@pytest.fixture
def line(tmp_path: Path, gate: threading.Semaphore) -> Iterator[Queue]:
    made = Queue(History(tmp_path))
    yield made
    gate.release(1000)
    made.close()


@pytest.fixture
def ask(line: Queue) -> Callable[..., Job]:
    def asked(sitting: Sitting, page: str = "a", seeds: tuple[int, ...] = (0,)) -> Job:
        return line.ask(order(sitting, seeds), page)

    return asked


def until(true: Callable[[], bool]) -> None:
    waiting = threading.Event()
    for _ in range(3000):
        if true():
            return
        waiting.wait(0.01)
    raise AssertionError("it never came to that")


def test_they_are_drawn_in_turn(ask: Any, line: Queue, gate: threading.Semaphore) -> None:
    one, two, three = (Sitting(gate) for _ in range(3))
    jobs = [ask(one, "a"), ask(two, "b"), ask(three, "c")]
    until(lambda: jobs[0].state == DRAWING)
    assert [line.ahead_of(job) for job in jobs[1:]] == [1, 2]
    assert line.unfinished() == {job.drawing for job in jobs}
    gate.release(6)
    until(lambda: jobs[0].state == DONE and jobs[1].state == DRAWING)
    assert jobs[2].state == WAITING
    assert two.passes == 0
    files = {"unmodified": "seed0-none.png", "regulated": "seed0-auto.png"}
    assert jobs[0].files == {0: files | {f"{kind}_maps": files[kind].replace("0", "0-maps") for kind in files}}
    assert set(jobs[0].happened) == {0}
    gate.release(12)
    until(lambda: jobs[2].state == DONE)
    assert line.unfinished() == set()
    assert line.history.drawings(9, hidden=line.unfinished())


def test_stopping_waits_for_no_more_than_the_pass_in_hand(ask: Any, line: Queue, gate: threading.Semaphore) -> None:
    sitting = Sitting(gate)
    job = ask(sitting, seeds=(0, 1, 2))
    gate.release(7)
    until(lambda: sitting.passes == 7)
    line.stop(job)
    gate.release(100)
    until(lambda: job.state == STOPPED)
    assert sitting.passes <= 8
    assert list(job.files) == [0], "what was done before is kept"
    assert line.history.drawings(9) == [job.drawing]


def test_the_maps_of_a_seed_are_kept_with_one_scale(
    ask: Any, line: Queue, gate: threading.Semaphore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once both pictures are there; of one that was stopped between them, of the picture that is there."""
    shared: list[tuple[str, bool]] = []
    add = line.history.add_maps

    def noting(drawing: str, sample: Sample, recipe: Recipe, beside: Sample | None = None) -> str:
        shared.append((recipe.method, beside is not None and beside.trace is not sample.trace))
        return add(drawing, sample, recipe, beside)

    monkeypatch.setattr(line.history, "add_maps", noting)
    whole = ask(Sitting(gate))
    gate.release(6)
    until(lambda: whole.state == DONE)
    assert shared == [("none", True), ("auto", True)]
    assert set(whole.files[0]) == {"unmodified", "regulated", "unmodified_maps", "regulated_maps"}
    shared.clear()
    half = ask(Sitting(gate))
    gate.release(3)
    until(lambda: 0 in half.files)
    line.stop(half)
    gate.release(1)
    until(lambda: half.state == STOPPED)
    assert shared == [("none", False)]
    assert set(half.files[0]) == {"unmodified", "unmodified_maps"}


def test_what_waits_is_stopped_at_once(ask: Any, line: Queue, gate: threading.Semaphore) -> None:
    first, second = ask(Sitting(gate)), ask(Sitting(gate))
    until(lambda: first.state == DRAWING)
    line.stop(second)
    assert second.state == STOPPED
    line.stop(second)
    gate.release(100)
    until(lambda: first.state == DONE)
    assert second.files == {}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (AttnregError("expected a cat, got a dog; draw one"), "Expected a cat, got a dog; draw one."),
        (RuntimeError("CUDA out of memory\nTried"), "Unexpected RuntimeError: CUDA out of memory; the terminal"),
        (MemoryError(), "Unexpected MemoryError"),
    ],
)
def test_it_goes_on_after_an_error(
    ask: Any, gate: threading.Semaphore, error: Exception, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "attnreg.app")
    bad, good = ask(Sitting(gate, error)), ask(Sitting(gate))
    gate.release(100)
    until(lambda: good.state == DONE)
    assert bad.state == FAILED
    assert bad.error.startswith(told)
    assert "\n" not in bad.error


def test_one_page_may_not_fill_the_queue(ask: Any, line: Queue, gate: threading.Semaphore) -> None:
    jobs = [ask(Sitting(gate), "a") for _ in range(bounds.MOST_WAITING_OF_ONE)]
    with pytest.raises(AttnregError, match=r"unfinished drawings of one page.*cancel one"):
        ask(Sitting(gate), "a")
    ask(Sitting(gate), "b")
    line.stop(jobs[-1])
    ask(Sitting(gate), "a")


def test_the_queue_has_an_end(
    ask: Any, line: Queue, gate: threading.Semaphore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "MOST_WAITING", 2)
    first = ask(Sitting(gate), "0")
    until(lambda: first.state == DRAWING)
    ask(Sitting(gate), "1")
    ask(Sitting(gate), "2")
    with pytest.raises(AttnregError, match="the queue is full: 2 drawings wait"):
        ask(Sitting(gate), "3")


def test_old_ones_are_forgotten_and_running_ones_never(
    ask: Any, line: Queue, gate: threading.Semaphore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "MOST_REMEMBERED", 2)
    gate.release(100)
    jobs = []
    for page in "abcd":
        jobs.append(ask(Sitting(gate), page))
        until(lambda: jobs[-1].state == DONE)
    last = ask(Sitting(gate), "e")
    assert line.job(jobs[0].token) is None
    assert line.job(last.token) is last


def test_nobody_can_guess_a_token_or_a_drawing(ask: Any, gate: threading.Semaphore) -> None:
    one, two = ask(Sitting(gate)), ask(Sitting(gate))
    assert len(one.token) >= 24
    assert one.token != two.token
    assert one.drawing[-12:] != two.drawing[-12:]


def test_closing_stops_what_is_drawn(ask: Any, line: Queue, gate: threading.Semaphore) -> None:
    job, waiting = ask(Sitting(gate)), ask(Sitting(gate))
    until(lambda: job.state == DRAWING)
    closing = threading.Thread(target=line.close)
    closing.start()
    until(job.stop.is_set)
    gate.release(100)
    closing.join(30)
    assert job.state == STOPPED
    assert waiting.files == {}
