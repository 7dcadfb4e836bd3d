"""Fidelity against passes as one picture: a point a method with its interval, the best of N joined by a line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise, product
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from attnreg.plot.curves import COLOURS, GRID
from attnreg.plot.sheets import INK, finished, new_paper
from attnreg.report.geometry import Rectangle

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 900, 560, 70, 40, 60, 60
LETTERS, AWAY, CLEAR, DOT = 15, 14, 4, 5
"""Pixels: of the letters, from a point to its label at least, around a label, and the radius of a point."""

Place = tuple[float, float]
Line = tuple[Place, Place]


class Point(NamedTuple):
    """A method: passes a picture, the share of pictures that show every thing, and its interval."""

    name: str
    passes: float
    value: float
    low: float
    high: float


def meets(inside: Rectangle, line: Line) -> bool:
    """Whether any part of a line lies in a rectangle (by clipping it, Liang and Barsky, 1984)."""
    (x, y), (to_x, to_y) = line
    begin, end = 0.0, 1.0
    for start, move, low, high in ((x, to_x - x, inside.left, inside.right), (y, to_y - y, inside.top, inside.bottom)):
        if move == 0:
            if not low <= start <= high:
                return False
            continue
        near, far = sorted(((low - start) / move, (high - start) / move))
        begin, end = max(begin, near), min(end, far)
    return begin <= end


class Axes:
    """Where a number of passes and a share lie: passes on a scale of powers of two, shares from 0 to 100 %."""

    def __init__(self, points: Sequence[Point]) -> None:
        self.first = math.floor(math.log2(min(point.passes for point in points)))
        self.last = max(self.first + 1, math.ceil(math.log2(max(point.passes for point in points))))

    def at(self, passes: float, share: float) -> Place:
        """Pixels from the left and from the top."""
        across = (math.log2(passes) - self.first) / (self.last - self.first)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def grid(self) -> list[Line]:
        """A line every 20 % and every doubling."""
        shares = [(self.at(2.0**self.first, part / 5), self.at(2.0**self.last, part / 5)) for part in range(6)]
        return shares + [(self.at(2.0**power, 0), self.at(2.0**power, 1)) for power in range(self.first, self.last + 1)]

    def bar(self, point: Point) -> Line:
        """Its interval."""
        low, high = (self.at(point.passes, min(1.0, max(0.0, share))) for share in (point.low, point.high))
        return low, high


def best_of(points: Sequence[Point]) -> list[Point]:
    """Those that are joined by a line: the best of N, of one as well."""
    joined = [point for point in points if point.name == "none" or point.name.startswith("best of")]
    return sorted(joined, key=lambda point: point.passes)


def lines_of(points: Sequence[Point], axes: Axes) -> list[Line]:
    """All that no label may cross: the grid, the intervals, and the line that joins the best of N."""
    joined = [axes.at(point.passes, point.value) for point in best_of(points)]
    return axes.grid() + [axes.bar(point) for point in points] + list(pairwise(joined))


def labels(points: Sequence[Point], axes: Axes) -> dict[str, Rectangle]:
    """Where each name is written: as near to its point as it crosses no line, no point and no other name.

    Where all places are taken, it is written right below its point all the same.
    """
    font, lines, taken = ImageFont.load_default(LETTERS), lines_of(points, axes), dict[str, Rectangle]()
    dots = [
        Rectangle(x - DOT, y - DOT, x + DOT, y + DOT) for x, y in (axes.at(one.passes, one.value) for one in points)
    ]
    for point in sorted(points, key=lambda point: -point.value):
        x, y = axes.at(point.passes, point.value)
        wide, high = font.getlength(point.name), LETTERS
        found = []
        for across, down in product(range(-120, 121, 4), range(-120, 121, 4)):
            # To the right of the point it begins there, to the left it ends there.
            left = x + across if across >= 0 else x + across - wide
            span = Rectangle(
                left - CLEAR, y + down - high / 2 - CLEAR, left + wide + CLEAR, y + down + high / 2 + CLEAR
            )
            inside = span.left > LEFT and span.right < WIDTH and span.top > TOP and span.bottom < HEIGHT - BOTTOM
            apart = math.hypot(across, down)
            if apart < AWAY or not inside or any(meets(span, line) for line in lines):
                continue
            if not any(span.overlap(other) for other in (*dots, *taken.values())):
                # Of two as near, the one below and to the right.
                found.append((apart, across < 0, down < 0, span))
        below = Rectangle(x + AWAY - CLEAR, y + AWAY - CLEAR, x + AWAY + wide + CLEAR, y + AWAY + high + CLEAR)
        taken[point.name] = min(found)[-1] if found else below
    return taken


def plot(points: Sequence[Point], title: str) -> Image.Image:
    """Draw them, on a transparent ground."""
    paper, axes = new_paper(WIDTH, HEIGHT), Axes(points)
    pen, font = ImageDraw.Draw(paper), ImageFont.load_default(LETTERS)
    pen.text((LEFT, 18), title, INK, ImageFont.load_default(18))
    for line in axes.grid():
        pen.line(line, GRID)
    for share in range(0, 101, 20):
        pen.text((LEFT - 8, axes.at(1.0, share / 100)[1]), f"{share} %", INK, font, anchor="rm")
    for power in range(axes.first, axes.last + 1):
        pen.text((axes.at(2.0**power, 0)[0], HEIGHT - BOTTOM + 10), f"{2**power}", INK, font, anchor="ma")
    pen.text(
        (LEFT, HEIGHT - 22),
        "forward passes per picture (a backward pass counts as two); bars: 95 % intervals",
        INK,
        font,
    )
    joined = best_of(points)
    pen.line([axes.at(point.passes, point.value) for point in joined], COLOURS[4], 2)
    others = [point.name for point in points if point not in joined]
    for point, span in ((point, labels(points, axes)[point.name]) for point in points):
        colour = COLOURS[4] if point in joined else COLOURS[others.index(point.name) % 4]
        pen.line(axes.bar(point), colour, 2)
        pen.circle(axes.at(point.passes, point.value), DOT, colour)
        pen.text((span.left + CLEAR, (span.top + span.bottom) / 2), point.name, colour, font, anchor="lm")
    return finished(paper)
