"""Curves over the steps, each named where it ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from PIL import ImageDraw, ImageFont

from attnreg.plot.sheets import INK, wrapped

COLOURS = ((26, 127, 196), (213, 94, 0), (0, 140, 100), (190, 98, 150), (120, 120, 120), (150, 110, 0))
"""Colours that the colour-blind tell apart (after Okabe and Ito, 2008), each of a lightness that reads on white and on
black."""
GRID = (*INK, 70)
NAME, LEFT = 92, 52
"""Pixels for the names at the right and for the numbers at the left."""


@dataclass(frozen=True)
class Curves:
    """Each word's share of attention over the steps."""

    words: tuple[str, ...]
    steps: tuple[int, ...]
    total: int
    shares: Float[np.ndarray, "step target"]
    highest: float
    """Where the vertical axis ends, so that several plots compare."""


def draw_curves(
    pen: ImageDraw.ImageDraw,
    curves: Curves,
    box: tuple[int, int, int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """Draw into a box: left, top, right, bottom."""
    left, top, right, bottom = box
    pen.text((left, top), "share of attention", INK, font)
    low_x, high_x, low_y, high_y = left + LEFT, right - NAME, bottom - 26, top + 36
    highest = curves.highest or 1.0
    for tick in ticks(highest):
        y = low_y + (high_y - low_y) * tick / highest
        pen.line((low_x, y, high_x, y), GRID)
        pen.text((low_x - 8, y), f"{100 * tick:g} %", INK, font, anchor="rm")
    pen.text((low_x, bottom - 22), "step 1", INK, font)
    pen.text((high_x, bottom - 22), f"{curves.total}", INK, font, anchor="ra")

    def at(step: int, share: float) -> tuple[float, float]:
        across = step / max(curves.total - 1, 1)
        return low_x + (high_x - low_x) * across, low_y + (high_y - low_y) * share / highest

    ends: list[tuple[float, int]] = []
    for word in range(len(curves.words)):
        colour = COLOURS[word % len(COLOURS)]
        points = [at(step, float(share)) for step, share in zip(curves.steps, curves.shares[:, word], strict=True)]
        if len(points) > 1:
            pen.line(points, colour, 3, joint="curve")
        else:
            pen.circle(points[0], 3, colour)
        ends.append((points[-1][1], word))
    beneath = float("-inf")
    for y, word in sorted(ends):
        beneath = max(y, beneath + 20)
        name = curves.words[word]
        short = name if font.getlength(name) <= NAME - 8 else wrapped(name, font, NAME)[-1]
        pen.text((high_x + 8, beneath), short, COLOURS[word % len(COLOURS)], font, anchor="lm")


def ticks(highest: float) -> list[float]:
    """Three to six round numbers from 0 up to the highest."""
    power = 10.0 ** np.floor(np.log10(highest))
    step = next(one * power for one in (0.1, 0.2, 0.5, 1, 2, 5) if highest / (one * power) <= 5)
    return [float(f"{number * step:.6g}") for number in range(int(highest / step) + 1)]
