"""Several noises to begin with, and the one in whose picture the model itself reads every target."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from attnreg.regulation.attended import TargetMaps, maps_of
from attnreg.regulation.edit import PromptWords
from attnreg.regulation.kinds import Chosen, Follow, Guess
from attnreg.regulation.noises import noises_like
from attnreg.regulation.settings import CheckedSettings, in_layers, number, setting, whole_number, yes_or_no
from attnreg.types import AttnregError, Target
from attnreg.words import in_place_of

SIDE = 8
"""Positions along the longer side of the maps that are scored: finer ones are averaged, so that sizes compare."""

Latent = Float[Tensor, "*latent"]


@dataclass(frozen=True, kw_only=True)
class BestStart(CheckedSettings):
    """`score = min_j E_j / E_0 * sqrt(min_t peak(M_t) * (1 - max_(s < t) cos(M_s, M_t)))`: all is read, each apart.

    A start is denoised down to a part of the steps; what is predicted there is the picture that it leads to. The given
    one takes the pipeline's own steps, which need not be taken again if it is kept; others take a few, large ones if
    the pipeline takes many. `E_0` is how badly the denoiser restores that picture from noise under the prompt, `E_j`
    how badly under the prompt with the next target in place of target j ("a dog and a dog" for "a cat and a dog"):
    their ratio is near 1, or below, where there are two dogs. It is the test by which a diffusion model classifies
    pictures (Li et al., ICCV 2023, arXiv:2303.16203), asked about what neglect looks like. Of a single target, `E_j` is
    that of the empty text. `M_t` is the map of target t: each layer's divided by its mean, averaged over the layers,
    smoothed over 3 x 3 positions; `peak` is its largest value. A target that is found nowhere, or where another one is,
    is blended or lost. (The two factors together tell more than either: docs/research.md.)

    If the start that the pipeline was given reaches the score that is `enough`, nothing is changed, and methods that
    this one is composed with do nothing either (unless `spare` is false); else others, which it decides, are tried
    until one is `good`, or the best of all is taken. Where a picture is exchanged anyway, more may be asked of the one
    that it is exchanged for: what is `good` is more than what is `enough`. The picture is one that the unmodified
    model draws from another noise: nothing of the model is edited.

    Where others are tried, what tells them apart is mostly there early, and costs nothing to see: the maps. So they are
    looked at in groups, after `early` passes, and only that one of a `group` is followed on and read whose maps say
    most by the second factor (rejecting seeds early: HEaD, arXiv:2409.10597, with a predictor trained for it).
    """

    strength: float = setting(0.7, number(0.0, 1.0), "how new the other starts are: 1 altogether, 0 not at all")
    starts: int = setting(10, whole_number(1, 1000), "how many starts are tried at most, the given one among them")
    enough: float = setting(1.1, number(0.0), "the score with which the given start is kept without trying others")
    good: float = setting(1.6, number(0.0), "the score with which another start is taken without trying more")
    passes: int = setting(
        7, whole_number(1, 1000), "how many times another start is denoised until its picture is read"
    )
    early: int = setting(3, whole_number(1, 1000), "after how many passes other starts are looked at first")
    group: int = setting(3, whole_number(1, 1000), "of how many that are looked at one is followed on")
    until: float = setting(0.5, number(0.0, 1.0), "the part of the steps after which the picture is predicted")
    noise: float = setting(0.55, number(0.0, 1.0), "how noisy the picture is when it is read, of all time steps")
    spare: bool = setting(True, yes_or_no, "leave a picture whose given start is good enough to the model altogether")
    layers: tuple[str, ...] = in_layers("auto")

    @property
    def window(self) -> tuple[float, float]:
        """The first step alone: all that follows is the model's own."""
        return 0.0, 1e-9

    def stops(self, total: int) -> tuple[int, ...]:
        """Evenly from the first step to the one that is looked at; see `kinds.StartEdit`."""
        last = min(round(self.until * total), total - 1)
        if self.passes == 1:
            return (0,)
        return tuple(dict.fromkeys(round(last * number / (self.passes - 1)) for number in range(self.passes)))

    def texts(self, words: PromptWords) -> tuple[str, ...]:
        """The prompt with the next target in place of each, the first after the last; of a single one, the empty text.

        Raises `AttnregError` for a target that is not made of whole words.
        """
        if broken := self.no_whole_word(words):
            raise AttnregError(
                f"best-start: expected targets of whole words, got {broken}; name words of the prompt, whose places "
                "other words can take"
            )
        return tuple(_texts_without(words))

    def no_whole_word(self, words: PromptWords) -> Target | None:
        """The first of several targets whose place no other can take; `None` if there is none."""
        others = words.targets if len(words.targets) > 1 else ()
        return next((one for one in others if in_place_of(one.text, one.text, words.prompt) is None), None)

    def choose(self, latent: Latent, follow: Follow, words: PromptWords) -> Chosen:
        """The given start if it is enough, the first other one that is good, or the best of all."""
        noises, given = noises_like(latent, self.starts, self.strength), follow(latent)
        starts: list[Latent] = []

        def start(number: int) -> Latent:
            starts.extend(
                islice(noises, max(0, number + 1 - len(starts)))
            )  # made when one is tried: most given ones are kept
            return starts[number]

        scores = self.tried(
            lambda number: map_signals(follow(start(number), self.early), words).told,
            lambda number: signals(follow(start(number)) if number else given, words).score,
        )
        known = tuple(one or 0.0 for one in scores)
        best = max(range(len(known)), key=known.__getitem__)
        enough = known[0] >= self.enough
        doubted = "" if enough else least_read(given, words)
        given_up = tuple(number for number, one in enumerate(scores) if one is None)
        return Chosen(
            start(best), known, best, spared=self.spare and enough, doubted=doubted,
            given_up=given_up, given_up_after=self.early if given_up else 0,
        )  # fmt: skip

    def tried(self, told: Callable[[int], float], score: Callable[[int], float]) -> tuple[float | None, ...]:
        """The scores of all starts up to those that end the search, `None` of one that was given up early.

        told: of a start's number, what its maps say early; score: its score in the end. Both cost passes of the
            denoiser: no more is asked for than is needed.
        """
        scores: list[float | None] = [first_score := score(0)]
        if first_score >= self.enough:
            return tuple(scores)
        for first in range(1, self.starts, self.group):
            some = range(first, min(first + self.group, self.starts))
            best = max(some, key=told) if len(some) > 1 else first
            read = score(best)
            scores += [read if number == best else None for number in some]
            if read >= self.good:
                break
        return tuple(scores)


class MapSignals(NamedTuple):
    """What the maps say of a start: whether each target has a place, and its own."""

    peak: float
    """How far the least peaked target's map rises above its mean."""
    apart: float
    """One minus the cosine of the two targets' maps that are most alike; 1 of a single target."""

    @property
    def told(self) -> float:
        """Both in one number."""
        return math.sqrt(self.peak * self.apart)


class Signals(NamedTuple):
    """What a score is made of."""

    read: float
    """How many times worse than under the prompt the picture is restored under the best other text."""
    maps: MapSignals

    @property
    def score(self) -> float:
        """How surely a start shows every target: see `BestStart`."""
        return self.read * self.maps.told


def map_signals(guess: Guess, words: PromptWords) -> MapSignals:
    """What the maps say of a start, as far as it was followed: see `BestStart`."""
    layers = [maps_of(one.cross, words.columns.targets, one.grid) for one in guess.maps]
    mean = torch.stack([pooled(maps) for maps in layers]).mean(0)
    smooth = F.avg_pool2d(F.pad(mean[None], (1,) * 4, mode="replicate"), 3, stride=1)[0].flatten(1)
    directions = F.normalize(smooth, dim=-1)
    alike = float((directions @ directions.T).tril(-1).amax())
    return MapSignals(float(smooth.amax(-1).amin()), max(1 - alike, 0.0))


def signals(guess: Guess, words: PromptWords) -> Signals:
    """What a start leads to, in numbers; the picture is read. See `BestStart`."""
    prompt, *others = (max(error, 1e-12) for error in guess.errors)
    return Signals(min(others) / prompt, map_signals(guess, words))


def least_read(guess: Guess, words: PromptWords) -> str:
    """The target without which the picture is restored best; "" where no text tells one."""
    gone = list(_texts_without(words).values())
    errors = guess.errors[1:]
    return gone[min(range(len(errors)), key=errors.__getitem__)] if errors else ""


def _texts_without(words: PromptWords) -> dict[str, str]:
    """Other texts of a picture -> the target that each lacks: see `BestStart.texts`."""
    found: dict[str, str] = {}
    for place, gone in enumerate(words.targets):
        for doubled in (*words.targets[place + 1 :], *words.targets[:place]):
            text = in_place_of(gone.text, doubled.text, words.prompt)
            if text is not None and text != words.prompt:
                found.setdefault(text, gone.text)
                break
    return found or {"": words.targets[0].text if len(words.targets) == 1 else ""}


def pooled(maps: TargetMaps) -> Float[Tensor, "target row column"]:
    """Maps in units of their own means, averaged down to `SIDE` positions along the longer side."""
    height, width = maps.shape[1:]
    shrink = min(1.0, SIDE / max(height, width))
    small = F.adaptive_avg_pool2d(maps, (max(1, round(shrink * height)), max(1, round(shrink * width))))
    return small / small.mean((-2, -1), keepdim=True).clamp_min(1e-12)
