"""Seeds as people write them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from attnreg.errors import AttnregError
from attnreg.limits import LARGEST, MOST_SEEDS
from attnreg.shown import told


def seed_of(value: object) -> int:
    """One seed: a whole number from 0 to 2 ** 63 - 1. Raises `AttnregError` for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST:
        raise AttnregError(f"seeds: expected whole numbers from 0, got {told(value)}; write for example 0-3")
    return value


def seeds_of(value: object) -> tuple[int, ...]:
    """Seeds from a number, a text such as "0-3,7", or a list of both; each once, in their order.

    Raises `AttnregError` for anything else, and for more than `MOST_SEEDS`.
    """
    if isinstance(value, str):
        return _once(seed for part in value.split(",") for seed in _range(part.strip()))
    if isinstance(value, list | tuple | range):
        return _once(seed for part in value for seed in (seeds_of(part) if isinstance(part, str) else (seed_of(part),)))
    return (seed_of(value),)


def _once(seeds: Iterable[int]) -> tuple[int, ...]:
    found: dict[int, None] = {}
    for seed in seeds:
        found[seed] = None
        if len(found) > MOST_SEEDS:
            raise AttnregError(f"seeds: expected at most {MOST_SEEDS:,} of them, got more; give them in several runs")
    return tuple(found)


def _range(part: str) -> range:
    found = re.fullmatch(r"(\d{1,18})(?:\s*-\s*(\d{1,18}))?", part)
    if not found or not 0 <= int(found[2] or found[1]) - int(found[1]) < MOST_SEEDS:
        raise AttnregError(
            f"seeds: expected for example 0, 0-3 or 1,5,9, got {told(part)}; of a range, write the smaller first"
        )
    return range(int(found[1]), int(found[2] or found[1]) + 1)


def seeds_text(seeds: Sequence[int]) -> str:
    """Seeds as `seeds_of` reads them, runs of neighbours joined: 0, 1, 2, 7 is "0-2,7"."""
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
