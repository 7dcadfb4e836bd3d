"""Maps in colour: from dark blue through red to yellow, which differ in lightness too, so that hue is not needed."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

HEAT = ((13, 8, 135), (126, 3, 168), (204, 71, 120), (248, 149, 64), (240, 249, 33))
"""Five colours from cold to hot that differ in lightness too, so that they can be told apart without hue."""


def heat(picture: Image.Image, attention: Sequence[Sequence[float]], hottest: float) -> Image.Image:
    """A grey picture coloured by a map, from cold at 0 to hot at `hottest`; smooth between the map's positions."""
    coloured = heat_alone(attention, hottest, picture.size)
    return Image.blend(picture.convert("L").convert("RGB"), coloured, 0.6)


def heat_alone(attention: Sequence[Sequence[float]], hottest: float, size: tuple[int, int]) -> Image.Image:
    """A map in colour, of so many pixels across and down; smooth between its positions."""
    rows = [list(row) for row in attention]
    scale = 255 / hottest if hottest > 0 else 0.0
    small = Image.new("L", (len(rows[0]), len(rows)))
    small.putdata([round(min(max(value * scale, 0.0), 255.0)) for row in rows for value in row])
    mask = small.resize(size, Image.Resampling.BICUBIC)
    mask.putpalette([part for level in range(256) for part in heat_of(level / 255)])
    return mask.convert("RGB")


def heat_of(level: float) -> tuple[int, ...]:
    """The colour of a level from 0 to 1."""
    where = level * (len(HEAT) - 1)
    i = min(int(where), len(HEAT) - 2)
    return tuple(round(a + (b - a) * (where - i)) for a, b in zip(HEAT[i], HEAT[i + 1], strict=True))
