"""Two methods compared, paired on prompt and seed: intervals, tests, wins and losses.

The unit is the prompt. The seeds of a prompt are not independent of one another, so they are averaged first, and
prompts are what the bootstrap resamples and the signed-rank test ranks. Differences are the second method minus the
first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from attnreg.errors import AttnregError
from attnreg.records import Record
from attnreg.significance import LEVEL as LEVEL
from attnreg.significance import RESAMPLES as RESAMPLES
from attnreg.significance import TIE, mcnemar, rank_biserial, signed_rank
from attnreg.significance import Interval as Interval
from attnreg.significance import bootstrap as bootstrap
from attnreg.significance import gained_lost as gained_lost
from attnreg.significance import holm as holm
from attnreg.significance import per_prompt as per_prompt

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
        wins=int((sign * change > TIE).sum()),
        ties=int((abs(change) <= TIE).sum()),
        losses=int((sign * change < -TIE).sum()),
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
