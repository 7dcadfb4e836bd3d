"""What a way to choose among starts would have brought, and its cost: `python -m benchmarks.policies LINES.jsonl`.

Tells it from the lines of `benchmarks.starts`, with `best-start`'s own search (`BestStart.tried`): every picture is
there, whichever start is chosen. First table: how well what is seen and read at each depth tells starts whose pictures
show everything from others, the chance that one that does has the higher value (.5 says nothing), over all starts and
among those of one picture. Second table: settings, the share of pictures that show everything, those gained and lost
against the given starts, and passes of the denoiser, the picture's own among them.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Sequence
from itertools import chain, product
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from attnreg.regulation.best_start import BestStart

GUIDED = 2
"""Rows of a step: with the prompt, and without."""


class Start(NamedTuple):
    """One start of a picture."""

    whole: bool
    distance: float
    told: dict[int, float]
    """Depth -> what the maps say there: `MapSignals.told`."""
    read: dict[int, float]
    """Depth -> how much worse the picture is restored under another text: `Signals.read`."""
    texts: int
    steps: int
    """That its picture takes."""

    @property
    def last(self) -> int:
        """The depth at which the given start is read."""
        return max(self.read)


Picture = Sequence[Start]
"""All its starts, the given one first."""


class Outcome(NamedTuple):
    """What a way to choose brings, over all pictures."""

    whole: float
    gained: int
    lost: int
    distance: float
    of_right: float
    """The distance of pictures that showed everything before."""
    passes: float
    kept: float
    """Share of the pictures whose given start was enough."""


def pictures_in(path: Path) -> list[Picture]:
    """The pictures of a file, of all whose starts are there as many as of the first."""
    found: dict[tuple[str, int], list[Start]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row: dict[str, Any] = json.loads(line)
        depths = {int(depth): one for depth, one in row["depths"].items()}
        told = {depth: math.sqrt(one["peak"] * one["apart"]) for depth, one in depths.items()}
        read = {depth: min(one["errors"][1:]) / one["errors"][0] for depth, one in depths.items()}
        texts = len(depths[max(depths)]["errors"])
        start = Start(row["whole"], row["distance"], told, read, texts, row["steps"])
        found.setdefault((row["prompt"], row["seed"]), []).append(start)
    most = max(map(len, found.values()))
    return [starts for starts in found.values() if len(starts) == most]


def outcome(edit: BestStart, pictures: Iterable[Picture]) -> Outcome:
    """What `best-start` brings with some settings; `edit.early` is a depth of the lines but the last.

    Passes are counted as where every start takes the pipeline's own steps, as it does in the twelve of `pocket`; the
    chosen start's first ones are not taken again.
    """
    rows: list[tuple[Start, Start, float, bool]] = []
    for starts in pictures:
        last, passes, walked = starts[0].last, GUIDED * starts[0].steps, dict[int, int]()

        def told(number: int, starts: Picture = starts, walked: dict[int, int] = walked) -> float:
            walked[number] = edit.early
            return starts[number].told[edit.early]

        def score(number: int, starts: Picture = starts, walked: dict[int, int] = walked) -> float:
            walked[number] = last = starts[number].last
            return starts[number].read[last] * starts[number].told[last]

        scores = [one or 0.0 for one in edit.tried(told, score)]
        best = max(range(len(scores)), key=scores.__getitem__)
        passes += sum(starts[number].texts for number, depth in walked.items() if depth == last)
        passes += GUIDED * sum(depth for number, depth in walked.items() if number != best)
        rows.append((starts[0], starts[best], passes, scores[0] >= edit.enough))
    return Outcome(
        whole=fmean(now.whole for _, now, _, _ in rows),
        gained=sum(now.whole > before.whole for before, now, _, _ in rows),
        lost=sum(now.whole < before.whole for before, now, _, _ in rows),
        distance=fmean(now.distance for _, now, _, _ in rows),
        of_right=fmean(now.distance for before, now, _, _ in rows if before.whole),
        passes=fmean(passes for _, _, passes, _ in rows),
        kept=fmean(kept for _, _, _, kept in rows),
    )


def told_apart(values: Sequence[Sequence[tuple[float, bool]]]) -> float:
    """The chance that a start that shows everything has the higher value, among those of each group."""
    higher = pairs = 0.0
    for group in values:
        right, wrong = ([value for value, whole in group if whole is kind] for kind in (True, False))
        higher += sum((one > other) + 0.5 * (one == other) for one, other in product(right, wrong))
        pairs += len(right) * len(wrong)
    return higher / pairs if pairs else math.nan


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lines", type=Path)
    parser.add_argument("--enough", type=float, nargs="+", default=[0.9, 1.1, 1.3])
    parser.add_argument("--good", type=float, nargs="+", default=[1.6, 2.0])
    parser.add_argument("--early", type=int, nargs="+", default=[3, 5])
    parser.add_argument("--group", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--starts", type=int, nargs="+", help="default: as many as there are")
    arguments = parser.parse_args()
    pictures = pictures_in(arguments.lines)
    some, every = len(pictures), [start for starts in pictures for start in starts]
    print(
        f"{some} pictures of {len(pictures[0])} starts: {fmean(one[0].whole for one in pictures):.1%} show everything"
    )
    print(f"from the given one, {fmean(one.whole for one in every):.1%} from any, ", end="")
    print(f"{fmean(any(start.whole for start in starts) for starts in pictures):.1%} from the best\n")
    print("| depth | maps | maps, of a picture | read | read, of a picture | both | both, of a picture |")
    print("| --- " * 7 + "|")
    for depth in sorted(every[0].read):
        cells = [f"{depth}"]
        for value in (
            lambda one, at=depth: one.told[at],
            lambda one, at=depth: one.read[at],
            lambda one, at=depth: one.told[at] * one.read[at],
        ):
            groups = [[(value(one), one.whole) for one in starts] for starts in pictures]
            cells += [f"{told_apart([[*chain(*groups)]]):.2f}", f"{told_apart(groups):.2f}"]
        print(f"| {' | '.join(cells)} |")
    heads = (
        "enough | good | early | group | starts | all things | gained / lost | mean abs. difference | of right "
        "pictures | passes | kept"
    )
    print(f"\n| {heads} |\n{'| --- ' * 11}|")
    for enough, good, early, group, starts in product(
        arguments.enough, arguments.good, arguments.early, arguments.group, arguments.starts or [len(pictures[0])]
    ):
        edit = BestStart(enough=enough, good=good, early=early, group=group, starts=starts)
        one = outcome(edit, pictures)
        print(
            f"| {enough:g} | {good:g} | {early} | {group} | {starts} | {one.whole:.1%} | {one.gained} / {one.lost} "
            f"| {one.distance:.3f} | {one.of_right:.3f} | {one.passes:.0f} | {one.kept:.0%} |"
        )


if __name__ == "__main__":
    main()
