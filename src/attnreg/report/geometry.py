"""Where things lie in a scatter plot with interval bars: axes, marks and labels that do not cover one another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

LETTER = 6.7
"""Mean width of a letter of a label, in pixels; labels are set in 12 px."""
LINE = 15.0
"""Height of a line of a label, in pixels."""


class Point(NamedTuple):
    """One method: its interval on both axes, in the units of the axes."""

    name: str
    x: tuple[float, float, float]
    """Low, middle, high."""
    y: tuple[float, float, float]
    label: str = ""
    """What stands beside its mark, if not the name."""


class Rectangle(NamedTuple):
    """A rectangle in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Rectangle) -> float:
        """The area that two rectangles share."""
        across = min(self.right, other.right) - max(self.left, other.left)
        down = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(across, 0.0) * max(down, 0.0)


@dataclass(frozen=True)
class Axis:
    """One axis: the pixels of its ends, the values there, and where its ticks are."""

    start: float
    end: float
    low: float
    high: float
    ticks: tuple[float, ...]
    bend: float = math.inf
    """Values well below it lie evenly, those well above by their logarithm."""

    def at(self, value: float) -> float:
        """The pixel of a value."""
        low, high, here = (_bent(one, self.bend) for one in (self.low, self.high, value))
        return self.start + (here - low) / (high - low) * (self.end - self.start)


def _bent(value: float, bend: float) -> float:
    return value if math.isinf(bend) else math.asinh(value / bend)


@dataclass(frozen=True)
class Mark:
    """A point as it is drawn: interval bars in pixels, and the lines of its label from a first baseline on."""

    name: str
    x: tuple[float, float, float]
    y: tuple[float, float, float]
    label: tuple[str, ...]
    """Lines."""
    label_x: float
    label_y: float
    anchor: str


@dataclass(frozen=True)
class Scatter:
    """A whole plot, in pixels."""

    width: float
    height: float
    horizontal: Axis
    vertical: Axis
    marks: tuple[Mark, ...]


def ticks(low: float, high: float, about: int = 5) -> tuple[float, ...]:
    """Round numbers (1, 2 or 5 times a power of ten apart), the outer ones at or beyond the ends."""
    if not high > low:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(nice for nice in (1, 2, 5, 10) if nice * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return tuple(round(index * step, 12) for index in range(first, last + 1))


def axis(start: float, end: float, values: Sequence[float], about: int) -> Axis:
    """An axis between two pixels that shows zero and all values, up to the next tick or a little beyond the last."""
    low, high = min(0.0, *values), max(0.0, *values)
    every = ticks(low, high, about)
    margin = 0.02 * (high - low)
    low = max(every[0], low - margin) if low < 0 else every[0]
    return Axis(start, end, low, every[-1], tuple(tick for tick in every if tick >= low))


def bent_axis(start: float, end: float, values: Sequence[float], bend: float) -> Axis:
    """An axis that shows zero and all values, even up to `bend` and logarithmic beyond it."""
    low, high = min(0.0, *values), max(bend, *values)
    steps = (1, 3) if abs(end - start) > 400 else (1,)
    sizes = [step * bend * 10.0**power for power in range(12) for step in steps]
    every = sorted([0.0, *sizes, *(-size for size in sizes)])
    return Axis(start, end, 1.1 * low, 1.1 * high, tuple(tick for tick in every if low <= tick <= 1.1 * high), bend)


def wrap(name: str, letters: int) -> tuple[str, ...]:
    """A method's name in lines: broken after a sign of punctuation where it would be longer than `letters`."""
    lines: list[str] = []
    rest = name
    while len(rest) > letters:
        breaks = [i + 1 for i, sign in enumerate(rest[:letters]) if sign in ":,_-=+ " and i > 2]
        if "(" in rest[4:letters]:
            breaks = [rest.index("(", 4)]
        cut = breaks[-1] if breaks else letters
        lines.append(rest[:cut])
        rest = rest[cut:].lstrip()
    return (*lines, rest)


def scatter(
    points: Sequence[Point], width: float, height: float, letters: int = 30, *, bend: float = math.inf
) -> Scatter:
    """Lay out a plot of `width` x `height` pixels; both axes include zero, where the unmodified model is.

    bend: from where on the horizontal axis is logarithmic; by default nowhere.
    """
    left, right, across = 46.0, width - 26.0, [end for p in points for end in p.x]
    if math.isinf(bend):
        horizontal = axis(left, right, across, 5 if width > 500 else 4)
    else:
        horizontal = bent_axis(left, right, across, bend)
    vertical = axis(height - 48.0, 28.0, [end for p in points for end in p.y], 5)
    inside = Rectangle(horizontal.start, vertical.end - 10, width, vertical.start)
    placed: list[tuple[Point, tuple[float, float, float], tuple[float, float, float]]] = [
        (p, _pixels(horizontal, p.x), _pixels(vertical, p.y)) for p in points
    ]
    taken = [box for _, x, y in placed for box in _bars(x, y)]
    marks = []
    # From the top down, so that a label gives way to those above it.
    for point, x, y in sorted(placed, key=lambda one: (one[2][1], one[1][1])):
        label = wrap(point.label or point.name, letters)
        box, label_x, anchor = min(_places(x, y, label), key=lambda place: _cost(place[0], taken, inside))
        taken.append(box)
        marks.append(Mark(point.name, x, y, label, label_x, box.top + LINE - 4, anchor))
    order = {point.name: i for i, point in enumerate(points)}
    return Scatter(width, height, horizontal, vertical, tuple(sorted(marks, key=lambda mark: order[mark.name])))


def _pixels(axis: Axis, interval: tuple[float, float, float]) -> tuple[float, float, float]:
    low, middle, high = (round(axis.at(value), 1) for value in interval)
    return low, middle, high


def _bars(x: tuple[float, float, float], y: tuple[float, float, float]) -> list[Rectangle]:
    return [
        Rectangle(x[1] - 7, y[1] - 7, x[1] + 7, y[1] + 7),
        Rectangle(x[0], y[1] - 2, x[2], y[1] + 2),
        Rectangle(x[1] - 2, y[2], x[1] + 2, y[0]),
    ]


def _places(
    x: tuple[float, float, float], y: tuple[float, float, float], label: tuple[str, ...]
) -> list[tuple[Rectangle, float, str]]:
    """Where a label may stand, best first: beside its mark, higher and lower, further off."""
    wide, tall = max(map(len, label)) * LETTER, len(label) * LINE
    found = []
    for away, shift in product((0, 14, 34), (0.0, -0.9, 0.9, -1.8, 1.8, -3.0, 3.0)):
        top = y[1] - tall / 2 + shift * (tall / 2 + 6)
        right, left = x[1] + 11 + away, x[1] - 11 - away
        found.append((Rectangle(right, top, right + wide, top + tall), right, "start"))
        found.append((Rectangle(left - wide, top, left, top + tall), left, "end"))
    return found


def _cost(box: Rectangle, taken: Sequence[Rectangle], inside: Rectangle) -> float:
    """What a place covers and how much of it hangs out of the plot, in square pixels; ties go to the first place."""
    area = (box.right - box.left) * (box.bottom - box.top)
    return sum(box.overlap(other) for other in taken) + 3 * (area - box.overlap(inside))
