"""Two methods compared, paired on prompt and seed: intervals, tests, wins and losses.

The unit is the prompt. The seeds of a prompt are not independent of one another, so they are averaged first, and
prompts are what the bootstrap resamples and the signed-rank test ranks. Differences are the second method minus the
first.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from attnreg.errors import AttnregError
from attnreg.limits import MOST_RESAMPLES
from attnreg.records import Record
from attnreg.shown import told

RESAMPLES = 10_000
LEVEL = 0.95
_TIE = 1e-12
"""Means that differ by less are the same: rounding is no win."""


Key = tuple[str, int, str]
"""Prompt, seed, model: what two pictures must share to be compared."""


@dataclass(frozen=True)
class Pairs:
    """One score of two methods on the same prompts, seeds and models, and what had no partner."""

    keys: tuple[Key, ...]
    categories: tuple[str, ...]
    """Of each pair."""
    first: tuple[float, ...]
    second: tuple[float, ...]
    only_first: tuple[Key, ...] = ()
    """Pictures that the second method lacks, or that have no such score there."""
    only_second: tuple[Key, ...] = ()

    @property
    def missing(self) -> str:
        """One line that says how many pictures were left out, and the first of them; empty if none was."""
        parts = []
        for which, keys in (("first", self.only_first), ("second", self.only_second)):
            if keys:
                prompt, seed, model = keys[0]
                count = f"{len(keys)} picture{'s' if len(keys) > 1 else ''}"
                parts.append(f"{count} only of the {which} (first: {prompt!r}, seed {seed}, {model})")
        return "; ".join(parts)

    def of_category(self, category: str) -> Pairs:
        """The pairs of one category.

        Args:
            category: a prompt's, as its set has it.

        Returns:
            Those pairs; what has no partner is not told again.
        """
        chosen = [i for i, one in enumerate(self.categories) if one == category]
        picked: list[Any] = [tuple(of[i] for i in chosen) for of in (self.keys, self.first, self.second)]
        return Pairs(picked[0], (category,) * len(chosen), picked[1], picked[2])


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """What can be said of one score of two methods. A win is a prompt on which the second method is better."""

    prompts: int
    pairs: int
    first: Interval
    """Mean over prompts of the first method."""
    second: Interval
    difference: Interval
    """Mean over prompts of second minus first."""
    wins: int
    ties: int
    losses: int
    effect: float
    """Matched-pairs rank-biserial correlation: from -1, the second is worse on every prompt, to 1, it is better."""
    test: str
    """ "exact McNemar" or "Wilcoxon signed-rank"."""
    p: float
    """Two-sided, of no difference."""
    p_holm: float | None = None
    """The same after Holm's correction over all the scores that were compared together."""
    gained: int | None = None
    """Of a yes/no score: pairs with "no" before and "yes" after; `None` of another score."""
    lost: int | None = None


def line_up(records: Iterable[Record], first: str, second: str, score: str, *, model: str | None = None) -> Pairs:
    """Match the records of two methods on prompt, seed and model, sorted; `Pairs.missing` says what has no partner.

    Args:
        records: of one run.
        first: a method.
        second: the method that is compared with it.
        score: "judge/score", such as "pocket/all things".
        model: only records of this model. `None`: all; a prompt's pictures by several models are then averaged.

    Returns:
        The scores of both, picture by picture.

    Raises:
        AttnregError: nothing matches, a score is not finite, or two records are of one picture.
    """
    found: dict[str, dict[Key, tuple[str, float]]] = {first: {}, second: {}}
    methods: set[str] = set()
    names: set[str] = set()
    for record in records:
        methods.add(record.method)
        names.update(record.scores)
        if record.method not in found or (model is not None and record.model != model) or score not in record.scores:
            continue
        key = (record.prompt, record.seed, record.model)
        value = float(record.scores[score])
        what = f"{score} of {record.method}, {key[0]!r}, seed {key[1]}, {key[2]}"
        if not np.isfinite(value):
            raise AttnregError(f"expected a finite {what}, got {value}; judge the picture again")
        if key in found[record.method]:
            raise AttnregError(f"expected one {what}, got two records; give the records of one run")
        found[record.method][key] = (record.category, value)
    keys = sorted(found[first].keys() & found[second].keys())
    if not keys:
        raise AttnregError(
            f"expected pictures of {first!r} and {second!r} with the same prompt and seed and a score {score!r}"
            + (f" of model {model!r}" if model else "")
            + f", got {len(found[first])} and {len(found[second])} pictures and none in common; "
            f"methods: {', '.join(sorted(methods)) or 'none'}; scores: {', '.join(sorted(names)) or 'none'}"
        )
    return Pairs(
        tuple(keys),
        tuple(found[first][key][0] for key in keys),
        tuple(found[first][key][1] for key in keys),
        tuple(found[second][key][1] for key in keys),
        tuple(sorted(found[first].keys() - found[second].keys())),
        tuple(sorted(found[second].keys() - found[first].keys())),
    )


def compare(pairs: Pairs, *, larger_is_better: bool = True, resamples: int = RESAMPLES, seed: int = 0) -> Comparison:
    """Everything about one score of two methods; the same pairs and seed give the same numbers.

    A yes/no score (0 or 1 everywhere) with one pair a prompt is tested with McNemar's exact test; any other with
    Wilcoxon's signed-rank test on the prompts' means, for McNemar's would count the seeds of a prompt as independent.

    Args:
        pairs: from `line_up`.
        larger_is_better: whether a larger score is a win.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        Means, difference, intervals, tests, wins and losses.

    Raises:
        AttnregError: there is no pair.
    """
    prompts = [prompt for prompt, _, _ in pairs.keys]
    before, after = per_prompt(prompts, pairs.first), per_prompt(prompts, pairs.second)
    change = after - before
    sign = 1 if larger_is_better else -1
    yes_no = set(pairs.first) | set(pairs.second) <= {0.0, 1.0}
    gained, lost = gained_lost(pairs.first, pairs.second) if yes_no else (None, None)
    one_each = len(change) == len(pairs.keys)
    if not len(change):
        raise AttnregError("expected at least one pair of pictures to compare, got none")
    one, other, difference = bootstrap(np.stack([before, after, change], axis=1), resamples=resamples, seed=seed)
    return Comparison(
        len(change),
        len(pairs.keys),
        one,
        other,
        difference,
        wins=int((sign * change > _TIE).sum()),
        ties=int((abs(change) <= _TIE).sum()),
        losses=int((sign * change < -_TIE).sum()),
        effect=sign * rank_biserial(change),
        test="exact McNemar" if yes_no and one_each else "Wilcoxon signed-rank",
        p=mcnemar(gained, lost) if gained is not None and lost is not None and one_each else signed_rank(change),
        gained=gained,
        lost=lost,
    )


def compare_scores(
    records: Iterable[Record], first: str, second: str, scores: Sequence[str], *, model: str | None = None,
    resamples: int = RESAMPLES, seed: int = 0,
) -> dict[str, Comparison]:  # fmt: skip
    """Two methods by several scores, with Holm's correction over these.

    Of scores that end in "distance" less is better.

    Args:
        records: of one run.
        first: a method.
        second: the method that is compared with it.
        scores: names of scores.
        model: as in `line_up`.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        Score -> comparison.

    Raises:
        AttnregError: as `line_up`.
    """
    listed = list(records)
    made = {
        score: compare(
            line_up(listed, first, second, score, model=model),
            larger_is_better=not score.endswith("distance"), resamples=resamples, seed=seed,
        )
        for score in scores
    }  # fmt: skip
    corrected = holm([one.p for one in made.values()])
    return {score: replace(one, p_holm=p) for (score, one), p in zip(made.items(), corrected, strict=True)}


def by_category(
    pairs: Pairs, *, larger_is_better: bool = True, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Comparison]:
    """Two methods by category of prompts, with Holm's correction over the categories.

    Args:
        pairs: from `line_up`.
        larger_is_better: whether a larger score is a win.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        Category -> comparison, in alphabetical order.
    """
    made = {
        category: compare(
            pairs.of_category(category), larger_is_better=larger_is_better, resamples=resamples, seed=seed
        )
        for category in sorted(set(pairs.categories))
    }
    corrected = holm([one.p for one in made.values()])
    return {name: replace(one, p_holm=p) for (name, one), p in zip(made.items(), corrected, strict=True)}


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
    if np.ptp(values) <= _TIE or below in (0.0, 1.0):  # nothing varies
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
    changed = differences[abs(differences) > _TIE]
    return float(_scipy().stats.wilcoxon(changed).pvalue) if len(changed) else 1.0


def rank_biserial(differences: Float[np.ndarray, " prompt"]) -> float:
    """Matched-pairs rank-biserial correlation (Kerby, 2014): rank sum above 0 minus that below, over both."""
    changed = differences[abs(differences) > _TIE]
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
