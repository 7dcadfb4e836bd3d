"""SAGA: a distribution to begin with anew, learnt from the picture that is predicted early (arXiv:2508.13866)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from attnreg.heads import parts_of
from attnreg.regulation.attended import maps_of, neglect, overlap, sharpened, smoothed
from attnreg.regulation.edit import LatentUpdated, Maps, PromptWords
from attnreg.regulation.latent import Aim, Evaluation, LatentSettings, See
from attnreg.regulation.noises import normal_noises
from attnreg.regulation.settings import in_window, number, padding_competes, setting, whole_number
from attnreg.regulation.sight import asked

Latent = Float[Tensor, "*latent"]


@dataclass(frozen=True, kw_only=True)
class Saga(LatentSettings):
    """`min_m E_e L(R(m) + S e)`, then the latent `R(m) + S e` for one more e: so goes on what was drawn so far.

    Grimal et al., AAAI 2026. In the first step of the window the picture x is predicted from the latent `A x + S e`.
    m begins as `A` times the mean of x in every channel, and goes downhill by stochastic gradient descent with
    momentum, each time for the mean loss of some fresh noises. `R(m) = m min(1, std(A x) / std(m))` holds its contrast
    to that of the picture. `L` is half of the loss of Attend-and-Excite and half of the overlap
    `sum min(M_s, M_t) / sum (M_s + M_t)` of the targets' maps, mean over their pairs. Defaults as published for Stable
    Diffusion 1.4 (for 3: a window from 5 / 28, momentum .7, 4 noises).

    Where we differ: x is predicted from the latent that is replaced (there: one step earlier), and all noises are
    decided by that latent's signs (there: the last is the one that the picture began with). Every picture learns a
    distribution of its own; as published, one serves all pictures of a prompt, which makes them depend on one another.
    Where latents are packed the mean is that of each packed channel. `step_size` 0 leaves the picture as it is.
    """

    window: tuple[float, float] = in_window(0.2, 0.6)
    updates: int = setting(50, whole_number(1, 10_000), "steps of the descent")
    noises: int = setting(10, whole_number(1, 1000), "how many noises the loss of a step is the mean of")
    momentum: float = setting(0.4, number(0.0, 1.0), "part of the last move that is made again")
    padding: bool = padding_competes()

    asks: ClassVar[frozenset[str]] = frozenset({"level", "picture"})

    def aim(self, maps: Maps, words: PromptWords, step: int, total: int, memory: dict[str, Any]) -> Aim:
        """The mean of neglect and overlap, for one noise."""
        nouns = [parts_of(target, words.prompt).noun for target in words.targets]
        seen = smoothed(maps_of(sharpened(maps.cross, words.columns, self.padding), nouns, maps.grid))
        return Aim((neglect(seen) + overlap(seen)) / 2)

    def update(
        self, latent: Latent, see: See, words: PromptWords, step: int, total: int, memory: dict[str, Any]
    ) -> LatentUpdated:
        """In the first step of the window, a latent of the distribution that is learnt; see `edit.LatentEdit`."""
        size = self.strength * self.step_size
        if not size or "begun" in memory:
            return LatentUpdated(latent)
        see = asked(see, "tells the noise level and the predicted picture")
        memory["begun"] = True
        signal, spread = see.level
        picture = signal * see.picture(latent)
        wide = picture.double() if latent.dtype == torch.float64 else picture
        others = [axis for axis in range(latent.ndim) if axis != see.channel_axis]
        start = wide.mean(others, keepdim=True).expand_as(wide).clone()
        noises = (spread * noise.to(wide) for noise in normal_noises(latent))
        evaluate = _evaluate(lambda z: self.look(z.to(latent.dtype), see, words, step, total, memory))
        learnt, losses = self._learnt(start, wide.std(), noises, size, evaluate)
        passes = 1 + self.noises * len(losses)
        return LatentUpdated((learnt + next(noises)).to(latent.dtype), losses[0], None, passes)

    def _learnt(
        self,
        mean: Latent,
        contrast: Tensor,
        noises: Iterable[Latent],
        size: float,
        evaluate: Callable[[Latent], tuple[float, Latent]],
    ) -> tuple[Latent, list[float]]:
        """The mean of the distribution, its contrast held, and the loss before each step of the descent."""
        drawn, moving, losses = iter(noises), torch.zeros_like(mean), list[float]()
        for _ in range(self.updates):
            with torch.enable_grad():
                free = mean.clone().requires_grad_(True)
                held = held_to(free, contrast)
            found = [evaluate(held.detach() + noise) for noise in islice(drawn, self.noises)]
            losses.append(sum(loss for loss, _ in found) / self.noises)
            pull = torch.stack([slope for _, slope in found]).mean(0)
            (slope,) = torch.autograd.grad(held, free, pull)
            if not bool(slope.any()):
                break
            moving = self.momentum * moving + slope
            mean = mean - size * moving
        return held_to(mean, contrast), losses


def _evaluate(look: Callable[[Latent], Evaluation]) -> Callable[[Latent], tuple[float, Latent]]:
    """A look's loss and its gradient in the latent's own precision, 0 where there is nothing to do."""

    def evaluate(latent: Latent) -> tuple[float, Latent]:
        found = look(latent)
        return found.loss, torch.zeros_like(latent) if found.gradient is None else found.gradient.to(latent.dtype)

    return evaluate


def held_to(mean: Latent, contrast: Float[Tensor, ""]) -> Latent:
    """`R(m)`: scaled down where its standard deviation is above the given one."""
    spread = mean.std()
    return mean * (contrast / spread) if bool(spread > contrast) else mean
