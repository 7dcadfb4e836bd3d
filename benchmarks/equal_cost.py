"""Fidelity against cost, methods beside the best of N by a verifier: `python -m benchmarks.equal_cost RUN`.

The unit of cost is the denoiser's forward pass, a row of its batch (with guidance a step takes two), a backward pass
counting two (`attnreg.passes`). The best of N (random search; Ma et al., 2025, arXiv:2501.09732) is taken from the
unmodified pictures of the run: that of seed s from seeds s, s + 1, ... s + N - 1, going round after the last, so that
every picture serves N times; intervals resample prompts, whose pictures share seeds. The verifier is not the judge
(`benchmarks.verifier`). What zero-order search found is read from JSON lines of `benchmarks.zero_order`, where given.

`--drawn FILE` in the place of a run draws the plot of a JSON that was written before:
`python -m benchmarks.equal_cost --drawn docs/results/equal-cost.json --plot docs/pictures/equal-cost.png`.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from PIL import Image

from attnreg.evaluation import Store
from attnreg.measure.asked import Prompt
from attnreg.records import UNMODIFIED, Record
from attnreg.report.summary import mean_of
from attnreg.statistics import compare, line_up
from benchmarks.equal_cost_plot import Point, plot
from benchmarks.pairs import exchange
from benchmarks.verifier import Verifier

SCORE, COUNTS, BATCH = "pocket/all things", (1, 2, 4, 8), 32


def verified(records: Sequence[Record], store: Store) -> list[tuple[Record, float]]:
    """Every record with what the verifier says of its picture; lost pictures are left out."""
    prompts = {prompt.text: prompt for prompt in store.prompts()}
    verifier, found = Verifier(), list[tuple[Record, float]]()
    there = [(record, png) for record in records if (png := store.picture(record.picture)) is not None]
    for first in range(0, len(there), BATCH):
        some = there[first : first + BATCH]
        asked: list[Prompt] = [prompts[record.prompt] for record, _ in some]
        scores = verifier([Image.open(io.BytesIO(png)) for _, png in some], asked)
        found += [(record, score) for (record, _), score in zip(some, scores, strict=True)]
    return found


def best_of(count: int, verified: Sequence[tuple[Record, float]]) -> list[Record]:
    """The best by the verifier of so many seeds, one record a prompt and seed, with the passes of all of them.

    Seeds go round: of a prompt with seeds 0 to 3, the best of 2 of seed 3 is that of seeds 3 and 0. Prompts that have
    fewer seeds than that, or passes that nobody counted, are left out.
    """
    by_prompt: dict[str, list[tuple[Record, float]]] = {}
    for record, score in verified:
        if record.passes is not None:
            by_prompt.setdefault(record.prompt, []).append((record, score))
    found = []
    for own in by_prompt.values():
        own.sort(key=lambda one: one[0].seed)
        if len(own) < count:
            continue
        for place, (given, _) in enumerate(own):
            some = [own[(place + step) % len(own)] for step in range(count)]
            best = max(some, key=lambda one: one[1])[0]
            passes = sum(one.passes or 0 for one, _ in some)
            seconds = sum(one.seconds for one, _ in some)
            name = f"best of {count}"
            found.append(replace(best, seed=given.seed, method=name, passes=passes, seconds=seconds))
    return found


def searched(path: Path) -> list[Record]:
    """The pictures that a search in `benchmarks.zero_order` ended with."""
    return [Record(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def rows(records: Sequence[Record], method: str, resamples: int) -> list[dict[str, Any]]:
    """Every method with its fidelity, its passes, and how far `method` lies above it on the pictures both have."""
    found = []
    for name in dict.fromkeys(record.method for record in records):
        own = [record for record in records if record.method == name and SCORE in record.scores]
        counted = [record.passes for record in own if record.passes is not None]
        if not own or not counted:
            continue
        row: dict[str, Any] = {
            "method": name, "pictures": len(own), "prompts": len({record.prompt for record in own}),
            "passes": fmean(counted), "seconds": fmean(record.seconds for record in own),
            "all things": asdict(mean_of(own, SCORE, resamples)),
        }  # fmt: skip
        drawn = {(one.prompt, one.seed) for one in records if one.method == method}
        if name != method and drawn & {(one.prompt, one.seed) for one in own}:
            both = compare(line_up(records, name, method, SCORE), resamples=resamples)
            row |= {"pairs": both.pairs, "above it": asdict(both.difference), "cells": exchange(both)}
        found.append(row)
    return found


def markdown(found: Sequence[dict[str, Any]], method: str) -> str:
    """The rows as a table, the cheapest first."""
    lines = [
        f"| method | pictures | passes | all things | of both | {method} above it, points | gained / lost | p |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in sorted(found, key=lambda one: float(one["passes"])):
        mean, cells = row["all things"], row.get("cells", ("", "", "", ""))
        share = f"{100 * mean['value']:.1f} % ({100 * mean['low']:.1f} to {100 * mean['high']:.1f})"
        lines.append(
            f"| {row['method']} | {row['pictures']} | {row['passes']:.0f} | {share} | {row.get('pairs', '')} "
            f"| {cells[1]} | {cells[2]} | {cells[3]} |"
        )
    return "\n".join(lines)


def points_of(found: Sequence[dict[str, Any]]) -> list[Point]:
    """What is drawn of the rows."""
    return [Point(row["method"], row["passes"], **row["all things"]) for row in found]


def save_plot(found: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the rows."""
    plot(points_of(found), "pictures with everything that the prompt names, by passes of the denoiser").save(path)


def main() -> None:
    """Print the table; write JSON and a plot if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?")
    parser.add_argument("--drawn", type=Path, help="a JSON of an earlier call: draw its plot, and nothing else")
    parser.add_argument("--method", default="best-start", help="what the others are compared with")
    parser.add_argument("--searched", type=Path, nargs="*", default=[], help="JSON lines of benchmarks.zero_order")
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    if (arguments.run is None) == (arguments.drawn is None) or (arguments.drawn and not arguments.plot):
        parser.error("expected a run, or --drawn FILE and --plot FILE")
    if arguments.drawn:
        save_plot(json.loads(arguments.drawn.read_text(encoding="utf-8")), arguments.plot)
        return
    store = Store(arguments.run)
    records = [record for record in store.records() if SCORE in record.scores]
    plain = verified([record for record in records if record.method == UNMODIFIED], store)
    every = [*records]
    for count in COUNTS[1:]:
        every += best_of(count, plain)
    for path in arguments.searched:
        every += searched(path)
    found = rows(every, arguments.method, arguments.resamples)
    print(markdown(found, arguments.method))
    if arguments.json:
        told = [{name: value for name, value in row.items() if name != "cells"} for row in found]
        arguments.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    if arguments.plot:
        save_plot(found, arguments.plot)


if __name__ == "__main__":
    main()
