"""Moving the latent downhill on a loss of what the model attends to: the one loop of all methods that do it.

`z <- z - a_i dL/dz` before a denoising step is taken from z, where L is a loss of the attention maps that the denoiser
makes from z and the prompt (Chefer et al., 2023, arXiv:2301.13826, algorithm 1). The gradient is the denoiser's own.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from attnreg.regulation.edit import LatentUpdated, Maps, PromptWords
from attnreg.regulation.settings import EditSettings, number, numbers, padding_competes, setting, whole_number
from attnreg.types import AttnregError

See = Callable[[Tensor], Maps]


class Aim(NamedTuple):
    """What a method makes of one look at the maps."""

    loss: Float[Tensor, ""]
    """Goes downhill; exactly 0 means that there is nothing to do."""
    attained: float = -math.inf
    """Goes up; refinement ends when it reaches its threshold."""


class Refinement(NamedTuple):
    """How a step is to be refined: more updates before its ordinary one."""

    threshold: float
    """Of `Aim.attained`; infinite: until the cap."""
    cap: int


class Evaluation(NamedTuple):
    """One pass of the denoiser: what was aimed at, and the gradient of its loss (`None`: nothing to do)."""

    aim: Aim
    loss: float
    gradient: Float[Tensor, "*latent"] | None


@dataclass(frozen=True, kw_only=True)
class LatentSettings(EditSettings, ABC):
    """What every latent edit can be told; a method is a subclass that says what it aims at."""

    step_size: float = setting(20.0, number(0.0), "length of the latent's move for a gradient of length 1")

    needs_self: ClassVar[bool] = False

    @abstractmethod
    def aim(self, maps: Maps, words: PromptWords, step: int, total: int, memory: dict[str, Any]) -> Aim:
        """The loss of what the model attends to; differentiable in the maps."""

    def refinement(self, step: int, total: int) -> Refinement | None:
        """Whether this step is refined, and until when."""
        return None

    def pace(self, step: int, total: int) -> float:
        """Factor of the step size: the root of a line from 1 in the first denoising step to 1/2 in the last."""
        return math.sqrt(1 - 0.5 * step / max(1, total - 1))

    def update(
        self,
        latent: Float[Tensor, "*latent"],
        see: See,
        words: PromptWords,
        step: int,
        total: int,
        memory: dict[str, Any],
    ) -> LatentUpdated:
        """The latent moved once, and before that as often as `refinement` asks; see `edit.LatentEdit`.

        As published, the loss is compared with its threshold after the move made with its own gradient: a refinement
        ends one move later than the threshold is reached. Here each latent is looked at once, there twice at the start.

        Raises `AttnregError` if a loss or a gradient is not finite.
        """
        size = self.strength * self.step_size * self.pace(step, total)
        if not size:
            return LatentUpdated(latent)
        moved, look, passes = latent, self.look(latent, see, words, step, total, memory), 1
        before, refinement = look.loss, self.refinement(step, total)
        if refinement and look.aim.attained < refinement.threshold:
            for turn in range(refinement.cap):
                if look.gradient is None:  # the maps would stay as they are
                    break
                met = turn > 0 and look.aim.attained >= refinement.threshold
                moved = moved - size * look.gradient
                look, passes = self.look(moved, see, words, step, total, memory), passes + 1
                if met:
                    break
        if look.gradient is None:
            return LatentUpdated(moved, before, look.loss, passes)
        return LatentUpdated(moved - size * look.gradient, before, None, passes)

    def look(
        self,
        latent: Float[Tensor, "*latent"],
        see: See,
        words: PromptWords,
        step: int,
        total: int,
        memory: dict[str, Any],
    ) -> Evaluation:
        """One pass of the denoiser from a latent, and one back; the gradient has the latent's own type.

        Raises `AttnregError` if the loss or the gradient is not finite.
        """
        # The pipeline may run in inference mode, under which nothing has a gradient; a copy made outside of it has one.
        with torch.inference_mode(False), torch.enable_grad():
            z = latent.detach().clone().requires_grad_(True)
            maps = see(z)
            with torch.autocast(z.device.type, enabled=False):
                aim = self.aim(in_full_precision(maps), words, step, total, memory)
            loss = float(aim.loss.detach())
            if not math.isfinite(loss):
                raise self._not_finite("loss", step, z.dtype)
            if not loss or not aim.loss.requires_grad:
                return Evaluation(aim, loss, None)
            (gradient,) = torch.autograd.grad(aim.loss, z, allow_unused=True)
        if gradient is None:
            raise AttnregError(
                f"expected maps that depend on the latent, got a loss of {type(self).__name__} that does not; "
                "`see` must run the denoiser with gradients on the very tensor that it is given"
            )
        if not bool(torch.isfinite(gradient).all()):
            raise self._not_finite("gradient", step, z.dtype)
        return Evaluation(aim._replace(loss=aim.loss.detach()), loss, gradient)

    def _not_finite(self, what: str, step: int, dtype: torch.dtype) -> AttnregError:
        wide = dtype in (torch.float32, torch.float64)
        remedy = "choose a smaller step_size" if wide else "load the model with dtype float32 or bfloat16"
        return AttnregError(
            f"{type(self).__name__}: expected a finite {what} in step {step}, got infinities or NaN in "
            f"{str(dtype).removeprefix('torch.')}; {remedy}"
        )


@dataclass(frozen=True, kw_only=True)
class RefinedSettings(LatentSettings, ABC):
    """Of the methods that refine as Attend-and-Excite does: until each target's map has reached what is due."""

    refinements: int = setting(20, whole_number(0, 1000), "most extra updates of a step in which a threshold is due")
    thresholds: tuple[float, ...] = setting(
        (0.05, 0.5, 0.8),
        numbers(0.0, 1.0),
        "what each target's map must reach, peak or total variation, at the start and after 1/5, 2/5 ... of the steps",
    )
    padding: bool = padding_competes()

    def refinement(self, step: int, total: int) -> Refinement | None:
        """Until the threshold that is due."""
        return scheduled(self.thresholds, self.refinements, step, total)


def in_full_precision(maps: Maps) -> Maps:
    """The maps in float32, or float64 if they are: half precision holds too few digits for a softmax of 100 A."""
    if maps.cross.dtype in (torch.float32, torch.float64):
        return maps
    return replace(maps, cross=maps.cross.float(), own=None if maps.own is None else maps.own.float())


def scheduled(thresholds: Sequence[float], cap: int, step: int, total: int) -> Refinement | None:
    """The refinement of a step, where the k-th threshold is due after k fifths of the steps.

    In the published 50 steps these are 0, 10 and 20. If several are due in one step, the last of them counts.
    """
    due = [threshold for k, threshold in enumerate(thresholds) if round(k * total / 5) == step]
    return Refinement(due[-1], cap) if due and cap else None
