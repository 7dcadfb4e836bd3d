"""Draws training pictures: sprites of vector art, tinted, on the ground that the caption tells."""

from __future__ import annotations

import functools
import io
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from resvg_py import svg_to_bytes

from training.grounds import CELL, SIDE, Ground, draw_ground, random_ground
from training.words import COLOURS, PLAIN, Setting, Thing

ART = Path(__file__).parent / "art"
SINGLE_SIZES, PAIR_SIZES = (64, 80), (48, 56)
"""Pixels along a side of a thing whose size the caption does not tell. Few sizes, and places on whole cells: the same
sprite gives the same latent, and a small budget of training buys things that can be recognised."""
SMALL, LARGE_SINGLE, LARGE_OF_PAIR = 40, 96, 64
ASIDE = 3
"""Cells that a thing may lie off the middle, where there is room."""


@functools.cache
def sprite(noun: str, size: int, colour: str | None = None, family: str = "noto") -> np.ndarray:
    """The noun's art as float32 RGBA `(size, size, 4)` in 0..1, colour premultiplied by alpha."""
    svg = (ART / family / f"{noun}.svg").read_text()
    big = bytes(svg_to_bytes(svg_string=svg, width=4 * size, height=4 * size))
    image = Image.open(io.BytesIO(big)).convert("RGBa").resize((size, size), Image.Resampling.LANCZOS)
    rgba = np.asarray(image, np.float32) / 255
    return rgba if colour is None else tint(rgba, np.array(COLOURS[colour], np.float32) / 255)


def tint(rgba: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Luminance times colour: the surface takes the colour, its shading and highlights stay.

    The luminance is stretched so that the sprite's own middle tone becomes the colour itself; whatever is lighter moves
    from there towards white, whatever is darker towards black.
    """
    alpha = np.maximum(rgba[..., 3], 1e-4)
    luminance = (rgba[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32)) / alpha
    middle = float(np.median(luminance[rgba[..., 3] > 0.5]))
    darker = np.clip(luminance / middle, 0, 1)[..., None]
    lighter = np.clip((luminance - middle) / (1 - middle + 1e-4), 0, 1)[..., None]
    surface = colour * (0.3 + 0.7 * darker) * (1 - 0.75 * lighter) + 0.75 * lighter
    return np.concatenate([surface * rgba[..., 3:], rgba[..., 3:]], axis=-1).astype(np.float32)


def paste(canvas: np.ndarray, art: np.ndarray, left: int, top: int) -> None:
    """Lay premultiplied art over the canvas `(height, width, 3)`, in place; it must fit."""
    window = canvas[top : top + art.shape[0], left : left + art.shape[1]]
    window *= 1 - art[..., 3:]
    window += art[..., :3]


def on_cell(rng: random.Random, low: int, high: int) -> int:
    """A random multiple of the cell size in low..high, both included."""
    return CELL * rng.randint(-(-low // CELL), high // CELL)


def size_of(thing: Thing, things: int, rng: random.Random) -> int:
    """Pixels along a side of a thing in a picture of so many."""
    if thing.size == "small":
        return SMALL
    if thing.size == "large":
        return LARGE_SINGLE if things == 1 else LARGE_OF_PAIR
    return rng.choice(SINGLE_SIZES if things == 1 else PAIR_SIZES)


def places(sizes: list[int], rng: random.Random) -> list[tuple[int, int]]:
    """`(left, top)` for each thing: one about the middle; two side by side or, one time in four, one above the other.

    Two lie in a half each, in either order, and somewhere about the middle of it. Of three, two share a half: each
    lies in a quarter of its own.
    """
    if len(sizes) == 1:
        return [(about_the_middle(sizes[0], rng), about_the_middle(sizes[0], rng))]
    if len(sizes) not in (2, 3):
        raise ValueError(f"one to three things can be placed, not {len(sizes)}")
    halves = [0, SIDE // 2]
    rng.shuffle(halves)
    if len(sizes) == 2:
        across = [about_the_middle(size, rng) for size in sizes]
    else:
        quarters = rng.sample([0, SIDE // 2], 2)
        quarters.insert(alone := rng.randrange(3), -1)
        across = [
            about_the_middle(size, rng) if quarter < 0 else in_half(quarter, size, rng)
            for quarter, size in zip(quarters, sizes, strict=True)
        ]
        shared, other = halves
        halves = [other if index == alone else shared for index in range(3)]
    along = [in_half(half, size, rng) for half, size in zip(halves, sizes, strict=True)]
    upright = rng.random() < 0.25
    return list(zip(across, along, strict=True)) if upright else list(zip(along, across, strict=True))


def in_half(half: int, size: int, rng: random.Random) -> int:
    """Left or top edge of a thing in the half of the picture that begins at `half`."""
    return on_cell(rng, half, half + SIDE // 2 - size)


def about_the_middle(size: int, rng: random.Random) -> int:
    """Left or top edge of a thing within `ASIDE` cells of the middle and inside of the picture."""
    room = SIDE - size
    return on_cell(rng, max(room // 2 - ASIDE * CELL, 0), min(room // 2 + ASIDE * CELL, room))


@dataclass(frozen=True)
class Placed:
    """A thing and the square it fills: left and top edge and side, in pixels."""

    thing: Thing
    left: int
    top: int
    size: int


@dataclass(frozen=True)
class Scene:
    """Everything that decides a picture."""

    ground: Ground
    placed: tuple[Placed, ...]


def compose(things: list[Thing], rng: random.Random, setting: Setting = PLAIN) -> Scene:
    """A scene that shows the things, each once."""
    sizes = [size_of(thing, len(things), rng) for thing in things]
    spots = places(sizes, rng)
    placed = [Placed(thing, *spot, size) for thing, spot, size in zip(things, spots, sizes, strict=True)]
    return Scene(ground_for(things, rng, setting), tuple(placed))


def ground_for(things: Sequence[Thing], rng: random.Random, setting: Setting = PLAIN) -> Ground:
    """A ground of the setting that the things can be told from: deep behind pale ones, unless dark ones stand there."""
    deep = any(thing.pale for thing in things) and not any(thing.dark for thing in things)
    return random_ground(rng, setting, deep=deep)


def draw(scene: Scene) -> np.ndarray:
    """The picture of a scene, uint8 `(SIDE, SIDE, 3)`."""
    canvas = draw_ground(scene.ground)
    for placed in scene.placed:
        paste(canvas, sprite(placed.thing.noun, placed.size, placed.thing.colour), placed.left, placed.top)
    return (canvas * 255 + 0.5).clip(0, 255).astype(np.uint8)
