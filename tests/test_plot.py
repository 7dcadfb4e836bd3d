"""The sheet: where its pictures and words come to lie."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from attnreg.plot.curves import COLOURS
from attnreg.plot.explained import ALARM
from attnreg.plot.sheets import INK, LINE, MARGIN, PAPER, sheet

RED, GREEN, BLUE, GRAY = (200, 20, 20), (20, 200, 20), (20, 20, 200), (120, 120, 120)


def plain(colour: tuple[int, int, int], width: int = 64, height: int = 64) -> Image.Image:
    return Image.new("RGB", (width, height), colour)


def box_of(paper: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, width and height of what has exactly this colour; it must be a full rectangle."""
    ys, xs = np.nonzero((np.asarray(paper) == (*colour, 255)).all(-1))
    left, top, width, height = xs.min(), ys.min(), int(np.ptp(xs)) + 1, int(np.ptp(ys)) + 1
    assert len(xs) == width * height
    return int(left), int(top), width, height


def ink(paper: Image.Image, left: int = 0, top: int = 0, right: int | None = None, bottom: int | None = None) -> int:
    """How many points of a part of the sheet are not paper."""
    part = np.asarray(paper)[top:bottom, left:right]
    return int((part != PAPER).any(-1).sum())


def test_one_picture_alone() -> None:
    paper = sheet([[plain(RED)]], side=100)
    assert paper.size == (100 + 2 * MARGIN, 100 + 2 * MARGIN)
    assert box_of(paper, RED) == (MARGIN, MARGIN, 100, 100)
    assert ink(paper) == 100 * 100


def test_rows_and_columns_stand_in_line() -> None:
    colours = [[RED, GREEN], [BLUE, GRAY]]
    rows = [[plain(colour) for colour in row] for row in colours]
    paper = sheet(rows, ["unmodified", "regulated"], ["seed 0", "seed 12"], title="a cat and a dog", side=80)
    boxes = [[box_of(paper, colour) for colour in row] for row in colours]
    assert {box[2:] for row in boxes for box in row} == {(80, 80)}
    (first, second), (third, fourth) = boxes
    assert first[0] == third[0]
    assert second[0] == fourth[0] == first[0] + 80 + MARGIN
    assert first[1] == second[1]
    assert third[1] == fourth[1] == first[1] + 80 + MARGIN
    assert paper.size == (second[0] + 80 + MARGIN, third[1] + 80 + MARGIN)
    left, top = first[:2]
    assert ink(paper, 0, top, left, top + 80), "the first row's label"
    assert ink(paper, 0, third[1], left, third[1] + 80), "the second row's label"
    assert ink(paper, left, MARGIN + 26, left + 80, top), "the first column's name"
    assert ink(paper, second[0], MARGIN + 26, second[0] + 80, top), "the second column's name"
    assert ink(paper, 0, 0, None, MARGIN + 26), "the title"
    assert ink(paper, left + 80, top, second[0], None) == 0, "nothing between the pictures"


def test_longer_side_and_shape_are_kept() -> None:
    assert box_of(sheet([[plain(RED, 96, 64)]], side=150), RED)[2:] == (150, 100)
    assert box_of(sheet([[plain(RED, 64, 96)]], side=150), RED)[2:] == (100, 150)


def test_rows_of_different_length() -> None:
    paper = sheet([[plain(RED), plain(GREEN)], [plain(BLUE)]], side=40)
    assert box_of(paper, BLUE)[0] == box_of(paper, RED)[0]
    assert paper.size == (2 * 40 + 3 * MARGIN, 2 * 40 + 3 * MARGIN)


@pytest.mark.parametrize("words", [1, 12, 40])
def test_a_title_wraps_and_moves_the_pictures_down(words: int) -> None:
    """However long, it stays within the margins and above the pictures."""
    paper = sheet([[plain(RED)]], title=" ".join(["balloon"] * words), side=128)
    _, top, *_ = box_of(paper, RED)
    lines = (top - MARGIN) // 26
    assert (lines == 1) if words == 1 else (lines >= words / 2)
    assert ink(paper, 0, 0, MARGIN - 1) == 0
    assert ink(paper, paper.width - MARGIN + 1) == 0
    assert ink(paper, 0, top - 26, None, top), "the last line is written too"


def test_column_names_wrap_and_titles_take_any_text() -> None:
    short = sheet([[plain(RED)]], ["none"], side=64)
    long = sheet([[plain(RED)]], ["a method of many words in its name"], side=64)
    assert box_of(long, RED)[1] > box_of(short, RED)[1]
    sheet([[plain(RED)]], title="ein Käfer\nund ein 猫 🐈", side=64)


def test_captions_stand_below_their_pictures() -> None:
    """Each row is as far from the next as the longest caption needs; a picture may go without."""
    bare = sheet([[plain(RED), plain(GREEN)], [plain(BLUE), plain(GRAY)]], side=80)
    told = [["cat 0.1, a blue balloon 0.25", ""], ["", "dog"]]
    paper = sheet([[plain(RED), plain(GREEN)], [plain(BLUE), plain(GRAY)]], captions=told, side=80)
    (left, top, _, _), (right, _, _, _), (_, below, _, _) = (box_of(paper, c) for c in (RED, GREEN, BLUE))
    assert (left, top) == box_of(bare, RED)[:2]
    assert below > box_of(bare, BLUE)[1] + 30, "room for two lines or more"
    assert ink(paper, left, top + 80, left + 80, below) > 100
    assert ink(paper, right, top + 80, right + 80, below) == 0
    assert ink(paper, right, below + 80, right + 80)
    assert ink(paper, left, below + 80, left + 80) == 0
    assert ink(paper, 0, paper.height - MARGIN // 2) == 0


def test_a_row_without_captions_stands_close_above_the_next() -> None:
    rows = [[plain(RED)], [plain(GREEN)], [plain(BLUE)]]
    paper = sheet(rows, captions=[["a cat"], [], ["a dog"]], side=80)
    red, green, blue = (box_of(paper, colour)[1] for colour in (RED, GREEN, BLUE))
    assert green - red == 80 + MARGIN + LINE
    assert blue - green == 80 + MARGIN
    assert ink(paper, 0, blue + 80) > 0


def test_transparent_and_gray_pictures_are_laid_on() -> None:
    paper = sheet([[Image.new("L", (8, 8), 120), Image.new("RGBA", (8, 8), (*RED, 255))]], side=32)
    assert box_of(paper, GRAY)[2:] == box_of(paper, RED)[2:] == (32, 32)


def test_no_picture_is_stretched() -> None:
    """A high and a wide one side by side: each keeps its shape, in the middle of its place."""
    high, wide = Image.new("RGB", (32, 64), RED), Image.new("RGB", (64, 32), GREEN)
    paper = sheet([[high, wide]], side=64)
    assert box_of(paper, RED) == (MARGIN + 16, MARGIN, 32, 64)
    assert box_of(paper, GREEN) == (MARGIN + 64 + MARGIN, MARGIN + 16, 64, 32)


def luminance(colour: tuple[int, ...]) -> float:
    """Relative luminance as WCAG 2 defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colour", [INK, ALARM, *COLOURS])
@pytest.mark.parametrize("page", [(255, 255, 255), (18, 20, 23), (13, 17, 23)], ids=["white", "the app", "GitHub"])
def test_what_is_drawn_is_read_on_light_and_on_dark(colour: tuple[int, ...], page: tuple[int, ...]) -> None:
    dark, light = sorted((luminance(colour), luminance(page)))
    assert (light + 0.05) / (dark + 0.05) > 3.8


@pytest.mark.parametrize("page", [(255, 255, 255), (18, 20, 23)])
def test_only_pictures_and_letters_cover_the_page(page: tuple[int, int, int]) -> None:
    paper = sheet([[plain(RED)]], labels=["seed 0"], title="a cat", side=80)
    assert paper.getpixel((0, 0)) == PAPER
    shown = Image.new("RGB", paper.size, page)
    shown.paste(paper, mask=paper.getchannel("A"))
    left, top, *_ = box_of(paper, RED)
    letters = np.asarray(shown)[:top].reshape(-1, 3)
    assert (letters == page).all(1).any()
    assert (letters == INK).all(1).any()
    # Between ink and page there is nothing else: letters have no rim.
    low, high = np.minimum(INK, page), np.maximum(INK, page)
    assert ((letters >= low) & (letters <= high)).all()
    assert shown.getpixel((left, top)) == RED
    assert paper.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
