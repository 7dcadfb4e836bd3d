"""The thresholds of `best-start` for a model that they were not chosen on, from the model's own scores: no judge.

How high a score is depends on the model. What carries over is how many of the pictures of hard prompts are begun anew:
the thresholds are those scores that these shares of the given starts stay below.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, quantiles
from typing import Any

import torch

from attnreg.attention.regulate import regulate
from attnreg.evaluation.store import Store
from attnreg.models.defaults import options_for
from attnreg.records import UNMODIFIED
from attnreg.regulation.best_start import BestStart
from attnreg.types import AttnregError
from attnreg.watching import Progress, watched

DOUBTED, GOOD = 0.3, 0.45
"""Shares of the given starts below `enough` and below `good`: what the bundled model's thresholds come to on pairs."""
FOR_EACH_WRONG, APART = 1.25, 0.15
"""Doubted ones for each picture that lacks something, and how far `good` is from it: of the bundled model likewise."""
FEWEST = 20
"""Scores from which a quantile is taken."""


def shares_for(wrong: float) -> tuple[float, float]:
    """The shares `doubted` and `good` for a model of which it is known how often it goes wrong.

    Args:
        wrong: share of the unmodified pictures that lack something.

    Returns:
        What `calibrate` takes.
    """
    doubted = min(max(FOR_EACH_WRONG * wrong, 0.05), 0.8)
    return doubted, doubted + APART


def wrong_in(folder: str | Path, model: str, score: str = "all things") -> float:
    """The share of a model's unmodified pictures that lack something.

    Args:
        folder: of a run of `attnreg bench`.
        model: as the run names it.
        score: of a judge, 1 where all is well.

    Returns:
        From 0 to 1.

    Raises:
        AttnregError: the folder is no run, or holds no such picture that was judged.
    """
    found = [
        value
        for record in Store(folder).records()
        if record.method == UNMODIFIED and record.model == model
        for name, value in record.scores.items()
        if name.partition("/")[2] == score
    ]
    if not found:
        raise AttnregError(
            f"expected unmodified pictures of {model} in {folder} with a judge's score {score!r}, got none; "
            f"draw some with attnreg bench run --methods none --models {model} --judges NAME"
        )
    return 1 - fmean(found)


@dataclass(frozen=True)
class Calibration:
    """The scores of some given starts, and what follows from them."""

    scores: tuple[float, ...]
    doubted: float = DOUBTED
    good: float = GOOD

    def __post_init__(self) -> None:
        self.check(len(self.scores), self.doubted, self.good)

    @staticmethod
    def check(pictures: int, doubted: float, good: float) -> None:
        """Say what is wrong before anything is read.

        Args:
            pictures: how many there are.
            doubted: as in `calibrate`.
            good: as in `calibrate`.

        Raises:
            AttnregError: too few pictures, or shares that are none.
        """
        if pictures < FEWEST:
            raise AttnregError(f"expected at least {FEWEST} pictures, got {pictures}; give more prompts or seeds")
        if not 0 < doubted < good < 1:
            raise AttnregError(f"expected shares with 0 < doubted < good < 1, got {doubted:g} and {good:g}")

    @property
    def settings(self) -> dict[str, float]:
        """Those of `BestStart`, to three digits."""
        cuts = quantiles(self.scores, n=100, method="inclusive")
        return {
            name: float(f"{cuts[max(1, round(100 * share)) - 1]:.3g}")
            for name, share in (("enough", self.doubted), ("good", self.good))
        }


class _Known(Exception):  # noqa: N818 (nothing went wrong)
    """The score is known: what follows in the picture is of no interest."""


def given_score(pipe: Any, prompt: str, seed: int, edit: BestStart | None = None, **options: Any) -> float:
    """How clearly the model reads every target in what a given start leads to. The picture is not finished.

    Args:
        pipe: a pipeline that `best-start` works with.
        prompt: its targets are found by themselves.
        seed: of the initial noise, drawn on the CPU.
        edit: how it is read, published settings if `None`.
        options: the pipeline's own; those that are `None` are left to it.

    Returns:
        The first of `StartRecord.scores`.

    Raises:
        AttnregError: what the start leads to cannot be foreseen with this pipeline, or the prompt has no target.
    """

    def stop(progress: Progress) -> None:
        if progress.step:
            raise _Known

    reading = replace(edit or BestStart(), starts=1, enough=0.0)
    with watched(pipe, stop), regulate(pipe, config=reading) as trace, suppress(_Known):
        pipe(prompt=prompt, generator=torch.Generator("cpu").manual_seed(seed), **options_for(pipe, options))
    return trace.starts[0].scores[0]


def calibrate(
    pipe: Any,
    pictures: Sequence[tuple[str, int]],
    *,
    doubted: float = DOUBTED,
    good: float = GOOD,
    edit: BestStart | None = None,
    say: Callable[[int, float], None] = lambda _number, _score: None,
    **options: Any,
) -> Calibration:
    """Thresholds of `best-start` for a model, from what it reads in the given starts of some pictures.

    Args:
        pipe: a pipeline that `best-start` works with.
        pictures: prompts and seeds, at least `FEWEST`, of the kind that the model often gets wrong.
        doubted: the share of such pictures that may be begun anew: what `best-start` costs grows with it.
        good: the share of given starts that another start has to be better than, to be taken without trying more.
        edit: how it is read, published settings if `None`.
        say: is told the number of every score, from 1, and the score.
        options: the pipeline's own, as it will be called; those that are `None` are left to it.

    Returns:
        The scores and the settings.

    Raises:
        AttnregError: as `given_score`; fewer pictures, or shares that are none.
    """
    Calibration.check(len(pictures), doubted, good)
    scores = []
    for number, (prompt, seed) in enumerate(pictures, 1):
        scores.append(given_score(pipe, prompt, seed, edit, **options))
        say(number, scores[-1])
    return Calibration(tuple(scores), doubted, good)
