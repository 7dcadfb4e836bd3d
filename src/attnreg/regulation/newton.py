"""The search for an edit by its curvature: Gauss-Newton steps towards the goals that the objective sets each target."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from attnreg.regulation.basis import Separated, gaussian_basis, separated_basis
from attnreg.regulation.objective import Objective, quantile_rank
from attnreg.regulation.solver import Solution
from attnreg.types import Grid

BAND = 1.5
"""The quantile is moved by moving this many times the pixels above it: one that rises alone lifts no quantile."""
LEAN = 0.5
"""The term that keeps weights small holds a peak back by this share of what it would: descent settles the rest."""
EDGE = 1e-6
"""Shares of attention are taken to be at least this far from 0 and 1, where log odds end."""


class Goals(NamedTuple):
    """What a problem of so many targets is to reach; mean shares of all targets first, then their peaks."""

    pulled: int
    """Pixels at which a peak is pulled."""
    values: Float[Tensor, " goal"]
    log_odds: Float[Tensor, " goal"]
    weights: Float[Tensor, " goal"]
    """Of the squared distances, in the objective."""
    damping: Float[Tensor, "goal goal"]
    """What the objective's term for the size of the weights adds to the curvature, in units of log odds."""


@lru_cache(maxsize=64)
def goals_of(
    objective: Objective, targets: int, functions: int, pixels: int, dtype: torch.dtype, device: torch.device
) -> Goals:
    """Do not write to the tensors: they are kept."""
    share = min(1.0, objective.area * targets) / targets
    above, _ = quantile_rank(objective.peak_quantile, pixels, dtype)
    pulled = min(pixels, max(above, math.ceil(BAND * (1 - objective.peak_quantile) * pixels)))
    with torch.inference_mode(False):
        each = torch.tensor([share, objective.peak], dtype=torch.float64).repeat_interleave(targets)
        counted = torch.tensor([objective.area_weight, objective.peak_weight], dtype=torch.float64) / targets
        weights = counted.repeat_interleave(targets)
        inside = each.clamp(1e-3, 1 - 1e-3)
        # The loss of a step of log odds near the goal, which is where it counts.
        curvature = weights * (inside * (1 - inside)).square()
        lean = torch.tensor([1.0, LEAN], dtype=torch.float64).repeat_interleave(targets)
        damping = (lean * objective.size_weight / (targets * functions) / curvature.clamp_min(1e-12)).clamp(1e-6, 1e6)
        tensors = each, inside.logit(), weights, damping.diag()
        return Goals(pulled, *(one.to(device, dtype) for one in tensors))


def approach(
    objective: Objective,
    logits: Float[Tensor, "problem group pixel"],
    grid: Grid,
    spacing: float,
    start: Float[Tensor, "problem target basis"],
    iterations: int,
) -> Solution:
    """`w <- J^T (J J^T + D)^-1 (J w + goal - z(w))`: the smallest weights that would reach the goals, some times over.

    `z` are the log odds of each target's mean share and of its peak, `goal` those that the objective wants, `J` how `z`
    changes with the weights, `D` what the weights' own term in the objective tells against moving. It is a Gauss-Newton
    step of the objective in log odds, in which the softmax is nearly straight from neglect to dominance; written for
    the few goals, not for the many weights, so that what is solved is a system of two equations a target. All problems,
    that is images and heads, take their steps at once and alone.

    The quantile has no useful slope: it depends on two pixels. In its place the mean over the pixels near and above it
    is moved. So the steps aim beside the loss's own minimum by a little; `solver.descend` goes the rest of the way.

    Args:
        objective: what is lowered.
        logits: the rows `L_1 ... L_T, R`, as `objective.loss_and_gradient` takes them.
        grid: height and width of the map.
        spacing: of the basis.
        start: weights to begin with.
        iterations: steps.

    Returns:
        The weights at the end, or those at the start for every problem whose loss did not fall.
    """
    targets = start.shape[1]
    basis = gaussian_basis(grid, spacing, logits.dtype, logits.device)
    factors = separated_basis(grid, spacing, logits.dtype, logits.device)
    goals = goals_of(objective, targets, len(basis), grid.pixels, logits.dtype, logits.device)
    everywhere = basis.expand(len(logits), -1, -1)
    edited = logits.clone()
    rows = logits.new_zeros(len(logits), 2 * targets, targets, grid.pixels)
    divisors = logits.new_full((len(logits), 2 * targets, 1), goals.pulled)
    reached = torch.empty(2, *rows.shape[:2], dtype=logits.dtype, device=logits.device)
    weights, last = start, min(iterations, 1)
    for turn in range(iterations):
        here = reached[min(turn, 1)]
        torch.baddbmm(logits[:, :-1], weights, everywhere, out=edited[:, :-1])
        probability = edited.softmax(1)[:, :-1]
        largest = probability.topk(goals.pulled, dim=-1).values
        _reach(objective, probability, largest, here)
        # What is masked has no pixel at which it could be pulled.
        threshold = largest[..., -1:].clamp_min(torch.finfo(logits.dtype).tiny)
        slopes = _slopes(rows, divisors, probability, threshold, grid, factors)
        missed = goals.log_odds - here.logit(EDGE)
        wanted = torch.baddbmm(missed.unsqueeze(-1), slopes, weights.flatten(1).unsqueeze(-1))
        curvature = torch.baddbmm(goals.damping, slopes, slopes.mT)
        pull = torch.linalg.solve_ex(curvature, wanted).result  # it does not wait to learn whether it went well
        weights = (pull.mT @ slopes).view_as(start)
    torch.baddbmm(logits[:, :-1], weights, everywhere, out=edited[:, :-1])
    probability = edited.softmax(1)[:, :-1]
    count, _ = quantile_rank(objective.peak_quantile, grid.pixels, logits.dtype)
    _reach(objective, probability, probability.topk(count, dim=-1).values, reached[last])
    before, after = _losses(objective, goals, reached[: last + 1], (start, weights))
    better = after < before  # never true of a loss that is no number
    return Solution(torch.where(better[:, None, None], weights, start), before, torch.where(better, after, before))


def _reach(
    objective: Objective,
    probability: Float[Tensor, "problem target pixel"],
    largest: Float[Tensor, "problem target top"],
    reached: Float[Tensor, "problem goal"],
) -> None:
    """Write the mean share of each target, then the quantile of each."""
    targets, pixels = probability.shape[1:]
    count, beyond = quantile_rank(objective.peak_quantile, pixels, probability.dtype)
    torch.mean(probability, -1, out=reached[:, :targets])
    torch.lerp(largest[..., count - 1], largest[..., max(count - 2, 0)], beyond, out=reached[:, targets:])


def _slopes(
    rows: Float[Tensor, "problem goal target pixel"],
    divisors: Float[Tensor, "problem goal 1"],
    probability: Float[Tensor, "problem target pixel"],
    threshold: Float[Tensor, "problem target 1"],
    grid: Grid,
    factors: Separated,
) -> Float[Tensor, "problem goal weight"]:
    """How the log odds of each goal change with each weight; `rows` and `divisors` are written to.

    A mean share's, with each pixel, by `P_t (1 - P_t) / sum P_t (1 - P_t)`, and with another target's pixels by
    `-P_t P_u` over the same; a peak's by 1 over their number at the pixels at the threshold and above. What is 0 in
    `rows` stays so: a peak does not look at other targets.
    """
    targets = probability.shape[1]
    own = rows.diagonal(dim1=1, dim2=2).mT  # shares with their own targets; here all with the opposite sign
    torch.mul(probability.unsqueeze(2), probability.unsqueeze(1), out=rows[:, :targets])
    own -= probability
    torch.sum(own, -1, keepdim=True, out=divisors[:, :targets]).clamp_max_(-EDGE)
    torch.ge(probability, threshold, out=rows[:, targets:].diagonal(dim1=1, dim2=2).mT)
    # One product a problem: in one for all, rounding would depend on how many there are.
    across = rows.view(len(rows), -1, grid.width) @ factors.columns.mT.expand(len(rows), -1, -1)
    across = across.view(-1, grid.height, len(factors.columns))
    weights = factors.rows.expand(len(across), -1, -1) @ across
    return weights.view(*rows.shape[:2], -1) / divisors


def _losses(
    objective: Objective,
    goals: Goals,
    reached: Float[Tensor, "ends problem goal"],
    weights: tuple[Float[Tensor, "problem target basis"], Float[Tensor, "problem target basis"]],
) -> Float[Tensor, "two problem"]:
    """The objective at both ends of the search; of a search without steps these are one."""
    missed = reached - goals.values
    sizes = torch.stack(weights).square().mean((2, 3))
    return torch.add(missed.square() @ goals.weights, sizes, alpha=objective.size_weight)
