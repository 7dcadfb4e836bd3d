"""Fidelity against passes as one picture: a point a method with its interval, the best of N joined by a line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from attnreg.plot.curves import COLOURS, GRID

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 900, 560, 70, 190, 60, 60
INK = (40, 44, 52)


class Point(NamedTuple):
    """A method: passes a picture, the share of pictures that show every thing, and its interval."""

    name: str
    passes: float
    value: float
    low: float
    high: float


def plot(points: Sequence[Point], title: str) -> Image.Image:
    """Draw them; passes on a scale of powers of two, shares from 0 to 100 %."""
    paper = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen, font = ImageDraw.Draw(paper), ImageFont.load_default(15)
    pen.text((LEFT, 18), title, INK, ImageFont.load_default(18))
    first = math.floor(math.log2(min(point.passes for point in points)))
    last = max(first + 1, math.ceil(math.log2(max(point.passes for point in points))))

    def at(passes: float, share: float) -> tuple[float, float]:
        across = (math.log2(passes) - first) / (last - first)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    for share in range(0, 101, 20):
        _, y = at(2.0**first, share / 100)
        pen.line((LEFT, y, WIDTH - RIGHT, y), GRID)
        pen.text((LEFT - 8, y), f"{share} %", INK, font, anchor="rm")
    for power in range(first, last + 1):
        x, y = at(2.0**power, 0)
        pen.line((x, TOP, x, y), GRID)
        pen.text((x, y + 10), f"{2**power}", INK, font, anchor="ma")
    pen.text(
        (LEFT, HEIGHT - 22), "forward passes a picture (a backward pass counts two); bars: 95 % intervals", INK, font
    )
    joined = sorted((point for point in points if _is_best_of(point.name)), key=lambda point: point.passes)
    pen.line([at(point.passes, point.value) for point in joined], COLOURS[4], 2)
    others = [point.name for point in points if not _is_best_of(point.name)]
    taken: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda point: -point.value):
        colour = COLOURS[4] if _is_best_of(point.name) else COLOURS[others.index(point.name) % 4]
        x, y = at(point.passes, point.value)
        ends = [at(point.passes, min(1.0, max(0.0, share)))[1] for share in (point.low, point.high)]
        pen.line((x, ends[0], x, ends[1]), colour, 2)
        pen.circle((x, y), 5, colour)
        written = y + 16  # below the line that may leave the point
        while any(abs(x - other) < 150 and abs(written - beneath) < 18 for other, beneath in taken):
            written += 6
        taken.append((x, written))
        pen.text((x + 10, written), point.name, colour, font, anchor="lm")
    return paper


def _is_best_of(name: str) -> bool:
    return name == "none" or name.startswith("best of")
