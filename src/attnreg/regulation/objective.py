"""What an edit is judged by: the published objective and its gradient, by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from attnreg.regulation.settings import EditSettings, number, setting


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The numbers in the objective of Attention Regulation (arXiv:2403.06381, equations 4 to 6 and its public code).

    Per problem, that is per image and head, with edit `S_t(x) = sum_k w[t,k] G_k(x)` and

        P_t(x) = exp(L_t(x) + S_t(x)) / (exp(R(x)) + sum_u exp(L_u(x) + S_u(x)))
        loss   = peak_weight * mean_t (Q_t - peak)^2 + area_weight * mean_t (mean_x P_t - theta / T)^2
                 + size_weight * mean_{t,k} w^2

    `Q_t` is the `peak_quantile` over pixels of `P_t`, linearly interpolated; `theta = min(1, area * T)` the share of
    the map that all T targets together should fill. `R` is the log-sum-exp of the logits of all tokens that are no
    target: they take part through the denominator only, so one row does for them all. A target of several tokens takes
    part as their log-sum-exp `L_t`, which is exact when its edit is added to each of them.
    """

    area: float
    peak: float
    peak_quantile: float
    peak_weight: float
    area_weight: float
    size_weight: float

    @classmethod
    def of(cls, settings: object) -> Objective:
        """The objective with the numbers that `settings` has under the same names."""
        return cls(**{one.name: getattr(settings, one.name) for one in fields(cls)})


@dataclass(frozen=True, kw_only=True)
class ObjectiveSettings(EditSettings):
    """What every edit that lowers the objective can be told; the reference takes each token for a target."""

    area: float = setting(
        0.2, number(0.0, 1.0, above_low=True), "share of the map each target should fill; all together at most 1"
    )
    peak: float = setting(
        0.9, number(0.0, 1.0), "attention a target should reach at the quantile peak_quantile of its map"
    )
    peak_quantile: float = setting(0.9, number(0.0, 1.0), "which quantile of a target's map should reach the peak")
    peak_weight: float = setting(1.0, number(0.0), "how much a missed peak counts")
    area_weight: float = setting(80.0, number(0.0), "how much a missed share of the map counts")
    size_weight: float = setting(0.09, number(0.0), "how much the size of the edit counts against it")
    smoothing: float = setting(0.25, number(0.0, 1.0), "share of the previous step's edit that is kept")
    decay: float = setting(
        0.99, number(0.0, 1.0), "the edit is multiplied by this to the power of the denoising step, counted from 0"
    )

    @property
    def objective(self) -> Objective:
        """What the search lowers."""
        return Objective.of(self)


def loss_and_gradient(
    objective: Objective,
    weights: Float[Tensor, "problem target basis"],
    logits: Float[Tensor, "problem group pixel"],
    basis: Float[Tensor, "#problem basis pixel"],
) -> tuple[Float[Tensor, "problem 1 1"], Float[Tensor, "problem target basis"]]:
    """The loss of every problem and its gradient with respect to the weights `w`.

    `logits` are the rows `L_1 ... L_T, R`. Problems do not see each other.

    By hand, because autograd would record and replay every operation and does not run under `inference_mode`. The chain
    is: loss to `P` (call it `D`); `P` to `S` by the softmax, `P_t (D_t - sum_u P_u D_u)`; `S` to `w`, times `G`. The
    quantile passes its gradient to the two pixels between which it lies; among equal pixels any that sort there serve,
    as in `torch.quantile`.
    """
    targets, pixels = weights.shape[1], logits.shape[2]
    basis = basis.expand(len(weights), -1, -1)
    share = min(1.0, objective.area * targets) / targets

    # One product a problem, never a single large one for all: its rounding would depend on the number of rows, and an
    # image must not depend on its batch mates.
    edited = torch.baddbmm(logits[:, :-1], weights, basis)
    probability = torch.cat([edited, logits[:, -1:]], 1).softmax(1)[:, :-1]

    count, split = quantile_split(objective.peak_quantile, pixels, logits.dtype, logits.device)
    largest, where = probability.topk(count, dim=-1)
    near = largest[..., -len(split) :] * split
    peak_error = near.sum(-1, keepdim=True) - objective.peak
    area_error = probability.mean(-1, keepdim=True) - share

    # Half the derivatives of the loss by Q_t and by mean_x P_t, the former times the number of pixels, for then the
    # mean needs no division in what follows.
    pull = peak_error * (objective.peak_weight * pixels / targets)
    push = area_error * (objective.area_weight / targets)
    errors = torch.addcmul(area_error * push, peak_error, pull, value=1 / pixels).sum(1, keepdim=True)
    loss = torch.add(errors, weights.square().mean((1, 2), keepdim=True), alpha=objective.size_weight)

    # P D, where D is the same for all pixels but those at the quantile.
    weighted = probability * push
    weighted.scatter_add_(-1, where[..., -len(split) :], near * pull)
    by_edit = torch.addcmul(weighted, probability, weighted.sum(1, keepdim=True), value=-1)
    size_slope = 2 * objective.size_weight / (targets * weights.shape[2])
    return loss, torch.baddbmm(weights, by_edit, basis.mT, beta=size_slope, alpha=2 / pixels)


@lru_cache(maxsize=64)
def quantile_split(
    quantile: float, pixels: int, dtype: torch.dtype, device: torch.device
) -> tuple[int, Float[Tensor, " near"]]:
    """Of the `count` largest pixels the last two (the last, for a maximum) sum to the quantile, weighted by `split`.

    The rank is rounded as `torch.quantile` rounds it, in the precision of the map: descent over quantiles is so
    sensitive that the recorded runs are not reproduced otherwise. Do not write to the tensor: it is kept.
    """
    # Even under `inference_mode` a normal tensor is made, for a later caller may be outside of it.
    with torch.inference_mode(False):
        count, beyond = quantile_rank(quantile, pixels, dtype)
        split = [1.0] if count == 1 else [beyond, 1 - beyond]
        return count, torch.tensor(split, dtype=dtype, device=device)


@lru_cache(maxsize=64)
def quantile_rank(quantile: float, pixels: int, dtype: torch.dtype) -> tuple[int, float]:
    """Which of the largest pixels is the last at or below the quantile, and how far beyond it, towards the next."""
    rank = float(torch.tensor(quantile, dtype=dtype) * (pixels - 1))
    return pixels - math.floor(rank), rank - math.floor(rank)
