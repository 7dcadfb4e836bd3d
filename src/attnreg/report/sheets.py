"""Which pictures a page shows: sheets of fairly drawn prompts, and the prompts that changed most."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from attnreg.errors import AttnregError
from attnreg.records import UNMODIFIED, Record
from attnreg.report.wording import Unit


@dataclass(frozen=True)
class Shot:
    """One place of a table of pictures."""

    record: Record | None
    """`None` where nothing was drawn."""
    alt: str
    text: str
    """Said below the picture."""
    yes: bool | None


@dataclass(frozen=True)
class PromptSheet:
    """Pictures of one prompt: heads of the columns, then a head and the shots of each row."""

    prompt: str
    category: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Shot, ...]], ...]

    @property
    def records(self) -> list[Record]:
        """Everything that is drawn on it."""
        return [shot.record for _, shots in self.rows for shot in shots if shot.record]


@dataclass(frozen=True)
class Change:
    """One prompt and how much a method changed its score, over the seeds that both have drawn."""

    prompt: str
    before: float
    after: float
    seeds: tuple[int, ...]

    @property
    def difference(self) -> float:
        """Positive: better than unmodified."""
        return self.after - self.before


def drawn_prompts(records: Sequence[Record], count: int, wanted: Sequence[str] = ()) -> list[str]:
    """The prompts asked for, or `count` drawn by lot, the categories in turn: no result has a say.

    Raises `AttnregError` if a prompt that is asked for is not in the run.
    """
    of_category: dict[str, list[str]] = {}
    for prompt, category in dict.fromkeys((record.prompt, record.category) for record in records):
        of_category.setdefault(category, []).append(prompt)
    known = {record.prompt for record in records}
    if lost := [prompt for prompt in wanted if prompt not in known]:
        raise AttnregError(
            f"expected prompts of the run for the sheets, got {lost[0]!r}, which is none of its {len(known)}"
        )
    if wanted:
        return list(dict.fromkeys(wanted))
    lots = random.Random(0)
    for prompts in of_category.values():
        lots.shuffle(prompts)
    turns = [
        prompt for turn in range(len(known)) for prompts in of_category.values() for prompt in prompts[turn : turn + 1]
    ]
    return turns[:count]


def changes(records: Sequence[Record], method: str, score: str) -> list[Change]:
    """Every prompt's score with a method and without, in the order of the prompts."""
    told: dict[str, dict[str, dict[int, float]]] = {}
    for record in records:
        if score in record.scores and record.method in (UNMODIFIED, method):
            told.setdefault(record.prompt, {}).setdefault(record.method, {})[record.seed] = record.scores[score]
    found = []
    for prompt, by in told.items():
        before, after = by.get(UNMODIFIED, {}), by.get(method, {})
        if seeds := tuple(sorted(before.keys() & after.keys())):
            found.append(
                Change(prompt, fmean(before[seed] for seed in seeds), fmean(after[seed] for seed in seeds), seeds)
            )
    return found


def most_changed(found: Sequence[Change], count: int, better: bool) -> list[Change]:
    """The prompts that gained (or lost) most; of equal ones the earlier."""
    sign = 1 if better else -1
    right = [change for change in found if sign * change.difference > 1e-12]
    return sorted(right, key=lambda change: -sign * change.difference)[:count]


def by_seed(
    records: Sequence[Record], prompt: str, methods: Sequence[str], seeds: int, score: str, unit: Unit, yes_no: bool
) -> PromptSheet:
    """Seeds as rows, methods as columns."""
    own = [record for record in records if record.prompt == prompt]
    shown = sorted({record.seed for record in own})[:seeds]
    at = {(record.seed, record.method): record for record in own}
    here = [method for method in methods if any((seed, method) in at for seed in shown)]
    shoot = _shooter(prompt, score, unit, yes_no)
    rows = tuple(
        (f"seed {seed}", tuple(shoot(at.get((seed, method)), method, seed) for method in here)) for seed in shown
    )
    return PromptSheet(prompt, own[0].category, tuple(here), rows)


def by_method(
    records: Sequence[Record], change: Change, methods: Sequence[str], seeds: int, score: str, unit: Unit, yes_no: bool
) -> PromptSheet:
    """Methods as rows, seeds as columns: those first in which the two differ."""
    at = {(r.seed, r.method): r for r in records if r.prompt == change.prompt}

    def alike(seed: int) -> bool:
        told = [at[seed, method].scores.get(score) for method in methods if (seed, method) in at]
        return len(set(told)) < 2

    shown = sorted(sorted(change.seeds, key=alike)[:seeds])
    shoot = _shooter(change.prompt, score, unit, yes_no)
    rows = tuple((method, tuple(shoot(at.get((seed, method)), method, seed) for seed in shown)) for method in methods)
    return PromptSheet(change.prompt, "", tuple(f"seed {seed}" for seed in shown), rows)


def _shooter(prompt: str, score: str, unit: Unit, yes_no: bool) -> Callable[[Record | None, str, int], Shot]:
    name = score.split("/")[-1]

    def shoot(record: Record | None, method: str, seed: int) -> Shot:
        alt = f"“{prompt}” drawn with {method}, seed {seed}"
        if record is None or score not in record.scores:
            return Shot(record, alt, "", None)
        value = record.scores[score]
        if yes_no:
            said = name if value else f"not {name}"
            return Shot(record, f"{alt}: {said}", said, bool(value))
        return Shot(record, f"{alt}: {name} {unit.value(value)}", unit.value(value), None)

    return shoot
