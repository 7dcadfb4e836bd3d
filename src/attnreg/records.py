"""What a run leaves: one record a picture. Imports nothing heavy, so that reports can be made anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

UNMODIFIED = "none"
"""The method that is none: every comparison is with the unmodified model's picture of the same prompt and seed."""
Map = Sequence[Sequence[float]]
"""Attention of one target by position: rows of a grid, height before width."""


@dataclass(frozen=True)
class Record:
    """One picture of a run and what the judges said about it."""

    prompt: str
    category: str
    seed: int
    method: str
    """With its settings where they are not the defaults: "attention-regulation(strength=0.5)"."""
    model: str
    picture: str
    """SHA-256 of the PNG's bytes, in hexadecimal; also its name in the run folder's `pictures/`."""
    seconds: float
    """Wall-clock time of the pipeline's call."""
    peak_bytes: int | None = None
    """Peak memory of the device while drawing; of the process on a CPU; `None` where it cannot be told."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """"judge/score" -> value, such as "pocket/all things"; NaN never occurs: what was not judged is absent."""
    passes: int | None = None
    """Forward passes of the denoiser, a row of its batch each, a backward pass counting two; `None`: not counted."""
