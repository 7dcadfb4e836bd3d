"""Sheets of pictures under labels.

The ground of all that is drawn here is transparent, and the ink is of a middle lightness, so that one file can be read
on a light page and on a dark one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain

from PIL import Image, ImageDraw, ImageFont, ImageOps

INK = (115, 119, 128)
"""4.5 to 1 against white, and against black."""
PAPER = (255, 255, 255, 0)
"""Transparent; white in whatever drops the transparency."""
MARGIN, LINE, TITLE_LINE = 14, 20, 26

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def sheet(
    rows: Sequence[Sequence[Image.Image]],
    columns: Sequence[str] = (),
    labels: Sequence[str] = (),
    title: str = "",
    captions: Sequence[Sequence[str]] = (),
    side: int = 256,
) -> Image.Image:
    """Pictures in rows and columns: a title over all, column names above, row labels at the left, captions below each.

    A row without captions, be it an empty list, stands close above the next. Pictures are scaled so that the largest
    has a longer side of `side` pixels; smaller ones fill a place of that size as far as their shape allows. Text is
    wrapped at words. The ground is transparent.
    """
    small, large = ImageFont.load_default(15), ImageFont.load_default(19)
    pictures = list(chain.from_iterable(rows))
    scale = side / max(max(picture.size) for picture in pictures)
    width = round(max(picture.width for picture in pictures) * scale)
    height = round(max(picture.height for picture in pictures) * scale)
    left = MARGIN + (round(max(small.getlength(label) for label in labels)) + MARGIN if labels else 0)
    total = left + max(map(len, rows)) * (width + MARGIN)
    heading = wrapped(title, large, total - 2 * MARGIN)
    names = [wrapped(name, small, width) for name in columns]
    below = [[wrapped(text, small, width) for text in row] for row in captions]
    top = MARGIN + TITLE_LINE * len(heading) + LINE * max(map(len, names), default=0) + (8 if columns else 0)
    pitches = [height + MARGIN + LINE * max(map(len, row), default=0) for row in below]
    pitches += [height + MARGIN] * (len(rows) - len(below))
    tops = list(accumulate(pitches[: len(rows)], initial=top))
    paper = new_paper(total, tops[-1])
    pen = ImageDraw.Draw(paper)
    _write(pen, heading, MARGIN, MARGIN, large, TITLE_LINE)
    for x, name in enumerate(names):
        _write(pen, name, left + x * (width + MARGIN), top - 8 - LINE * len(name), small)
    for y, row in enumerate(rows):
        if y < len(labels):
            _write(pen, [labels[y]], MARGIN, tops[y] + height // 2 - 9, small)
        for x, picture in enumerate(row):
            corner = left + x * (width + MARGIN), tops[y]
            # Smoothly: blocks of single pixels would look like a fault of the model.
            shown = ImageOps.contain(picture.convert("RGBA"), (width, height), Image.Resampling.BICUBIC)
            room = width - shown.width, height - shown.height
            paper.paste(shown, (corner[0] + room[0] // 2, corner[1] + room[1] // 2))
            if y < len(below) and x < len(below[y]):
                _write(pen, below[y][x], corner[0], corner[1] + height + 2, small)
    return finished(paper)


def new_paper(width: int, height: int) -> Image.Image:
    """A transparent ground to draw on, in the colour of the ink: so letters have no rim of another colour."""
    return Image.new("RGBA", (width, height), (*INK, 0))


def finished(paper: Image.Image) -> Image.Image:
    """What was drawn on a `new_paper`, as a picture: `PAPER` where nothing is."""
    done = Image.new("RGBA", paper.size, PAPER)
    done.paste(paper, mask=paper.getchannel("A").point(lambda level: 255 if level else 0))
    return done


def wrapped(text: str, font: Font, width: float) -> list[str]:
    """The text in lines no wider than `width` pixels, broken between words; a longer word keeps a line of its own."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _write(pen: ImageDraw.ImageDraw, lines: list[str], x: int, y: int, font: Font, pitch: int = LINE) -> None:
    for i, line in enumerate(lines):
        pen.text((x, y + pitch * i), line, INK, font)
