"""InitNO: a better noise to begin with, in which every thing is seen and no two are mixed (arXiv:2404.04650)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from attnreg.heads import parts_of
from attnreg.regulation.attended import TargetMaps, maps_of, neglect, overlap, sharpened, smoothed
from attnreg.regulation.edit import LatentUpdated, Maps, PromptWords
from attnreg.regulation.latent import Aim, Evaluation, RefinedSettings, See
from attnreg.regulation.noises import noises_like
from attnreg.regulation.regions import bright, component_at, peak
from attnreg.regulation.settings import number, setting, whole_number

FURTHEST = 1e-3
"""Of the noise's distribution from the standard one: mean over the latent's elements of the divergence in nats."""
STEADY = 1e-3
"""Adam's epsilon, as published: elements with small gradients move less."""

Latent = Float[Tensor, "*latent"]


class Tried(NamedTuple):
    """What came of one noise."""

    score: float
    """Neglect plus conflict of the best latent that was looked at."""
    latent: Latent
    noise: Latent
    good: bool
    """Whether both goals were reached."""


@dataclass(frozen=True, kw_only=True)
class InitNO(RefinedSettings):
    """`L = max_s max(0, 1 - max M_s) + mean_(i < j) sum min(S_i, S_j) / sum (S_i + S_j) + w sum_s stray(M_s)`.

    Guo et al., CVPR 2024. `M_s` is the smoothed map of target s, `S_s` the smoothed self-attention of its brightest
    pixel; stray attention is the largest outside the bright region around that pixel, if it outshines the region's
    edge. In the first step Adam searches the noise `z = z0 e^(v / 2) + m` for m and v, while `KL(N(m, e^v) || N(0, 1))`
    stays below `FURTHEST`; fresh noises are tried where the given one fails, and the best is given more time. From then
    on the latent is moved as by Attend-and-Excite, with this loss.

    The divergence is held by shrinking m and v (the public code descends on it without a limit, and can run for ever).
    The best latent seen is kept (there: the last). Fresh noises are drawn from the signs of the given one: one seed,
    one picture, in any company and precision. They would wipe out a picture to start from: image-to-image wants
    `noises=1`.
    """

    noises: int = setting(5, whole_number(0, 1000), "how many noises are tried; 1: only the given, 0: no search")
    noise_steps: int = setting(10, whole_number(1, 10_000), "steps of the search from each noise")
    last_steps: int = setting(50, whole_number(0, 10_000), "steps of the search from the best noise if none is good")
    learning_rate: float = setting(0.01, number(0.0), "Adam's, in the search for a noise")
    neglect_goal: float = setting(
        0.2, number(0.0, 1.0), "a noise is good if every target's attention lacks less than it"
    )
    conflict_goal: float = setting(0.3, number(0.0, 1.0), "... and the targets' self-attention overlaps less than this")
    clean_up: float = setting(0.1, number(0.0), "w: weight of the stray attention")

    needs_self: ClassVar[bool] = True

    def aim(self, maps: Maps, words: PromptWords, step: int, total: int, memory: dict[str, Any]) -> Aim:
        """The loss; attained is how strongly the most neglected target is seen, -1 while the targets conflict."""
        assert maps.own is not None
        nouns = [parts_of(target, words.prompt).noun for target in words.targets]
        seen = smoothed(maps_of(sharpened(maps.cross, words.columns, self.padding), nouns, maps.grid))
        neglected, mixed = neglect(seen), conflict(seen, maps.own)
        memory["neglect"], memory["conflict"] = float(neglected.detach()), float(mixed.detach())
        loss = neglected + mixed + self.clean_up * stray(seen)
        return Aim(loss, 1 - memory["neglect"] if memory["conflict"] <= self.conflict_goal else -1.0)

    def update(
        self,
        latent: Latent,
        see: See,
        words: PromptWords,
        step: int,
        total: int,
        memory: dict[str, Any],
    ) -> LatentUpdated:
        """In the first step, the search for a noise; in every one, the latent moved; see `edit.LatentEdit`."""
        if step or not self.noises or not self.strength * self.step_size:
            return super().update(latent, see, words, step, total, memory)
        looks: list[float] = []

        def look(z: Latent) -> Evaluation:
            found = self.look(z, see, words, step, total, memory)
            looks.append(found.loss)
            return found

        chosen = self._good_noise(latent, look, memory)
        moved = super().update(chosen, see, words, step, total, memory)
        return moved._replace(loss_before=looks[0], passes=moved.passes + len(looks))

    def _good_noise(self, latent: Latent, look: Callable[[Latent], Evaluation], memory: dict[str, Any]) -> Latent:
        """The first latent that reaches both goals, or the best of all."""
        tried = []
        for noise in noises_like(latent, self.noises):
            tried.append(self._search(noise, self.noise_steps, look, memory))
            if tried[-1].good:
                return tried[-1].latent
        best = min(tried, key=lambda one: one.score)
        return min(best, self._search(best.noise, self.last_steps, look, memory), key=lambda one: one.score).latent

    def _search(self, noise: Latent, steps: int, look: Callable[[Latent], Evaluation], memory: dict[str, Any]) -> Tried:
        """The best latent within some Adam steps of a noise."""
        wide = noise.double() if noise.dtype == torch.float64 else noise.float()
        scale = wide.square().mean().sqrt()  # schedulers begin with noise times a number of their own
        offsets = torch.zeros_like(wide), torch.zeros_like(wide)
        slopes = [(torch.zeros_like(wide), torch.zeros_like(wide))] * 2
        best = Tried(float("inf"), noise, noise, False)
        for turn in range(1, steps + 1):
            mean, variance = offsets
            latent = (wide * (variance / 2).exp() + scale * mean).to(noise.dtype)
            seen = look(latent)
            score = memory["neglect"] + memory["conflict"]
            good = memory["neglect"] < self.neglect_goal and memory["conflict"] < self.conflict_goal
            if good or score < best.score:
                best = Tried(score, latent, noise, good)
            if good or seen.gradient is None:
                break
            slope = seen.gradient.to(wide.dtype)
            gradients = scale * slope, slope * wide * (variance / 2).exp() / 2
            slopes = [moments(old, new) for old, new in zip(slopes, gradients, strict=True)]
            rate = self.strength * self.learning_rate
            offsets = near_standard(
                *(offset - rate * adam(*slope, turn) for offset, slope in zip(offsets, slopes, strict=True))
            )
        return best


def conflict(seen: TargetMaps, own: Float[Tensor, "pixel pixel"]) -> Float[Tensor, ""]:
    """Overlap of what the targets' brightest pixels look at, mean over the pairs: 0 apart, 1/2 the same, 0 for one."""
    at = [row * seen.shape[2] + column for row, column in map(peak, seen)]
    return overlap(smoothed(own[at].reshape(seen.shape)))


def stray(seen: TargetMaps) -> Float[Tensor, ""]:
    """Sum over the targets of the largest attention outside the peak's bright region, where it outshines its edge."""
    total = seen.new_zeros(())
    for one in seen:
        region = component_at(bright(one), *peak(one)).to(one.device)
        if not bool(region.all()):
            outside = one[~region].amax()
            total = total + outside * (outside > one[region].amin())
    return total


def moments(old: tuple[Latent, Latent], gradient: Latent) -> tuple[Latent, Latent]:
    """Adam's running means of gradient and squared gradient (Kingma & Ba, 2015, algorithm 1)."""
    return 0.9 * old[0] + 0.1 * gradient, 0.999 * old[1] + 0.001 * gradient.square()


def adam(mean: Latent, square: Latent, turn: int) -> Latent:
    """Adam's step for a learning rate of 1, turns counted from 1."""
    return mean / (1 - 0.9**turn) / ((square / (1 - 0.999**turn)).sqrt() + STEADY)


def divergence(mean: Latent, variance: Latent) -> float:
    """`KL(N(m, e^v) || N(0, 1))` in nats, mean over the elements; `variance` is v, its logarithm."""
    return float((mean.square() + variance.exp() - 1 - variance).mean() / 2)


def near_standard(mean: Latent, variance: Latent) -> tuple[Latent, Latent]:
    """Both as they are if their divergence is within `FURTHEST`, else shrunk alike until it is."""
    while (far := divergence(mean, variance)) > FURTHEST:
        factor = min(0.99, (FURTHEST / far) ** 0.5)  # the divergence is nearly quadratic: one turn or two
        mean, variance = factor * mean, factor * variance
    return mean, variance
