"""One method of a run against each of the others, and what it does to pictures that were right before.

`python -m benchmarks.rivals RUN [METHOD]`. Three tables: against every method, on the pictures that both drew; by
category, against the unmodified model, things and their colours; and how far it moves pictures that already showed
everything, and those that did not.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from attnreg.evaluation import Store
from attnreg.records import UNMODIFIED, Record
from attnreg.statistics import by_category, compare, holm, line_up
from benchmarks.pairs import exchange

THINGS, COLOURS, DISTANCE = "pocket/all things", "pocket/all", "pixels/distance"


def against(records: Sequence[Record], method: str) -> list[str]:
    """A row for every other method; p corrected over all of them."""
    judged = dict.fromkeys(record.method for record in records if THINGS in record.scores)
    others = [one for one in judged if one != method]
    compared = [compare(line_up(records, other, method, THINGS)) for other in others]
    rows = []
    for other, both, p in zip(others, compared, holm([one.p for one in compared]), strict=True):
        theirs = 0.0
        if other != UNMODIFIED:
            theirs = compare(line_up(records, other, method, DISTANCE)).first.value
        rate, difference, exchanged, _ = exchange(both)
        rows.append(
            f"| {other} | {both.pairs} | {100 * both.first.value:.1f} % | {rate} | {difference} | {exchanged} "
            f"| {p:.2g} | {theirs:.3f} |"
        )
    return rows


def moved(records: Sequence[Record], method: str) -> tuple[float, float, float]:
    """The mean distance to the unmodified pictures: of those that showed everything in its colour, others, all."""
    right = {(one.prompt, one.seed): one.scores[COLOURS] == 1 for one in records if one.method == UNMODIFIED}
    own = [(one.scores[DISTANCE], right[one.prompt, one.seed]) for one in records if one.method == method]
    far = np.array([distance for distance, _ in own])
    before = np.array([one for _, one in own])
    return float(far[before].mean()), float(far[~before].mean()), float(far.mean())


def main() -> None:
    """Print three Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("method", nargs="?", default="best-start")
    arguments = parser.parse_args()
    records, method = Store(arguments.run).records(), arguments.method
    print(f"| rival | pictures | its rate | {method} | difference, points | gained / lost | p (Holm) | its distance |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    print("\n".join(against(records, method)))
    print("\n| category | score | unmodified | method | difference, points | gained / lost | p |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for score in (THINGS, COLOURS):
        for category, both in by_category(line_up(records, UNMODIFIED, method, score)).items():
            print(f"| {category} | {score} | {100 * both.first.value:.1f} % | {' | '.join(exchange(both))} |")
    right, wrong, every = moved(records, method)
    print(f"\nDistance where everything was there in its colour: {right:.4f}, elsewhere {wrong:.4f}, mean {every:.4f}")


if __name__ == "__main__":
    main()
