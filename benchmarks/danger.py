"""Does the score of a start tell which pictures will lack a thing? `python -m benchmarks.danger`.

Unmodified pictures of the development half are drawn and judged, and their starts scored as `best-start` scores them.
Printed for every depth to which a start is followed: how well the score, and the signals that it is the product of,
tell pictures that show everything from others. First the chance that one that does has the higher score (the area under
the ROC curve; .5 says nothing), over all pictures and between the seeds of one prompt. Then, for some thresholds, which
share of the pictures that show everything, and of the others, would be left alone; and what choosing by the score would
bring: how many pictures show everything if of two, or of all, seeds of a prompt the one is kept whose score is highest.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from jaxtyping import Float

from attnreg.evaluation.prompts import fewer, halves, prompt_set
from attnreg.measure.pocket import PocketJudge
from attnreg.methods.best_start import BestStart, Latent, Signals, signals
from attnreg.models.about import POCKET_NAME
from attnreg.models.load import load_pipeline
from attnreg.regulation.edit import PromptWords
from attnreg.regulation.kinds import Chosen, Guess
from benchmarks.drawing import drawn

DEPTHS = ((3, 0.5), (4, 0.75), (6, 0.84), (12, 1.0))
"""Passes until a start's picture is read, and the part of the steps they go down."""


@dataclass(frozen=True, kw_only=True)
class Watching(BestStart):
    """Scores the given start and keeps it, whatever it is."""

    seen: list[Signals] = field(default_factory=list)
    """Of every image, in their order."""

    def choose(self, latent: Latent, follow: Callable[[Latent], Guess], words: PromptWords) -> Chosen:
        """The given start."""
        self.seen.append(signals(follow(latent), words))
        return Chosen(latent, (self.seen[-1].score,), 0)


def told(signal: Float[np.ndarray, " image"], whole: np.ndarray, groups: Iterable[np.ndarray]) -> float:
    """The chance that a picture that shows everything has the higher signal, among the pictures of each group."""
    higher = pairs = 0.0
    for group in groups:
        right, wrong = signal[group & whole][:, None], signal[group & ~whole]
        higher += float(((right > wrong) + 0.5 * (right == wrong)).sum())
        pairs += right.size * wrong.size
    return higher / pairs if pairs else float("nan")


def kept(
    signal: Float[np.ndarray, " image"], whole: np.ndarray, groups: Iterable[np.ndarray], candidates: int
) -> float:
    """The share of pictures that show everything, if of so many of a group the one with the highest signal is kept."""
    found = []
    for group in groups:
        rivals = combinations(np.flatnonzero(group), candidates)
        found += [whole[max(some, key=lambda index: float(signal[index]))] for some in rivals]
    return float(np.mean(found))


def main() -> None:
    """Draw, judge and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=POCKET_NAME, help="another version of the bundled one")
    parser.add_argument("--prompts", default="unseen-pairs")
    parser.add_argument("--limit", type=int, default=1000, help="prompts")
    parser.add_argument("--seeds", type=int, default=4)
    arguments = parser.parse_args()
    prompts = fewer(halves(prompt_set(arguments.prompts)).development, arguments.limit)
    pipe, judge = load_pipeline(arguments.model), PocketJudge()
    pipe.set_progress_bar_config(disable=True)
    watching = [Watching(passes=passes, until=until) for passes, until in DEPTHS]
    for edit in watching:
        made = list(drawn(pipe, prompts, range(arguments.seeds), edit))
    verdicts = judge([one.picture for one in made], [one.prompt for one in made])
    whole = np.array([bool(scores["all things"]) for scores in verdicts])
    texts = np.array([one.prompt.text for one in made])
    everyone, alone = [np.full(len(made), True)], [texts == text for text in dict.fromkeys(texts)]
    print(f"{len(made)} pictures of {len(prompts)} prompts, {whole.mean():.1%} show everything\n")
    names = ("score", *Signals._fields)
    print(f"| passes | until | {' | '.join(f'{name} | {name}, seeds of a prompt' for name in names)} |")
    print("| --- " * 10 + "|")
    every = [np.array([(one.score, *one) for one in edit.seen]) for edit in watching]
    for (passes, until), found in zip(DEPTHS, every, strict=True):
        chances = [told(signal, whole, groups) for signal in found.T for groups in (everyone, alone)]
        print(f"| {passes} | {until:g} | {' | '.join(f'{chance:.2f}' for chance in chances)} |")
    thresholds = (0.5, 0.6, 0.7, 0.9)
    heads = " | ".join(f"left alone from {threshold:g} on, right / wrong" for threshold in thresholds)
    print(f"\n| passes | until | {heads} | best of two | best of {arguments.seeds} |\n" + "| --- " * 8 + "|")
    for (passes, until), found in zip(DEPTHS, every, strict=True):
        score = found[:, 0]
        spared = [f"{(score[whole] >= at).mean():.0%} / {(score[~whole] >= at).mean():.0%}" for at in thresholds]
        shares = [f"{kept(score, whole, alone, candidates):.1%}" for candidates in (2, arguments.seeds)]
        print(f"| {passes} | {until:g} | {' | '.join([*spared, *shares])} |")


if __name__ == "__main__":
    main()
