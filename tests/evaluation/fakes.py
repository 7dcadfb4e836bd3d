"""A model that draws at once and judges that see at once, so that a run is all bookkeeping. Loads nothing heavy."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from attnreg.errors import AttnregError
from attnreg.evaluation.pictures import png_of
from attnreg.evaluation.store import Cell
from attnreg.evaluation.tasks import Drawn
from attnreg.measure.asked import Prompt, Relation, Thing
from attnreg.measure.judge import Scores


@dataclass(frozen=True)
class FakeModels:
    """Pictures of 8 x 8 pixels that the cell decides; every beginning of one is a line of the log."""

    log: str
    seconds: float = 0.0
    refuses: str = "?"
    """Text of prompts that regulating methods cannot draw."""

    def __call__(self, model: str) -> Any:
        if model == "missing":
            raise AttnregError("expected a model, got none")

        note(self.log, "worker", os.getpid())

        def draw(cell: Cell) -> Drawn:
            note(self.log, "drawing", *cell)
            time.sleep(self.seconds)
            if cell.method != "none" and self.refuses in cell.prompt:
                raise AttnregError(f"no token of the prompt matches {self.refuses!r}")
            attention = {} if cell.method == "none" else {"cat": (0.25, 0.5), "dog": (0.125, 0.5)}
            shade = len(cell.prompt) / 1000
            maps = None if cell.method == "none" else {"cat": ([[shade, 0.0]], [[0.5, shade]])}
            return Drawn(png_of(picture(cell)), self.seconds, 1000, attention, maps)

        return draw


def picture(cell: Cell) -> Image.Image:
    seed = int.from_bytes(hashlib.sha256(repr(tuple(cell)).encode()).digest()[:8])
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8))


@dataclass(frozen=True)
class FakeJudges:
    """ "colour": the mean of each channel; "moved": how far from the unmodified picture."""

    log: str
    most: int = 10**9
    """The largest batch that may come."""

    def __call__(self, name: str, weights: str) -> Any:
        if name not in ("colour", "moved"):
            raise AttnregError(f"expected a judge of colour, moved, got {name!r}")
        return FakeJudge(name, weights, self.log, self.most)


@dataclass(frozen=True)
class FakeJudge:
    name: str
    weights: str
    log: str
    most: int

    @property
    def needs_unmodified(self) -> bool:
        return self.name == "moved"

    def check(self, prompts: Sequence[Prompt]) -> None:
        if unfit := [prompt.text for prompt in prompts if not prompt.things]:
            raise AttnregError(f"expected prompts that say what they name, got {unfit[0]!r}")

    def __call__(
        self, pictures: Sequence[Any], prompts: Sequence[Prompt], unmodified: Sequence[Any] | None = None
    ) -> list[Scores]:
        assert len(pictures) == len(prompts) <= self.most
        for one in prompts:
            note(self.log, "judging", self.name, one.text)
        arrays = [np.asarray(one, dtype=np.float64) for one in pictures]
        if not self.needs_unmodified:
            assert unmodified is None
            return [
                {"red": array[..., 0].mean(), "blue": array[..., 2].mean(), "lost": float("nan")} for array in arrays
            ]
        assert unmodified is not None
        others = [np.asarray(one, dtype=np.float64) for one in unmodified]
        return [{"distance": float(abs(a - b).mean())} for a, b in zip(arrays, others, strict=True)]


def note(log: str, *words: object) -> None:
    # One write of a short line to a file opened for appending: whole, whoever else writes or dies.
    handle = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.write(handle, (json.dumps(words) + "\n").encode())
    os.close(handle)


def noted(log: Path, what: str) -> list[tuple[Any, ...]]:
    if not log.exists():
        return []
    lines = [tuple(json.loads(line)) for line in log.read_text().splitlines()]
    return [tuple(words) for kind, *words in lines if kind == what]


def prompts(count: int) -> list[Prompt]:
    nouns = ["cat", "dog", "bird", "frog", "lion", "bear", "horse", "mouse", "car", "crown", "bow", "clock"]
    pairs = [(one, other) for i, one in enumerate(nouns) for other in nouns[i + 1 :]][:count]
    return [
        Prompt(
            f"a {one} and a {other}",
            (Thing(one), Thing(other, colour="red", attributes=("big",))),
            (Relation(0, "left of", 1),),
            category="even" if i % 2 else "odd",
            questions=(("is there a cat?", "yes"), ("what?", "a dog")),
        )
        for i, (one, other) in enumerate(pairs)
    ]


class White:
    """All is there where a picture is not black."""

    needs_unmodified = False

    def check(self, prompts: Sequence[Any]) -> None: ...

    def __call__(
        self, pictures: Sequence[Any], prompts: Sequence[Any], unmodified: Any = None
    ) -> list[dict[str, float]]:
        return [{"all things": float(np.asarray(one).max() > 0)} for one in pictures]
