"""Do the first steps' attention maps tell which pictures will lack a thing? `python -m benchmarks.danger`.

Unmodified pictures of the development half are drawn and judged, while all layers over the text are watched. Printed
for every step: how well the score of `best-start` and the two signals that it is the product of tell them apart. First
the chance that a picture that shows everything has the higher one than one that does not (the area under the ROC curve;
.5 says nothing), over all pictures and between the seeds of one prompt, which is what an edit could act on. Then, what
choosing by the score would bring: how many pictures show everything if of two, or of all, seeds of a prompt the one is
kept whose score is highest in that step.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor

from attnreg.attention.maps import target_maps
from attnreg.evaluation.prompts import halves, prompt_set
from attnreg.measure.pocket import PocketJudge
from attnreg.methods.best_start import signals
from attnreg.models.load import load_pipeline
from attnreg.regulation.edit import Edited, PromptColumns
from attnreg.regulation.settings import EditSettings, in_layers, in_window
from attnreg.types import Grid, Logits
from benchmarks.drawing import drawn


class Watched(NamedTuple):
    """What one call of one layer looked at."""

    step: int
    maps: Float[Tensor, "image target height width"]


@dataclass(frozen=True, kw_only=True)
class Watching(EditSettings):
    """No edit: notes where each target is looked for."""

    window: tuple[float, float] = in_window(0.0, 1.0)
    layers: tuple[str, ...] = in_layers("all")
    seen: list[Watched] = field(default_factory=list)
    """In the order of the calls."""

    def __call__(
        self,
        logits: Logits,
        prompts: Sequence[PromptColumns],
        grid: Grid,
        step: int,
        layer: str,
        memory: dict[str, Any],
    ) -> Edited:
        """The plain softmax."""
        probabilities = logits.softmax(-1)
        maps = target_maps(probabilities, prompts)
        self.seen.append(Watched(step, maps.unflatten(-1, tuple(grid))))
        mass = maps.mean(-1)
        return Edited(probabilities, mass, mass)


def scored(watched: Iterable[Watched]) -> Float[np.ndarray, "signal image step"]:
    """The score, the peak and the distance of every picture and step: each call of the pipeline begins at step 0."""
    calls: list[list[list[Watched]]] = []
    last = -1
    for one in watched:
        if one.step < last or last < 0:
            calls.append([])
        if one.step != last:
            calls[-1].append([])
        calls[-1][-1].append(one)
        last = one.step
    each = [
        [
            [(math.prod(both), *both) for both in [signals([one.maps[image] for one in layers]) for layers in steps]]
            for image in range(len(steps[0][0].maps))
        ]
        for steps in calls
    ]
    return np.concatenate([np.array(one) for one in each]).transpose(2, 0, 1)


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
    parser.add_argument("--prompts", default="unseen-pairs")
    parser.add_argument("--limit", type=int, default=1000, help="prompts")
    parser.add_argument("--seeds", type=int, default=4)
    arguments = parser.parse_args()
    prompts = halves(prompt_set(arguments.prompts)).development[: arguments.limit]
    pipe, judge = load_pipeline(), PocketJudge()
    pipe.set_progress_bar_config(disable=True)
    watching = Watching()
    made = list(drawn(pipe, prompts, range(arguments.seeds), watching))
    verdicts = judge([one.picture for one in made], [one.prompt for one in made])
    whole = np.array([bool(scores["all things"]) for scores in verdicts])
    texts = np.array([one.prompt.text for one in made])
    everyone, alone = [np.full(len(made), True)], [texts == text for text in dict.fromkeys(texts)]
    every = scored(watching.seen)
    print(f"{len(made)} pictures of {len(prompts)} prompts, {whole.mean():.1%} show everything\n")
    names = ("score", "peak", "apart")
    print(f"| step | {' | '.join(f'{name} | {name}, seeds of a prompt' for name in names)} |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for step in range(every.shape[2]):
        chances = [told(signal[:, step], whole, groups) for signal in every for groups in (everyone, alone)]
        print(f"| {step} | {' | '.join(f'{chance:.2f}' for chance in chances)} |")
    print(f"\n| step | best of two | best of {arguments.seeds} |\n| --- | --- | --- |")
    for step in range(every.shape[2]):
        shares = [kept(every[0, :, step], whole, alone, candidates) for candidates in (2, arguments.seeds)]
        print(f"| {step} | {' | '.join(f'{share:.1%}' for share in shares)} |")


if __name__ == "__main__":
    main()
