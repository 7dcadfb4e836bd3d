"""What a picture attended to, as a figure for a narrow column: the same as `plot.explained`, one part below the other.

The picture itself is left out: it stands beside such a figure.
"""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from attnreg.plot.curves import COLOURS, Curves, draw_curves
from attnreg.plot.explained import (
    ALARM,
    GAP,
    LINE,
    MARGIN,
    SIDE,
    Fonts,
    Panel,
    chosen,
    draw_scale,
    new_fonts,
    scales,
    tile,
)
from attnreg.plot.sheets import INK, finished, new_paper

SHOWN = 4
"""Maps a word: few, and letters as large as this, can be read on a telephone."""
LETTERS = (20, 22, 26)
WIDTH = 2 * MARGIN + SHOWN * SIDE + (SHOWN - 1) * GAP
CURVES = 230
"""Height of the curves."""
ROW = 32 + SIDE + 14
"""Height of a word: its name, its maps, the space below."""


def tall_figure(panels: Sequence[Panel], others: Sequence[Panel] = ()) -> Image.Image:
    """The panels one below the other, as wide as a few maps, on a transparent ground.

    Args:
        panels: all of the same words; their pictures lie beneath the maps.
        others: of the same words, in another figure that stands beside this one and shares its scales.

    Returns:
        An RGBA picture. A word has one scale of colours in all panels, from nothing to the most that it gets anywhere.
    """
    fonts = new_fonts(LETTERS)
    hottest, highest = scales([*panels, *others], SHOWN)
    heights = [_height(panel) for panel in panels]
    paper = new_paper(WIDTH, MARGIN + sum(heights) + 2 * LINE + MARGIN)
    pen = ImageDraw.Draw(paper)
    top = MARGIN
    for panel, height in zip(panels, heights, strict=True):
        _draw(paper, pen, panel, top, fonts, hottest, highest)
        top += height
    where = "in either picture" if others else "anywhere"
    draw_scale(paper, pen, MARGIN, top, WIDTH - 2 * MARGIN, fonts, where)
    return finished(paper)


def _height(panel: Panel) -> int:
    return (34 if panel.heading else 0) + LINE + len(panel.words) * ROW + CURVES + MARGIN


def _draw(
    paper: Image.Image,
    pen: ImageDraw.ImageDraw,
    panel: Panel,
    top: int,
    fonts: Fonts,
    hottest: Sequence[float],
    highest: float,
) -> None:
    if panel.heading:
        pen.text((MARGIN, top), panel.heading, INK, fonts.large)
        top += 34
    at = chosen(panel.steps, SHOWN)
    for column, step in enumerate(at):
        name = f"step {panel.steps[step] + 1}" + (f"/{panel.total}" if column == len(at) - 1 else "")
        pen.text((MARGIN + column * (SIDE + GAP), top), name, INK, fonts.small)
    top += LINE
    for row, word in enumerate(panel.words):
        pen.rectangle((MARGIN, top + 8, MARGIN + 12, top + 20), COLOURS[row % len(COLOURS)])
        pen.text((MARGIN + 20, top), word, INK, fonts.large)
        if panel.notes:
            ink = ALARM if panel.alarms and panel.alarms[row] else INK
            pen.text((WIDTH - MARGIN, top + 2), panel.notes[row], ink, fonts.small, anchor="ra")
        for column, step in enumerate(at):
            one = tile(panel.picture, panel.maps[step, row], hottest[row])
            paper.paste(one, (MARGIN + column * (SIDE + GAP), top + 32))
        top += ROW
    curves = Curves(panel.words, panel.steps, panel.total, panel.maps.mean((2, 3)), highest)
    draw_curves(pen, curves, (MARGIN, top, WIDTH - MARGIN, top + CURVES), fonts.small)
