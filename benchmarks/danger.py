"""Do the first steps' attention maps tell which pictures will lack a thing? `python -m benchmarks.danger`.

Unmodified pictures of the development half are drawn and judged, while all layers over the text are watched. Two
signals, of maps that are means over layers and heads: how far the least peaked target's map rises above its mean
(smoothed over 3 x 3 positions), and how little two targets' maps overlap (one minus their cosine). Printed for every
step: the chance that a picture that shows everything has the higher signal than one that does not (the area under the
ROC curve; .5 says nothing), over all pictures and between the seeds of one prompt, which is what an edit could act on.
Then, what choosing by the signals would bring: how many pictures show everything if of two, or of all, seeds of a
prompt the one is kept whose signals, standardised and added, are highest in that step.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from attnreg.attention.maps import target_maps
from attnreg.evaluation.prompts import halves, prompt_set
from attnreg.measure.pocket import PocketJudge
from attnreg.models.load import load_pipeline
from attnreg.regulation.edit import Edited, PromptColumns
from attnreg.regulation.settings import EditSettings, in_layers, in_window
from attnreg.types import Grid, Logits
from benchmarks.drawing import drawn

SIDE = 8
"""Positions along a side of the maps, at most."""


@dataclass(frozen=True, kw_only=True)
class Watching(EditSettings):
    """No edit: notes where each target is looked for."""

    window: tuple[float, float] = in_window(0.0, 1.0)
    layers: tuple[str, ...] = in_layers("all")
    seen: list[tuple[int, Float[Tensor, "image target height width"]]] = field(default_factory=list)
    """The maps of every layer and step, in the order of the calls."""

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
        self.seen.append((step, F.adaptive_avg_pool2d(maps.unflatten(-1, tuple(grid)), SIDE)))
        mass = maps.mean(-1)
        return Edited(probabilities, mass, mass)


def by_step(
    seen: Iterable[tuple[int, Float[Tensor, "image target height width"]]],
) -> Float[Tensor, "image step target height width"]:
    """The mean of the layers in every step, of the pictures of all calls of the pipeline: each begins at step 0."""
    calls: list[list[list[Tensor]]] = []
    last = -1
    for step, maps in seen:
        if step < last or last < 0:
            calls.append([])
        if step != last:
            calls[-1].append([])
        calls[-1][-1].append(maps)
        last = step
    return torch.cat([torch.stack([torch.stack(maps).mean(0) for maps in steps], 1) for steps in calls])


def peak(maps: Float[Tensor, "image step target height width"]) -> Float[np.ndarray, "image step"]:
    """How far the least peaked target rises: its smoothed maximum in means of its map."""
    smooth = F.avg_pool2d(F.pad(maps.flatten(0, 2)[:, None], (1,) * 4, mode="replicate"), 3, stride=1)
    rise: Tensor = smooth.reshape(maps.shape).amax((-2, -1)) / maps.mean((-2, -1))
    return rise.amin(-1).numpy()


def apart(maps: Float[Tensor, "image step target height width"]) -> Float[np.ndarray, "image step"]:
    """One minus the cosine of the two targets' maps; of the closest two, if there are more."""
    directions = F.normalize(maps.flatten(-2), dim=-1)
    pairs = combinations(range(directions.shape[2]), 2)
    cosines = torch.stack([(directions[:, :, i] * directions[:, :, j]).sum(-1) for i, j in pairs])
    return (1 - cosines.amax(0)).numpy()


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
    maps = by_step(watching.seen)
    signals = (peak(maps), apart(maps))
    print(f"{len(made)} pictures of {len(prompts)} prompts, {whole.mean():.1%} show everything\n")
    print("| step | peak | peak, seeds of a prompt | apart | apart, seeds of a prompt |")
    print("| --- | --- | --- | --- | --- |")
    for step in range(maps.shape[1]):
        chances = [told(signal[:, step], whole, groups) for signal in signals for groups in (everyone, alone)]
        print(f"| {step} | {' | '.join(f'{chance:.2f}' for chance in chances)} |")
    both = sum((signal - signal.mean(0)) / signal.std(0) for signal in signals)
    print(f"\n| step | best of two | best of {arguments.seeds} |\n| --- | --- | --- |")
    for step in range(maps.shape[1]):
        shares = [kept(both[:, step], whole, alone, candidates) for candidates in (2, arguments.seeds)]
        print(f"| {step} | {' | '.join(f'{share:.1%}' for share in shares)} |")


if __name__ == "__main__":
    main()
