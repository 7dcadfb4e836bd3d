"""What choosing among starts can bring, and when to let be: `python -m benchmarks.danger`.

Every start that `best-start` may try for a picture of the development half is drawn to its end and judged, and scored
as `best-start` scores it, in several ways (`WAYS`). First table: how well the score, and the signals that it is the
product of, tell starts whose pictures show everything from others: the chance that one that does has the higher value
(the area under the ROC curve; .5 says nothing), over all and among the starts of one picture. Second table: what comes
of each way and each score that is `enough` or `good`, from the same pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from attnreg.evaluation.prompts import fewer, halves, prompt_set
from attnreg.measure.pocket import PocketJudge
from attnreg.models.about import POCKET_NAME
from attnreg.models.load import load_pipeline
from attnreg.regulation.best_start import BestStart, Latent, Signals, signals
from attnreg.regulation.edit import PromptWords
from attnreg.regulation.kinds import Chosen, Guess
from attnreg.regulation.noises import noises_like
from benchmarks.drawing import drawn, mean_absolute_difference

WAYS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "3 passes to .5": {"passes": 3},
    "the first 5 of the steps": {"passes": 5, "until": 4 / 12},
    "the first 4 of the steps": {"passes": 4, "until": 3 / 12},
    "the first 3 of the steps": {"passes": 3, "until": 2 / 12},
    "12 passes to the end": {"passes": 12, "until": 1.0},
    "read at .4": {"noise": 0.4},
    "read at .7": {"noise": 0.7},
}
"""What is told of a way of scoring -> its settings."""
ENOUGH = (0.6, 0.9, 1.1, 1.3, 1.6, 2.0)
GOOD = (1.6, 2.0, 3.0, 1e9)


@dataclass(frozen=True, kw_only=True)
class Watching(BestStart):
    """Scores all starts and keeps the given one, whatever it is."""

    seen: list[list[Signals]] = field(default_factory=list)
    """Of every image, in their order, of every start."""

    def choose(self, latent: Latent, follow: Callable[[Latent], Guess], words: PromptWords) -> Chosen:
        """The given start."""
        own = [signals(follow(start), words) for start in noises_like(latent, self.starts, self.strength)]
        self.seen.append(own)
        return Chosen(latent, tuple(one.score for one in own), 0)


@dataclass(frozen=True, kw_only=True)
class Begin(BestStart):
    """Takes one of the starts, whatever comes of it."""

    number: int = 0

    def choose(self, latent: Latent, follow: Callable[[Latent], Guess], words: PromptWords) -> Chosen:
        """The start with that number, 0 the given one."""
        starts = list(noises_like(latent, self.starts, self.strength))
        return Chosen(starts[self.number], (0.0,), self.number)


def told(signal: Float[np.ndarray, " start"], whole: np.ndarray, groups: Iterable[np.ndarray]) -> float:
    """The chance that a start that shows everything has the higher signal, among those of each group."""
    higher = pairs = 0.0
    for group in groups:
        right, wrong = signal[group & whole][:, None], signal[group & ~whole]
        higher += float(((right > wrong) + 0.5 * (right == wrong)).sum())
        pairs += right.size * wrong.size
    return higher / pairs if pairs else float("nan")


class Outcome(NamedTuple):
    """What a way of choosing brings, over all pictures."""

    whole: float
    gained: int
    lost: int
    distance: float
    of_right: float
    """The distance of pictures that showed everything before."""
    tried: float
    """Starts, on average."""


def outcome(
    edit: BestStart,
    score: Float[np.ndarray, "image start"],
    whole: Bool[np.ndarray, "image start"],
    distance: Float[np.ndarray, "image start"],
) -> Outcome:
    """What `best-start` brings with some settings, given every start's score and what would come of it."""
    tried = [edit.tried(row) for row in score.tolist()]
    every, chosen = np.arange(len(score)), [int(np.argmax(one)) for one in tried]
    now, before, moved = whole[every, chosen], whole[:, 0], distance[every, chosen]
    return Outcome(
        float(now.mean()), int((now & ~before).sum()), int((before & ~now).sum()),
        float(moved.mean()), float(moved[before].mean()), float(np.mean([*map(len, tried)])),
    )  # fmt: skip


def _stop(pipe: Any, _step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
    """Once the starts are scored, the rest of the steps is of no interest."""
    pipe._interrupt = True
    return tensors


def main() -> None:
    """Draw, judge and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=POCKET_NAME, help="another version of the bundled one")
    parser.add_argument("--prompts", default="unseen-pairs")
    parser.add_argument("--limit", type=int, default=1000, help="prompts")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--starts", type=int, default=BestStart.starts)
    parser.add_argument("--ways", nargs="+", choices=[*WAYS], default=[*WAYS], help="of scoring; default: all")
    parser.add_argument("--out", type=Path, help="signals and verdicts, as npz")
    arguments = parser.parse_args()
    prompts = fewer(halves(prompt_set(arguments.prompts)).development, arguments.limit)
    pipe, judge = load_pipeline(arguments.model), PocketJudge()
    pipe.set_progress_bar_config(disable=True)
    seeds, starts = range(arguments.seeds), arguments.starts
    begun = [list(drawn(pipe, prompts, seeds, Begin(starts=starts, number=number))) for number in range(starts)]
    whole, distance = np.empty((len(begun[0]), starts), bool), np.empty((len(begun[0]), starts))
    for number, made in enumerate(begun):
        verdicts = judge([one.picture for one in made], [one.prompt for one in made])
        whole[:, number] = [bool(scores["all things"]) for scores in verdicts]
        distance[:, number] = [
            mean_absolute_difference(one.picture, first.picture) for one, first in zip(made, begun[0], strict=True)
        ]
    print(f"{len(whole)} pictures of {len(prompts)} prompts, {whole[:, 0].mean():.1%} show everything; ", end="")
    print(f"of all {starts} starts {whole.mean():.1%} do, of {whole.any(1).mean():.1%} of the pictures at least one\n")
    seen: dict[str, Float[np.ndarray, "image start signal"]] = {}
    for way in arguments.ways:
        watching = Watching(starts=starts, **WAYS[way])
        for _ in drawn(pipe, prompts, seeds, watching, callback_on_step_end=_stop):
            pass
        seen[way] = np.array([[(one.score, *one) for one in images] for images in watching.seen])
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        np.savez(arguments.out, whole=whole, distance=distance, signals=np.stack([*seen.values()]))
    names = ("score", *Signals._fields)
    print(f"| scored | {' | '.join(f'{name} | {name}, of a picture' for name in names)} |\n{'| --- ' * 9}|")
    everyone = [np.full(whole.size, True)]
    alone = [np.repeat(np.arange(len(whole)) == image, starts) for image in range(len(whole))]
    for way, found in seen.items():
        columns = found.reshape(-1, found.shape[-1]).T
        chances = [told(signal, whole.ravel(), groups) for signal in columns for groups in (everyone, alone)]
        print(f"| {way} | {' | '.join(f'{chance:.2f}' for chance in chances)} |")
    heads = (
        "scored | enough | good | all things | gained / lost | mean abs. difference | of right pictures | starts tried"
    )
    print(f"\n| {heads} |")
    print("| --- " * 8 + "|")
    for way, found in seen.items():
        for enough, good in product(ENOUGH, GOOD):
            one = outcome(BestStart(enough=enough, good=good), found[..., 0], whole, distance)
            print(
                f"| {way} | {enough:g} | {good:g} | {one.whole:.1%} | {one.gained} / {one.lost} | {one.distance:.3f} "
                f"| {one.of_right:.3f} | {one.tried:.1f} |"
            )


if __name__ == "__main__":
    main()
