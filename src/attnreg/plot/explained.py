"""One figure of what a picture attended to: beside each picture its words' maps at some steps, and their shares.

It is wide, for a page or a slide; `plot.tall` draws the same for a narrow column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont, ImageOps

from attnreg.plot.curves import COLOURS, Curves, draw_curves
from attnreg.plot.heat import heat, heat_alone, heat_of
from attnreg.plot.sheets import INK, finished, new_paper, wrapped

ALARM = (210, 72, 26)
MARGIN, GAP, LINE = 24, 10, 24
SIDE, PICTURE, LABEL, CHART = 128, 280, 168, 330
"""Pixels: of a map, of the picture, of a word's label, of the curves."""
SHOWN = 5
"""Maps a word, evenly from the first step to the last."""


@dataclass(frozen=True)
class Panel:
    """One picture, or one way to look at it."""

    heading: str
    picture: Image.Image | None
    words: tuple[str, ...]
    steps: tuple[int, ...]
    """At which there are maps, counted from 0."""
    total: int
    """How many steps there are in all."""
    maps: Float[np.ndarray, "step target height width"]
    """Attention probabilities."""
    notes: tuple[str, ...] = ()
    """What is said of each word, below it."""
    alarms: tuple[bool, ...] = ()
    """Whether that is a warning, a word."""


def chosen(steps: Sequence[int], count: int = SHOWN) -> list[int]:
    """The places of so many steps, evenly from the first to the last."""
    return list(dict.fromkeys(round(i) for i in np.linspace(0, len(steps) - 1, min(count, len(steps))).tolist()))


def figure(panels: Sequence[Panel], title: str = "", footer: str = "") -> Image.Image:
    """The panels one below the other, on a transparent ground.

    Args:
        panels: all of the same words.
        title: over all.
        footer: below all, wrapped at words.

    Returns:
        An RGBA picture. A word has one scale of colours in all panels, from nothing to the most that it gets anywhere.
    """
    fonts = new_fonts()
    has_picture = any(panel.picture is not None for panel in panels)
    columns = max(len(chosen(panel.steps)) for panel in panels)
    left = MARGIN + (PICTURE + MARGIN if has_picture else 0)
    charts = left + LABEL + columns * (SIDE + GAP) + MARGIN
    width = charts + CHART + MARGIN
    titles, foot = wrapped(title, fonts.title, width - 2 * MARGIN), wrapped(footer, fonts.small, width - 2 * MARGIN)
    heights = [_height(panel, fonts, width) for panel in panels]
    top = MARGIN + 34 * len(titles) + (12 if titles else 0)
    paper = new_paper(width, top + sum(heights) + 30 + LINE * len(foot) + MARGIN)
    pen = ImageDraw.Draw(paper)
    for i, line in enumerate(titles):
        pen.text((MARGIN, MARGIN + 34 * i), line, INK, fonts.title)
    hottest, highest = scales(panels)
    for panel, height in zip(panels, heights, strict=True):
        _draw_panel(paper, pen, panel, (top, left, charts), fonts, hottest, highest)
        top += height
    draw_scale(paper, pen, left + LABEL, top, columns * (SIDE + GAP) - GAP, fonts)
    for i, line in enumerate(foot):
        pen.text((MARGIN, top + 34 + LINE * i), line, INK, fonts.small)
    return finished(paper)


class Fonts(NamedTuple):
    """Three sizes of one."""

    small: ImageFont.FreeTypeFont | ImageFont.ImageFont
    large: ImageFont.FreeTypeFont | ImageFont.ImageFont
    title: ImageFont.FreeTypeFont | ImageFont.ImageFont


def scales(panels: Sequence[Panel], count: int = SHOWN) -> tuple[list[float], float]:
    """The most attention that each word gets in any of so many maps that are shown, and the most in the curves."""
    hottest = [
        max(float(panel.maps[chosen(panel.steps, count), word].max()) for panel in panels)
        for word in range(len(panels[0].words))
    ]
    return hottest, max(float(panel.maps.mean((2, 3)).max()) for panel in panels)


def new_fonts(sizes: tuple[int, int, int] = (17, 20, 26)) -> Fonts:
    """Pillow's own."""
    return Fonts(*map(ImageFont.load_default, sizes))


def _heading(panel: Panel, fonts: Fonts, width: int) -> list[str]:
    return wrapped(panel.heading, fonts.large, width - 2 * MARGIN)


def _height(panel: Panel, fonts: Fonts, width: int) -> int:
    rows = LINE + len(panel.words) * (SIDE + GAP)
    inner = max(rows, PICTURE + LINE if panel.picture is not None else 0, 200)
    return 28 * len(_heading(panel, fonts, width)) + 6 + inner + MARGIN


def _draw_panel(
    paper: Image.Image,
    pen: ImageDraw.ImageDraw,
    panel: Panel,
    place: tuple[int, int, int],
    fonts: Fonts,
    hottest: Sequence[float],
    highest: float,
) -> None:
    """place: its top, and where the words and the curves begin from the left."""
    top, left, charts = place
    for line in _heading(panel, fonts, paper.width):
        pen.text((MARGIN, top), line, INK, fonts.large)
        top += 28
    top += 6
    if panel.picture is not None:
        shown = ImageOps.contain(panel.picture.convert("RGB"), (PICTURE, PICTURE), Image.Resampling.BICUBIC)
        paper.paste(shown, (MARGIN, top + LINE))
    at = chosen(panel.steps)
    for column, step in enumerate(at):
        name = f"step {panel.steps[step] + 1}" + (f" of {panel.total}" if column == len(at) - 1 else "")
        pen.text((left + LABEL + column * (SIDE + GAP), top), name, INK, fonts.small)
    for row, word in enumerate(panel.words):
        y = top + LINE + row * (SIDE + GAP)
        pen.rectangle((left, y + 6, left + 12, y + 18), COLOURS[row % len(COLOURS)])
        lines = wrapped(word, fonts.large, LABEL - 34)
        for i, line in enumerate(lines):
            pen.text((left + 20, y + 26 * i), line, INK, fonts.large)
        if panel.notes:
            ink = ALARM if panel.alarms and panel.alarms[row] else INK
            for i, line in enumerate(wrapped(panel.notes[row], fonts.small, LABEL - 30)):
                pen.text((left + 20, y + 26 * len(lines) + 4 + 22 * i), line, ink, fonts.small)
        for column, step in enumerate(at):
            paper.paste(
                tile(panel.picture, panel.maps[step, row], hottest[row]), (left + LABEL + column * (SIDE + GAP), y)
            )
    box = charts, top, charts + CHART, top + LINE + max(190, len(panel.words) * (SIDE + GAP) - GAP)
    curves = Curves(panel.words, panel.steps, panel.total, panel.maps.mean((2, 3)), highest)
    draw_curves(pen, curves, box, fonts.small)


def tile(picture: Image.Image | None, attention: Float[np.ndarray, "height width"], hottest: float) -> Image.Image:
    """One map, over the picture if there is one, in a square."""
    rows = attention.tolist()
    if picture is not None:
        small = ImageOps.contain(picture.convert("RGB"), (SIDE, SIDE), Image.Resampling.BICUBIC)
        made = heat(small, rows, hottest)
    else:
        scale = SIDE / max(attention.shape)
        made = heat_alone(rows, hottest, (round(attention.shape[1] * scale), round(attention.shape[0] * scale)))
    tile = new_paper(SIDE, SIDE)
    tile.paste(made, ((SIDE - made.width) // 2, (SIDE - made.height) // 2))
    return tile


def draw_scale(
    paper: Image.Image, pen: ImageDraw.ImageDraw, x: int, y: int, width: int, fonts: Fonts, where: str = "anywhere"
) -> None:
    """What the colours mean; where: in which maps they are yellow at the most attention that a word gets."""
    for i in range(120):
        pen.line((x + i, y + 4, x + i, y + 18), tuple(heat_of(i / 119)))
    text = f"attention: none to the most that the word gets {where}"
    for i, line in enumerate(wrapped(text, fonts.small, width - 132)):
        pen.text((x + 132, y + LINE * i), line, INK, fonts.small)
