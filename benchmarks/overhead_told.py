"""What `benchmarks.overhead` measured, as a Markdown table and as one picture."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from attnreg.plot.curves import COLOURS, GRID
from attnreg.plot.sheets import INK, finished, new_paper
from benchmarks.layers import interval

if TYPE_CHECKING:
    from benchmarks.overhead import Row

LEFT, WIDTH, RIGHT, LINE, TOP = 430, 980, 40, 26, 70
"""Pixels: names, the whole width, the right margin, the height of a row, and what lies above the first."""


def ratio_and_interval(ratios: Sequence[float]) -> str:
    """The median of some rounds and where it may lie; of one round no interval is known."""
    median = f"{statistics.median(ratios) - 1:+.1%}"
    if len(ratios) < 2:
        return median
    low, high = interval(list(ratios))
    return f"{median} ({low - 1:+.1%} to {high - 1:+.1%})"


def table(rows: Sequence[Row]) -> str:
    """A line a row. Extra memory is a share of all that is held at the peak, weights included."""
    heads = [
        "denoiser", "method", "steps, share", "where", "rounds", "extra time", "extra processor time",
        "plain, s a call", "extra peak memory", "launches, plain", "beyond it",
    ]  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", f"| {' | '.join(['---'] * len(heads))} |"]
    for row in rows:
        if not row.clock:
            continue
        (plain, regulated), (before, after) = row.launches, row.peak
        cells = [
            shown(row),
            row.method,
            f"{row.steps}, {row.share:g}",
            f"{row.device}, {row.dtype}, {row.threads} threads",
            str(len(row.clock)),
            ratio_and_interval(row.clock),
            ratio_and_interval(row.processor),
            f"{statistics.median(row.plain_seconds):.2f}",
            f"{(row.held + after) / (row.held + before) - 1:+.1%}",
            f"{plain:,}",
            f"{regulated - plain:+,}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def shown(row: Row) -> str:
    """The denoiser, and whether it is all there."""
    return row.denoiser if row.whole else f"{row.denoiser}, {row.blocks} of its blocks"


def plot(rows: Sequence[Row]) -> Image.Image:
    """Time with a method by time without, a point a row with its interval, on a scale of powers of two."""
    told = [row for row in rows if row.clock]
    paper = new_paper(WIDTH, TOP + LINE * len(told) + 50)
    pen, font = ImageDraw.Draw(paper), ImageFont.load_default(14)
    pen.text((20, 18), "Time of a call, with a method / without; bars: 95 % intervals", INK, ImageFont.load_default(18))
    spans = [interval(row.clock) for row in told]
    first = min(-1, *(math.floor(math.log2(low)) for low, _ in spans)) if told else -1
    last = max(1, *(math.ceil(math.log2(high)) for _, high in spans)) if told else 1

    def at(ratio: float) -> float:
        return LEFT + (math.log2(ratio) - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    bottom = TOP + LINE * len(told)
    for power in range(first, last + 1):
        x = at(2.0**power)
        pen.line((x, TOP - 6, x, bottom), INK if power == 0 else GRID)
        pen.text((x, bottom + 8), f"{2.0**power:g}", INK, font, anchor="ma")
    methods = list(dict.fromkeys(row.method for row in told))
    for number, (row, (low, high)) in enumerate(zip(told, spans, strict=True)):
        y, colour = TOP + LINE * number + LINE // 2, COLOURS[methods.index(row.method) % len(COLOURS)]
        pen.text((LEFT - 12, y), f"{shown(row)}: {row.method}", colour, font, anchor="rm")
        pen.line((at(low), y, at(high), y), colour, 3)
        pen.circle((at(statistics.median(row.clock)), y), 5, colour)
    return finished(paper)
