"""What is handed to those who draw and judge, and what they hand back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

from attnreg.evaluation.store import Cell
from attnreg.measure.asked import Prompt
from attnreg.measure.judge import Judge, Scores
from attnreg.records import Map

Maps: TypeAlias = dict[str, tuple[Map, Map]]
"""Target -> where its attention lay without and with the edit, as plain lists: they travel and are kept as JSON."""


@dataclass(frozen=True)
class Drawn:
    """A picture and what it cost."""

    png: bytes
    seconds: float
    peak_bytes: int | None = None
    attention: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Target -> mean attention without and with the edit; empty if nothing was regulated."""
    maps: Maps | None = None
    """`None` if not asked for; empty if the method edits no logits, so that there are none."""
    passes: int | None = None
    """Of the denoiser, as `attnreg.passes` counts them; `None` where nobody counted."""


@dataclass(frozen=True)
class Refused:
    """Why a method could not draw a prompt."""

    error: str


@dataclass(frozen=True)
class Batch:
    """Pictures for one judge."""

    judge: str
    weights: str
    """Where the judge's weights are; empty: where it looks by itself."""
    cells: tuple[Cell, ...]
    prompts: tuple[Prompt, ...]
    digests: tuple[str, ...]
    pngs: tuple[bytes, ...]
    unmodified: tuple[bytes, ...] | None
    """For judges that compare, the unmodified pictures."""
    unmodified_digests: tuple[str | None, ...]


Drawer = Callable[[Cell], Drawn]
"""Draws one picture with the model it was opened for. Raises `AttnregError` where the method cannot."""
OpenModel = Callable[[str], Drawer]
"""A model's name -> a drawer; loads the model. Raises `AttnregError` if it cannot be opened."""
OpenJudge = Callable[[str, str], Judge]
"""A judge's name and where its weights are -> the judge. Raises `AttnregError` if something is missing."""


@runtime_checkable
class Executor(Protocol):
    """Runs tasks somewhere. An iterator of tasks may give `None`: none is free just now, ask again.

    It is asked for the next only when there is someone to work on it, for whatever it gives is claimed.
    """

    def draw(self, cells: Iterator[Cell | None]) -> Iterator[tuple[Cell, Drawn | Refused]]:
        """Draw each; pictures come as they are done."""

    def judge(self, batches: Iterator[Batch | None]) -> Iterator[tuple[Batch, list[Scores]]]:
        """Judge each; scores come as they are done."""

    @property
    def workers(self) -> int:
        """How many tasks it works on at a time."""

    def close(self) -> None:
        """Let go of whatever it holds."""
