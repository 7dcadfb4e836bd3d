"""What a report is made of: the records of a run, and what else its folder knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from attnreg.errors import AttnregError
from attnreg.records import UNMODIFIED, Map, Record
from attnreg.shown import told


class Key(NamedTuple):
    """Which picture of a run."""

    prompt: str
    seed: int
    method: str
    model: str


def key_of(record: Record) -> Key:
    """The picture that a record is about."""
    return Key(record.prompt, record.seed, record.method, record.model)


@dataclass(frozen=True)
class Failure:
    """A picture that was asked for and not made, or not judged."""

    prompt: str
    seed: int | None
    method: str
    model: str
    error: str


Attention = Mapping[str, tuple[float, float]]
"""Target -> its mean attention without and with the edit, as `attnreg.types.Trace.attention` gives it."""


@dataclass(frozen=True)
class Run:
    """Everything a report shows. Only the records are needed; what else is missing is left out of the page."""

    records: Sequence[Record]
    picture: Callable[[str], bytes | None] = lambda _: None
    """SHA-256 -> the PNG's bytes; `None` or an `OSError` where it is not there."""
    prompts: Sequence[Mapping[str, Any]] = ()
    """The prompt set, one JSON object a prompt: "text", "category", "things", "relations", ..."""
    title: str = ""
    command: str = ""
    """The command line that made the run."""
    config: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    failures: Sequence[Failure] = ()
    left: int = 0
    """How many pictures were asked for and have not been tried yet."""
    attention: Mapping[Key, Attention] = field(default_factory=dict)
    maps: Mapping[Key, Mapping[str, tuple[Map, Map]]] = field(default_factory=dict)
    """Target -> where its attention lay without and with the edit."""

    def __post_init__(self) -> None:
        if not self.records:
            raise AttnregError("expected a run with at least one record, got none; draw some pictures first")
        seen: set[Key] = set()
        for record in self.records:
            if (key := key_of(record)) in seen:
                raise AttnregError(f"expected one record a picture, got two of {key}; keep one of them")
            seen.add(key)

    @property
    def models(self) -> list[str]:
        """In the order of their first record."""
        return list(dict.fromkeys(record.model for record in self.records))

    def methods(self, model: str) -> list[str]:
        """The methods of one model, the unmodified one first, the rest in the order of their first record."""
        found = dict.fromkeys(record.method for record in self.records if record.model == model)
        return sorted(found, key=lambda method: method != UNMODIFIED)

    def of(self, model: str) -> list[Record]:
        """The records of one model."""
        return [record for record in self.records if record.model == model]


def is_distance(score: str) -> bool:
    """Whether a score tells how far a picture is from the unmodified one: smaller is nearer, not better or worse."""
    return score.endswith("distance")


def scores_of(records: Sequence[Record], distances: bool = False) -> list[str]:
    """Names of the scores (or of the distances), in the order in which they first occur."""
    names = dict.fromkeys(name for record in records for name in record.scores)
    return [name for name in names if is_distance(name) == distances]


def headline(records: Sequence[Record], wanted: str | None = None) -> str:
    """The score that the report is about: the one asked for, else the first that says "all things", else the first.

    `wanted` may leave out the judge's name where that is clear. Raises `AttnregError` if there is no such score.
    """
    names = scores_of(records)
    if wanted is not None:
        return _named("score", names, wanted)
    if not names:
        raise AttnregError("expected records with scores, got none; judge the pictures first (--judges)")
    return next((name for name in names if name.endswith("all things")), names[0])


def distance_of(records: Sequence[Record], wanted: str | None = None) -> str | None:
    """The distance that the report tells: the one asked for, else the first, `None` if there is none.

    `wanted` as for `headline`. Raises `AttnregError` if there is no such distance.
    """
    names = scores_of(records, distances=True)
    return _named("distance", names, wanted) if wanted is not None else next(iter(names), None)


def _named(what: str, names: Sequence[str], wanted: str) -> str:
    fitting = [name for name in names if name == wanted] or [name for name in names if name.split("/")[-1] == wanted]
    if len(fitting) != 1:
        listed = ", ".join(names) or "none at all"
        raise AttnregError(f"expected the name of one {what}, got {told(wanted)}; the run has: {listed}")
    return fitting[0]


def is_yes_no(records: Sequence[Record], score: str) -> bool:
    """Whether every value of a score is 0 or 1: such scores are told in per cent."""
    return all(record.scores[score] in (0.0, 1.0) for record in records if score in record.scores)
