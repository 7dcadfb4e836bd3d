"""The numbers of a report: every method of a model beside the unmodified one, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from attnreg.records import UNMODIFIED, Record
from attnreg.report.cost import extra_time
from attnreg.report.run import Run, distance_of, headline, is_yes_no, scores_of
from attnreg.report.wording import Unit, count, listed, unit_for
from attnreg.statistics import Comparison, Interval, bootstrap, compare, holm, line_up, per_prompt


@dataclass(frozen=True)
class MethodRow:
    """One method."""

    method: str
    pictures: int
    """How many were judged."""
    prompts: int
    mean: Interval
    compared: Comparison | None
    """With the unmodified model; `None` for that itself, or where it drew none of the same pictures."""
    seconds: float | None
    """Mean of the pictures whose time is known."""
    extra: Interval | None
    """See `attnreg.report.cost.extra_time`."""
    distance: Interval | None
    peak_bytes: int | None
    """The highest of the pictures."""
    passes: float | None = None
    """Of the denoiser, mean of the pictures of which they were counted."""


@dataclass(frozen=True)
class Category:
    """One category of the prompts."""

    name: str
    prompts: int
    pictures: int
    """Of one method, at most."""
    means: tuple[tuple[str, Interval], ...]
    """Of each method."""

    @property
    def told(self) -> str:
        """How much stands behind the bars."""
        return f"{count(self.prompts, 'prompt')}, {count(self.pictures, 'picture')} a method"


@dataclass(frozen=True)
class Other:
    """One score of every method."""

    score: str
    unit: Unit
    cells: tuple[tuple[Interval, Comparison | None] | None, ...]
    """One a method; `None` where nothing was judged."""


@dataclass(frozen=True)
class Summary:
    """All numbers of one model."""

    model: str
    score: str
    yes_no: bool
    unit: Unit
    rows: tuple[MethodRow, ...]
    categories: tuple[Category, ...]
    scores: tuple[Other, ...]
    """The one that the report is about among them."""
    distance: str | None
    """Name of the distance to the unmodified picture."""
    comparisons: int
    """How many tests the p-values are adjusted for."""

    @property
    def leader(self) -> MethodRow | None:
        """The method with the largest gain of those with at least half as many pictures as any other.

        `None` if nothing can be compared. A handful of pictures may show any gain: it must not head the page.
        """
        enough = max((row.pictures for row in self.rows if row.compared), default=0) / 2
        compared = [row for row in self.rows if row.compared and row.pictures >= enough]
        return max(compared, key=lambda row: row.compared.difference.value if row.compared else 0.0, default=None)


def summarise(
    run: Run, model: str, score: str | None = None, distance: str | None = None, resamples: int = 10_000
) -> Summary:
    """All numbers of one model. Raises `AttnregError` if no such score was judged.

    Holm's adjustment is over all scores (distances apart) and methods at once: it is the page as a whole that is read.
    """
    records = run.of(model)
    score = headline(records, score)
    distance = distance_of(records, distance)
    methods = run.methods(model)
    by_method = {method: [record for record in records if record.method == method] for method in methods}
    baseline = by_method.get(UNMODIFIED, [])
    compared = _compared(records, methods, resamples)
    rows = []
    for method in methods:
        drawn = by_method[method]
        judged = [record for record in drawn if score in record.scores]
        if not judged:
            continue
        rows.append(
            MethodRow(
                method=method,
                pictures=len(judged),
                prompts=len({record.prompt for record in judged}),
                mean=mean_of(judged, score, resamples),
                compared=compared.get((score, method)),
                seconds=fmean(timed) if (timed := [r.seconds for r in drawn if r.seconds > 0]) else None,
                extra=None if method == UNMODIFIED else extra_time(drawn, baseline, resamples),
                distance=_distance(drawn, method, distance, resamples),
                peak_bytes=max((record.peak_bytes for record in drawn if record.peak_bytes is not None), default=None),
                passes=fmean(counted) if (counted := [r.passes for r in drawn if r.passes is not None]) else None,
            )
        )
    others = []
    for name in scores_of(records):
        means = {
            row.method: mean_of(by_method[row.method], name, resamples)
            for row in rows
            if any(name in record.scores for record in by_method[row.method])
        }
        unit = unit_for([mean.value for mean in means.values()], is_yes_no(records, name))
        cells = [(means[row.method], compared.get((name, row.method))) if row.method in means else None for row in rows]
        others.append(Other(name, unit, tuple(cells)))
    return Summary(
        model=model,
        score=score,
        yes_no=is_yes_no(records, score),
        unit=next(other.unit for other in others if other.score == score),
        rows=tuple(rows),
        categories=_categories(records, [row.method for row in rows], score, resamples),
        scores=tuple(others),
        distance=distance,
        comparisons=len(compared),
    )


def _compared(records: Sequence[Record], methods: Sequence[str], resamples: int) -> dict[tuple[str, str], Comparison]:
    """Score and method -> the comparison with the unmodified model, where both were judged on the same pictures."""
    made = {}
    for name in scores_of(records):
        judged = {m: {(r.prompt, r.seed) for r in records if r.method == m and name in r.scores} for m in methods}
        for method in methods:
            if method != UNMODIFIED and judged[method] & judged.get(UNMODIFIED, set()):
                made[name, method] = compare(line_up(records, UNMODIFIED, method, name), resamples=resamples)
    adjusted = holm([one.p for one in made.values()])
    return {key: replace(one, p_holm=p) for (key, one), p in zip(made.items(), adjusted, strict=True)}


def mean_of(records: Sequence[Record], score: str, resamples: int) -> Interval:
    """The mean over prompts of the mean over seeds, of the records that have the score."""
    judged = [record for record in records if score in record.scores]
    means = per_prompt([record.prompt for record in judged], [record.scores[score] for record in judged])
    (interval,) = bootstrap(means[:, None], resamples=resamples)
    return interval


def adjusted(compared: Comparison) -> float:
    """The p-value after Holm's correction; as it is where it stands alone."""
    return compared.p if compared.p_holm is None else compared.p_holm


def beyond_chance(compared: Comparison) -> bool:
    """Whether the adjusted p-value is below 0.05."""
    return adjusted(compared) < 0.05


def verdict(compared: Comparison) -> str:
    """In a word: "better", "worse", or "unclear"."""
    if not beyond_chance(compared):
        return "unclear"
    return "better" if compared.difference.value > 0 else "worse"


def _distance(records: Sequence[Record], method: str, distance: str | None, resamples: int) -> Interval | None:
    if distance is None or method == UNMODIFIED:
        return None
    judged = [record for record in records if distance in record.scores]
    return mean_of(judged, distance, resamples) if judged else None


def _categories(records: Sequence[Record], methods: Sequence[str], score: str, resamples: int) -> tuple[Category, ...]:
    made = []
    for name in dict.fromkeys(record.category for record in records):
        inside = [record for record in records if record.category == name and score in record.scores]
        of_method = {method: [record for record in inside if record.method == method] for method in methods}
        means = [(method, mean_of(drawn, score, resamples)) for method, drawn in of_method.items() if drawn]
        if means:
            made.append(
                Category(
                    name or "no category",
                    len({record.prompt for record in inside}),
                    max(len(drawn) for drawn in of_method.values()),
                    tuple(means),
                )
            )
    return tuple(made)


def result_of(summary: Summary) -> str:
    """What the numbers say, in one sentence: the largest gain, if it is beyond chance, and at what cost."""
    leader, unit = summary.leader, summary.unit
    if leader is None or leader.compared is None:
        told = "; ".join(f"{unit.value(row.mean.value)} with {row.method}" for row in summary.rows)
        return f"{summary.score} is {told}. Nothing can be compared: the run has no pictures of the unmodified model."
    best = leader.compared
    points = f" {unit.of_difference}" if unit.of_difference else ""
    interval = f"95\N{NO-BREAK SPACE}% interval {unit.signed_interval(best.difference.low, best.difference.high)}"
    worse = [
        row.method
        for row in summary.rows
        if row.compared and beyond_chance(row.compared) and row.compared.difference.value < 0
    ]
    if beyond_chance(best) and best.difference.value > 0:
        cost = ""
        if leader.extra:
            change = f"{abs(leader.extra.value):.0%}".replace("%", "\N{NO-BREAK SPACE}%")
            cost = f", for {change} {'more' if leader.extra.value >= 0 else 'less'} time"
        first = (
            f"With {leader.method}, {summary.score} is {unit.value(leader.mean.value)}: "
            f"{unit.difference(best.difference.value)}{points} over the unmodified model ({interval}){cost}"
        )
    else:
        first = (
            f"No method is better than the unmodified model beyond chance: the largest difference in {summary.score} "
            f"is {unit.difference(best.difference.value)}{points}, of {leader.method} ({interval})"
        )
    return f"{first}; beyond chance worse than unmodified: {listed(worse)}." if worse else first + "."
