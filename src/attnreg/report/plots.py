"""The two pictures that matter, fidelity against cost and against distance, and the scales of the small ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attnreg.records import UNMODIFIED
from attnreg.report.geometry import Point, scatter
from attnreg.report.summary import Summary
from attnreg.report.wording import plain
from attnreg.statistics import Interval

BEND = 10.0
"""Per cent of extra time up to which the scale is even, where methods differ much."""
MUCH = 20
"""So many times that, in the dearest method, is much."""


@dataclass(frozen=True)
class Scale:
    """Values to per cent of a width."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """Where a value lies, 0 to 100."""
        return round(100 * (value - self.low) / (self.high - self.low), 2) if self.high > self.low else 50.0

    def left(self, value: float) -> float:
        """Where a bar from zero to a value begins."""
        return min(self.at(0), self.at(value))

    def length(self, value: float) -> float:
        """How long that bar is."""
        return round(abs(self.at(value) - self.at(0)), 2)


def scale_over(intervals: Sequence[Interval]) -> Scale:
    """The scale that shows zero and all of the intervals."""
    drawn = [end for one in intervals for end in ends(one)]
    return Scale(min(0.0, *drawn, 0.0), max(0.0, *drawn, 0.0))


def plots_of(summary: Summary, short: Mapping[str, str]) -> list[dict[str, Any]]:
    """Fidelity against cost and against distance, as `drawing.html.jinja` shows them.

    short: of the methods whose name is too much for a plot, what stands beside their marks.
    """
    rows = summary.rows
    unit, plots = summary.unit, []
    base = next((row for row in rows if row.method == UNMODIFIED), None)
    at_none = f" ({unit.value(base.mean.value)})" if base else ""
    for kind, title, x_name, caption in (
        ("extra", "Fidelity against cost", "extra time", "Gain over none against the extra time of a picture."),
        ("distance", "Fidelity against distance", f"distance to the unmodified picture ({summary.distance})",
         "Gain over none against the distance to the unmodified picture."),
    ):  # fmt: skip
        points = []
        for row in rows:
            x = row.extra if kind == "extra" else row.distance
            if x and row.compared:
                factor, y = unit.factor, row.compared.difference
                along = 100.0 if kind == "extra" else 1.0
                points.append(Point(row.method, _scaled(x, along), _scaled(y, factor), short.get(row.method, "")))
        if not points:
            continue
        told = "; ".join(
            f"{p.name}: {plain(p.y[1], unit.decimals)} at {plain(p.x[1], 0 if kind == 'extra' else 3)}" for p in points
        )
        # Some methods cost a few per cent and others twenty times: on an even scale the cheap ones lie on one spot.
        bend = BEND if kind == "extra" and max(p.x[1] for p in points) > MUCH * BEND else math.inf
        nothing = (0.0, 0.0, 0.0)
        everyone = [*points, Point(UNMODIFIED, nothing, nothing, short.get(UNMODIFIED, ""))]
        plots.append(
            {
                "title": title,
                "caption": caption if math.isinf(bend) else f"{caption} Logarithmic beyond {bend:g} %.",
                "large": scatter(everyone, 520, 400, 30, bend=bend),
                "small": scatter(everyone, 340, 380, 22, bend=bend),
                "label": f"{title}. Difference to none{at_none} and {x_name}. {told}",
                "x_name": x_name if kind == "extra" else "distance",
                "y_name": f"{summary.score} over none{', ' + unit.of_difference if unit.of_difference else ''}",
                "x_text": _percent_tick if kind == "extra" else "{:g}".format,
                "y_text": _signed_tick,
            }
        )
    return plots


def _scaled(interval: Interval, factor: float) -> tuple[float, float, float]:
    low, high = ends(interval)
    return low * factor, interval.value * factor, high * factor


def ends(interval: Interval) -> tuple[float, float]:
    """Where an interval's bar is drawn to; of a single prompt, whose interval is everything, no bar is."""
    known = math.isfinite(interval.low) and math.isfinite(interval.high)
    return (interval.low, interval.high) if known else (interval.value, interval.value)


def _percent_tick(value: float) -> str:
    return _signed_tick(value) + "\N{NO-BREAK SPACE}%"


def _signed_tick(value: float) -> str:
    return f"{value:+g}".replace("-", "\N{MINUS SIGN}") if value else "0"
