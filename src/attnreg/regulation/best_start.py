"""Several noises to begin with, and the one in whose picture the model itself reads every target."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import permutations
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from attnreg.regulation.attended import TargetMaps, maps_of
from attnreg.regulation.edit import PromptWords
from attnreg.regulation.kinds import Chosen, Guess
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
    the pipeline takes many. `E_0` is how badly the denoiser
    restores that picture from noise under the prompt, `E_j` how badly under
    the prompt with one target in place of another ("a dog and a dog" for "a cat and a dog"): their ratio is near 1, or
    below, where there are two dogs. It is the test by which a diffusion model classifies pictures (Li et al.,
    ICCV 2023, arXiv:2303.16203), asked about what neglect looks like. Of a single target, `E_j` is that of the empty
    text. `M_t` is the map of target t: each layer's divided by its mean, averaged over the layers, smoothed over 3 x 3
    positions; `peak` is its largest value. A target that is found nowhere, or where another one is, is blended or lost.
    (The two factors together tell more than either: docs/research.md.)

    If the start that the pipeline was given reaches the score that is `enough`, nothing is changed, and methods that
    this one is composed with do nothing either (unless `spare` is false); else others, which it decides, are tried
    until one is `good`, or the best of all is taken. Where a picture is exchanged anyway, more may be asked of the one
    that it is exchanged for: what is `good` is more than what is `enough`. The picture is one that the unmodified
    model draws from another noise: nothing of the model is edited.
    """

    strength: float = setting(0.7, number(0.0, 1.0), "how new the other starts are: 1 altogether, 0 not at all")
    starts: int = setting(8, whole_number(1, 1000), "how many starts are tried at most, the given one among them")
    enough: float = setting(1.1, number(0.0), "the score with which the given start is kept without trying others")
    good: float = setting(2.0, number(0.0), "the score with which another start is taken without trying more")
    passes: int = setting(
        7, whole_number(1, 1000), "how many times another start is denoised until its picture is read"
    )
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
        """The prompt with each target in place of each other one; of a single target, the empty text.

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

    def choose(self, latent: Latent, follow: Callable[[Latent], Guess], words: PromptWords) -> Chosen:
        """The given start if it is enough, the first other one that is good, or the best of all."""
        starts: list[Latent] = []
        doubted = ""

        def scores() -> Iterator[float]:
            nonlocal doubted
            for start in noises_like(latent, self.starts, self.strength):
                guess = follow(start)
                doubted = doubted if starts else least_read(guess, words)
                starts.append(start)
                yield signals(guess, words).score

        tried = self.tried(scores())
        best = max(range(len(tried)), key=tried.__getitem__)
        enough = tried[0] >= self.enough
        return Chosen(starts[best], tried, best, spared=self.spare and enough, doubted="" if enough else doubted)

    def tried(self, scores: Iterable[float]) -> tuple[float, ...]:
        """Of the starts' scores, those up to the first that ends the search; no more are asked for."""
        found: list[float] = []
        for score in scores:
            found.append(score)
            if score >= (self.enough if len(found) == 1 else self.good):
                break
        return tuple(found)


class Signals(NamedTuple):
    """What a score is made of."""

    read: float
    """How many times worse than under the prompt the picture is restored under the best other text."""
    peak: float
    """How far the least peaked target's map rises above its mean."""
    apart: float
    """One minus the cosine of the two targets' maps that are most alike; 1 of a single target."""

    @property
    def score(self) -> float:
        """How surely a start shows every target: see `BestStart`."""
        return self.read * math.sqrt(self.peak * self.apart)


def signals(guess: Guess, words: PromptWords) -> Signals:
    """What a start leads to, in numbers: see `BestStart`."""
    prompt, *others = (max(error, 1e-12) for error in guess.errors)
    layers = [maps_of(one.cross, words.columns.targets, one.grid) for one in guess.maps]
    mean = torch.stack([pooled(maps) for maps in layers]).mean(0)
    smooth = F.avg_pool2d(F.pad(mean[None], (1,) * 4, mode="replicate"), 3, stride=1)[0].flatten(1)
    directions = F.normalize(smooth, dim=-1)
    alike = float((directions @ directions.T).tril(-1).amax())
    return Signals(min(others) / prompt, float(smooth.amax(-1).amin()), max(1 - alike, 0.0))


def least_read(guess: Guess, words: PromptWords) -> str:
    """The target without which the picture is restored best; "" where no text tells one."""
    gone = list(_texts_without(words).values())
    errors = guess.errors[1:]
    return gone[min(range(len(errors)), key=errors.__getitem__)] if errors else ""


def _texts_without(words: PromptWords) -> dict[str, str]:
    """Other texts of a picture -> the target that each lacks: see `BestStart.texts`."""
    found: dict[str, str] = {}
    for gone, doubled in permutations(words.targets, 2):
        text = in_place_of(gone.text, doubled.text, words.prompt)
        if text is not None and text != words.prompt:
            found.setdefault(text, gone.text)
    return found or {"": words.targets[0].text if len(words.targets) == 1 else ""}


def pooled(maps: TargetMaps) -> Float[Tensor, "target row column"]:
    """Maps in units of their own means, averaged down to `SIDE` positions along the longer side."""
    height, width = maps.shape[1:]
    shrink = min(1.0, SIDE / max(height, width))
    small = F.adaptive_avg_pool2d(maps, (max(1, round(shrink * height)), max(1, round(shrink * width))))
    return small / small.mean((-2, -1), keepdim=True).clamp_min(1e-12)
