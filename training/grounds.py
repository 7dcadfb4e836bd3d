"""What things stand on: plain ground, or a place that the caption names, by day or by night."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from training.words import Setting

SIDE = 128
"""Pixels along a side of a picture."""
CELL = 8
"""Side of one cell of the latent, in pixels."""
BACKGROUNDS = (
    (176, 204, 236), (184, 220, 190), (236, 200, 196), (210, 194, 232), (240, 220, 164), (196, 222, 224),
)  # fmt: skip
"""Light enough for black things, deep enough for coloured ones."""
DEEP_BACKGROUNDS = (
    (62, 98, 150), (66, 116, 80), (160, 84, 78), (104, 80, 140), (160, 122, 58), (60, 108, 116),
)  # fmt: skip
"""For pale things: on light ground they differ from it so little that neither network learns their shape."""
DEEP_SHARE = 0.8
"""Share of the pictures with a pale thing and no dark one that have deep plain ground."""
NIGHT_LIGHT = (0.36, 0.40, 0.60)
"""What is left of red, green and blue by night; things stay as they are."""
SKY, SEA, SAND = (158, 204, 240), (62, 146, 200), (236, 208, 150)
WINTER_SKY, SNOW = (150, 176, 208), (222, 232, 244)
HAZE, TREES, GRASS = (196, 226, 200), (70, 132, 84), (146, 190, 112)


@dataclass(frozen=True)
class Ground:
    """Everything that decides what lies behind the things."""

    setting: Setting
    colour: tuple[int, int, int]
    """Of plain ground."""
    horizon: int
    """Pixels from the top, of a place."""


def random_ground(rng: random.Random, setting: Setting, *, deep: bool = False) -> Ground:
    """A ground of the setting; `deep`: mostly deep if it is plain."""
    colours = DEEP_BACKGROUNDS if deep and rng.random() < DEEP_SHARE else BACKGROUNDS
    return Ground(setting, rng.choice(colours), CELL * rng.randint(5, 7))


def draw_ground(ground: Ground) -> np.ndarray:
    """The empty picture, float32 `(SIDE, SIDE, 3)` in 0..1."""
    image = Image.new("RGB", (SIDE, SIDE), ground.colour)
    pen, h = ImageDraw.Draw(image), ground.horizon
    if ground.setting.place == "beach":
        pen.rectangle((0, 0, SIDE, h), SKY)
        pen.rectangle((0, h, SIDE, h + 3 * CELL), SEA)
        pen.rectangle((0, h + 3 * CELL, SIDE, SIDE), SAND)
    elif ground.setting.place == "snow":
        pen.rectangle((0, 0, SIDE, h), WINTER_SKY)
        pen.rectangle((0, h, SIDE, SIDE), SNOW)
    elif ground.setting.place == "forest":
        pen.rectangle((0, 0, SIDE, h), HAZE)
        pen.rectangle((0, h, SIDE, SIDE), GRASS)
        for left in range(0, SIDE, 4 * CELL):
            pen.polygon([(left, h), (left + 2 * CELL, CELL), (left + 4 * CELL, h)], TREES)
    light = np.array(NIGHT_LIGHT if ground.setting.night else (1, 1, 1), np.float32)
    return np.asarray(image, np.float32) / 255 * light
