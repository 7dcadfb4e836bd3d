"""What the bundled model is taught to name: its nouns, its colours, the sentences it reads."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

ANIMALS = ("cat", "dog", "bird", "bear", "lion", "horse", "elephant", "monkey", "frog", "turtle", "rabbit", "mouse")
OBJECTS = (
    "backpack", "glasses", "crown", "suitcase", "chair", "balloon", "bow", "car", "bowl", "bench", "clock", "apple",
)  # fmt: skip
NOUNS = ANIMALS + OBJECTS
COLOURS = {
    "red": (222, 38, 38),
    "orange": (246, 134, 26),
    "yellow": (248, 212, 40),
    "green": (48, 160, 66),
    "blue": (40, 96, 214),
    "purple": (132, 62, 180),
    "pink": (246, 132, 184),
    "brown": (126, 80, 46),
    "gray": (138, 142, 148),
    "black": (44, 44, 50),
    "white": (244, 244, 246),
}
"""Name -> sRGB of a surface in full light. The words are those of the Attend-and-Excite prompt set."""

GLUE = ("a", "an", "and", "with", ",", "three", "two", "of")
"""Words that carry no thing."""

PALE = ("elephant", "rabbit", "mouse", "white", "gray")
"""Words of things that differ little from light ground."""
DARK = ("bear", "horse", "monkey", "brown", "black")
"""Words of things that differ little from deep ground."""
SIZES = ("small", "large")
PLACES = {"snow": "in the snow", "beach": "on the beach", "forest": "in the forest"}
"""Word of a place -> how a caption says it."""
NIGHT = "at night"
SETTING = (*SIZES, "in", "on", "the", "at", "night", *PLACES)
"""The words of sizes, places and night."""

HELD_OUT_SHARE = 0.4
"""Share of the noun pairs that no training picture of `pocket` shows together."""


@dataclass(frozen=True)
class Thing:
    """A noun and, if the caption names them, its colour and size."""

    noun: str
    colour: str | None = None
    size: str | None = None

    @property
    def pale(self) -> bool:
        """Whether it is named by a word of `PALE`."""
        return (self.colour or self.noun) in PALE

    @property
    def dark(self) -> bool:
        """Whether it is named by a word of `DARK`."""
        return (self.colour or self.noun) in DARK

    def phrase(self, rng: random.Random) -> str:
        """With its article: "a small red car". Sometimes "a elephant", as the Attend-and-Excite prompts write."""
        words = " ".join(word for word in (self.size, self.colour, self.noun) if word)
        article = "an" if words[0] in "aeiou" and rng.random() < 0.5 else "a"
        return f"{article} {words}"


@dataclass(frozen=True)
class Setting:
    """Where and when a picture plays, as far as its caption says."""

    place: str | None = None
    night: bool = False

    def __str__(self) -> str:
        return " ".join(word for word in (PLACES.get(self.place or ""), NIGHT if self.night else "") if word)


PLAIN = Setting()
"""Nothing is said: plain ground by day."""


def held_out_pairs(share: float = HELD_OUT_SHARE) -> frozenset[frozenset[str]]:
    """The unordered noun pairs kept out of training, the same in every run. A larger share adds to a smaller one."""
    pairs = [frozenset(pair) for pair in itertools.combinations(NOUNS, 2)]
    random.Random(20240306).shuffle(pairs)
    return frozenset(pairs[: round(share * len(pairs))])


def caption(things: list[Thing], rng: random.Random, setting: Setting = PLAIN) -> str:
    """A sentence that names the things: "a lion with a blue balloon", "a cat, a frog and a small car on the beach"."""
    phrases = [thing.phrase(rng) for thing in things]
    if len(phrases) == 2 and things[1].noun in OBJECTS and rng.random() < 0.3:
        sentence = " with ".join(phrases)
    else:
        sentence = " and ".join([", ".join(phrases[:-1]), phrases[-1]] if len(phrases) > 1 else phrases)
    return f"{sentence} {setting}".strip()


@functools.cache
def seen_together(count: int, share: float = HELD_OUT_SHARE) -> list[tuple[str, ...]]:
    """The sets of so many nouns that training pictures may show together: no two of them are held out."""
    held_out = held_out_pairs(share)
    return [
        nouns
        for nouns in itertools.combinations(NOUNS, count)
        if held_out.isdisjoint(map(frozenset, itertools.combinations(nouns, 2)))
    ]


@functools.cache
def never_together(share: float = HELD_OUT_SHARE) -> list[tuple[str, ...]]:
    """The pairs held out of training, in a fixed order."""
    return sorted(tuple(sorted(pair)) for pair in held_out_pairs(share))


def random_things(rng: random.Random, together: Sequence[tuple[str, ...]]) -> Iterator[Thing]:
    """The things of one of these sets of nouns, in any order.

    Objects are mostly coloured; one thing in five has its size told.
    """
    nouns = list(rng.choice(together))
    rng.shuffle(nouns)
    for noun in nouns:
        coloured = noun in OBJECTS and rng.random() < 0.7
        sized = rng.random() < 0.2
        yield Thing(noun, rng.choice(list(COLOURS)) if coloured else None, rng.choice(SIZES) if sized else None)


def random_setting(rng: random.Random) -> Setting:
    """Mostly none is told."""
    return Setting(rng.choice(list(PLACES)) if rng.random() < 0.25 else None, rng.random() < 0.12)
