"""What chance alone would do: intervals by resampling, tests, and their correction.

Numbers in, numbers out: `statistics` says what is compared.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from attnreg.errors import AttnregError
from attnreg.limits import MOST_RESAMPLES
from attnreg.shown import told

RESAMPLES = 10_000
LEVEL = 0.95
TIE = 1e-12
"""Means that differ by less are the same: rounding is no win."""


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its interval."""

    value: float
    low: float
    high: float


def per_prompt(prompts: Sequence[str], values: Sequence[float]) -> Float[np.ndarray, " prompt"]:
    """The mean of the values of each prompt, in the order in which the prompts first occur."""
    places: dict[str, int] = {}
    index = np.array([places.setdefault(prompt, len(places)) for prompt in prompts], dtype=np.intp)
    return np.bincount(index, weights=np.asarray(values, dtype=float)) / np.bincount(index)


def bootstrap(
    values: Float[np.ndarray, "prompt column"], *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> list[Interval]:
    """The mean of each column and its bootstrap interval; prompts are resampled, the same ones for every column.

    Bias-corrected and accelerated (BCa; Efron, 1987), its levels widened to those of Student's t (Hesterberg, 2015,
    "expanded percentile"): without that, intervals of a dozen prompts hold the truth in 90 of 100 cases instead of 95
    (`python -m benchmarks.coverage`). The interval of one prompt alone is everything.
    """
    if not 1 <= resamples <= MOST_RESAMPLES:
        raise AttnregError(f"resamples: expected 1 to {MOST_RESAMPLES:,}, got {told(resamples)}; choose one there")
    count = len(values)
    means = values.mean(axis=0)
    if count < 2:
        return [Interval(float(mean), -np.inf, np.inf) for mean in means]
    rng = np.random.default_rng(seed)
    chunk = max(1, 2_000_000 // values.size)
    sizes = [min(chunk, resamples - start) for start in range(0, resamples, chunk)]
    resampled = np.concatenate([values[rng.integers(0, count, (size, count))].mean(axis=1) for size in sizes])
    return [
        _bca(column, float(mean), drawn, level)
        for column, mean, drawn in zip(values.T, means, resampled.T, strict=True)
    ]


def _bca(
    values: Float[np.ndarray, " prompt"], mean: float, resampled: Float[np.ndarray, " resample"], level: float
) -> Interval:
    special, count = _scipy().special, len(values)
    deviations = values - mean
    below = (np.count_nonzero(resampled < mean) + np.count_nonzero(resampled == mean) / 2) / len(resampled)
    if np.ptp(values) <= TIE or below in (0.0, 1.0):  # nothing varies
        return Interval(mean, float(resampled.min()), float(resampled.max()))
    ends = np.array([(1 - level) / 2, (1 + level) / 2])
    z = np.sqrt(count / (count - 1)) * special.stdtrit(count - 1, ends)
    bias = special.ndtri(below)
    acceleration = (deviations**3).sum() / (6 * (deviations**2).sum() ** 1.5)
    levels = special.ndtr(bias + (bias + z) / (1 - acceleration * (bias + z)))
    low, high = np.quantile(resampled, levels)
    return Interval(mean, float(low), float(high))


def gained_lost(first: Sequence[float], second: Sequence[float]) -> tuple[int, int]:
    """How many yes/no pairs went from 0 to 1, and from 1 to 0."""
    before, after = np.asarray(first), np.asarray(second)
    return int((before < after).sum()), int((before > after).sum())


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided p of McNemar's exact test: of a fair coin that fell so often each way; 1 if nothing changed."""
    changed = gained + lost
    return float(_scipy().stats.binomtest(gained, changed).pvalue) if changed else 1.0


def signed_rank(differences: Float[np.ndarray, " prompt"]) -> float:
    """Two-sided p of Wilcoxon's signed-rank test, as scipy has it: differences of 0 left out; 1 if all are 0."""
    changed = differences[abs(differences) > TIE]
    return float(_scipy().stats.wilcoxon(changed).pvalue) if len(changed) else 1.0


def rank_biserial(differences: Float[np.ndarray, " prompt"]) -> float:
    """Matched-pairs rank-biserial correlation (Kerby, 2014): rank sum above 0 minus that below, over both."""
    changed = differences[abs(differences) > TIE]
    if not len(changed):
        return 0.0
    ranks = _scipy().stats.rankdata(abs(changed))
    return float((ranks * np.sign(changed)).sum() / ranks.sum())


def holm(ps: Sequence[float]) -> list[float]:
    """Each p after Holm's step-down correction (1979), which holds the chance of any false finding at the level."""
    count = len(ps)
    order = sorted(range(count), key=lambda i: ps[i])
    grown = itertools.accumulate((min(1.0, (count - rank) * ps[i]) for rank, i in enumerate(order)), max)
    corrected = dict(zip(order, grown, strict=True))
    return [corrected[i] for i in range(count)]


def _scipy() -> Any:
    try:
        import scipy
        from scipy import special, stats  # noqa: F401 - so that scipy has them
    except ImportError as error:
        raise AttnregError("expected scipy, which is not installed; pip install 'attnreg[bench]'") from error
    return scipy
