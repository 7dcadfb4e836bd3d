"""What the judges learn from: renderings freer than the model's, worn as generated pictures are worn."""

from __future__ import annotations

import colorsys
import random
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import Tensor
from torch.nn import functional as F

from training.grounds import SIDE, draw_ground, random_ground
from training.render import ART, sprite
from training.words import COLOURS, NOUNS, OBJECTS, PLACES, PLAIN, Setting, Thing

FAMILIES = ("noto", "noto-v1", "fluent-flat")
SMALLEST, LARGEST = 36, 96
"""Pixels along a side of a thing."""


@dataclass(frozen=True)
class Shown:
    """A thing in a judge's picture and its centre, in pixels."""

    thing: Thing
    x: float
    y: float


def scene(rng: random.Random, things: list[Thing] | None = None) -> tuple[np.ndarray, list[Shown]]:
    """A picture float32 `(SIDE, SIDE, 3)` in 0..1, and what it shows.

    Things overlap a little and may stick out of the picture a little. Some pictures also hold a blend of two things,
    half of each, which is named neither: generated pictures blend, and a blend is no evidence of a thing.
    """
    if things is None:
        count = rng.choices(range(5), weights=(5, 30, 42, 18, 5))[0]
        things = [random_thing(rng) for _ in range(count)]
    blends = int(rng.random() < 0.25) if len(things) < 4 else 0
    canvas = ground(rng)
    shown: list[Shown] = []
    for index, (x, y, size) in enumerate(spots(len(things) + blends, rng)):
        if index < len(things):
            art = portrait(things[index], size, rng)
            shown.append(Shown(things[index], x, y))
        else:
            art = blend(size, rng)
        lay(canvas, art, round(x - size / 2), round(y - size / 2))
    return canvas, shown


def random_thing(rng: random.Random) -> Thing:
    """Any noun; objects mostly tinted, animals seldom."""
    noun = rng.choice(NOUNS)
    tinted = rng.random() < (0.6 if noun in OBJECTS else 0.1)
    return Thing(noun, rng.choice(list(COLOURS)) if tinted else None)


def ground(rng: random.Random) -> np.ndarray:
    """The model's own grounds, plain or of a place, by day or night, or any one not dark; `(SIDE, SIDE, 3)`.

    Deep grounds lie behind anything here: they say nothing of what stands on them.
    """
    kind = rng.random()
    if kind < 0.45:
        made = draw_ground(random_ground(rng, PLAIN, deep=rng.random() < 0.5))
    elif kind < 0.7:
        made = draw_ground(random_ground(rng, Setting(rng.choice([None, *PLACES]), rng.random() < 0.4)))
    else:
        rgb = np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0, 0.5), rng.uniform(0.4, 1)), np.float32)
        made = np.broadcast_to(rgb, (SIDE, SIDE, 3))
    return (made + np.float32(rng.gauss(0, 0.02))).clip(0, 1)


def portrait(thing: Thing, size: int, rng: random.Random) -> np.ndarray:
    """The thing's art of some family, RGBA; one in five mirrored."""
    there = [family for family in FAMILIES if (ART / family / f"{thing.noun}.svg").exists()]
    family = "noto" if rng.random() < 0.6 else rng.choice(there)
    # Generated things can be pale: what lies behind shows through.
    art = sprite(thing.noun, size, thing.colour, family) * np.float32(rng.uniform(0.8, 1) if rng.random() < 0.3 else 1)
    return art[:, ::-1] if rng.random() < 0.2 else art


def blend(size: int, rng: random.Random) -> np.ndarray:
    """Two things in one place: mixed all over, or half of each."""
    first, second = (portrait(Thing(noun), size, rng) for noun in rng.sample(NOUNS, 2))
    if rng.random() < 0.5:
        share = rng.uniform(0.4, 0.6)
        return share * first + (1 - share) * second
    mixed = first.copy()
    if rng.random() < 0.5:
        mixed[size // 2 :] = second[size // 2 :]
    else:
        mixed[:, size // 2 :] = second[:, size // 2 :]
    return mixed


def spots(count: int, rng: random.Random) -> list[tuple[float, float, int]]:
    """Centres and sizes (even numbers: few sprites to keep) of things that overlap by a third at most."""
    while True:
        placed: list[tuple[float, float, int]] = []
        largest = {0: LARGEST, 1: LARGEST, 2: 68}.get(count, 56)
        for _ in range(count):
            for _ in range(30):
                size = 4 * rng.randint(SMALLEST // 4, largest // 4)
                inside = 0.35 * size
                x, y = rng.uniform(inside, SIDE - inside), rng.uniform(inside, SIDE - inside)
                if all(
                    max(abs(x - other_x), abs(y - other_y)) > 0.36 * (size + other)
                    for other_x, other_y, other in placed
                ):
                    placed.append((x, y, size))
                    break
        if len(placed) == count:
            return placed


def lay(canvas: np.ndarray, art: np.ndarray, left: int, top: int) -> None:
    """Paste premultiplied RGBA art, cut off at the picture's edges, in place."""
    size = art.shape[0]
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + size, SIDE), min(top + size, SIDE)
    piece = art[y0 - top : y1 - top, x0 - left : x1 - left]
    window = canvas[y0:y1, x0:x1]
    window *= 1 - piece[..., 3:]
    window += piece[..., :3]


def batch(count: int, rng: random.Random, coder: AutoencoderTiny | None) -> tuple[Tensor, list[list[Shown]]]:
    """Worn pictures `(count, 3, SIDE, SIDE)` in -1..1 and what each shows."""
    made = [scene(rng) for _ in range(count)]
    pictures = torch.from_numpy(np.stack([picture for picture, _ in made])).permute(0, 3, 1, 2) * 2 - 1
    return wear(pictures, rng, coder), [shown for _, shown in made]


@torch.no_grad()
def wear(pictures: Tensor, rng: random.Random, coder: AutoencoderTiny | None) -> Tensor:
    """Wobble, blur, noise, other light; for one in eight the autoencoder's round trip with noisy latents.

    Three in ten are made as soft as a picture of half to a third of the size: generated things can be that soft.
    """
    generator = torch.Generator().manual_seed(rng.getrandbits(40))
    count = len(pictures)
    bend = F.interpolate(torch.randn(count, 2, 8, 8, generator=generator), size=(SIDE, SIDE), mode="bicubic")
    amount = 0.012 * torch.rand(count, 1, 1, 1, generator=generator)
    axis = torch.linspace(-1, 1, SIDE)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1) + (amount * bend).permute(0, 2, 3, 1)
    worn = F.grid_sample(pictures, grid, padding_mode="border", align_corners=True)
    if coder is not None:
        some = -(-count // 8)  # it costs as much as learning from five others
        latents = coder.encode(worn[:some]).latents
        spread = 0.3 * torch.rand(some, 1, 1, 1, generator=generator)
        worn[:some] = coder.decode(latents + spread * torch.randn(latents.shape, generator=generator)).sample
    soft = torch.rand(count, generator=generator) < 0.3
    if soft.any():
        side = round(SIDE / rng.uniform(2, 3))
        small = F.interpolate(worn[soft], size=(side, side), mode="bilinear", antialias=True)
        worn[soft] = F.interpolate(small, size=(SIDE, SIDE), mode="bicubic")
    blurred = F.avg_pool2d(F.pad(worn, (1,) * 4, mode="replicate"), 3, stride=1)
    worn = worn.lerp(blurred, torch.rand(count, 1, 1, 1, generator=generator))
    worn = worn + 0.05 * torch.rand(count, 1, 1, 1, generator=generator) * torch.randn(worn.shape, generator=generator)
    contrast = 1 + 0.08 * torch.randn(count, 1, 1, 1, generator=generator)
    tint = 0.04 * torch.randn(count, 3, 1, 1, generator=generator)
    return (worn * contrast + tint).clamp(-1, 1)
