"""The search for an edit by its curvature: Gauss-Newton steps towards the goals that the objective sets each target."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from attnreg.regulation.basis import gaussian_basis
from attnreg.regulation.objective import Objective, quantile_rank
from attnreg.regulation.solver import Solution
from attnreg.types import Grid

BAND = 1.5
"""The quantile is moved by moving this many times the pixels above it: one that rises alone lifts no quantile."""
LEAN = 0.5
"""The term that keeps weights small holds a peak back by this share of what it would: descent settles the rest."""
EDGE = 1e-6
"""Shares of attention are taken to be at least this far from 0 and 1, where log odds end."""


class Frame(NamedTuple):
    """What is the same in every search over so many targets and pixels. Do not write to the tensors: they are kept.

    Goals are the mean shares of all targets, then their peaks. Maps, of which slopes are put together, are `P_t P_u` of
    each target with each group, then 1 at the pixels at which each target's peak is pulled.
    """

    pulled: int
    """Pixels at which a peak is pulled."""
    log_odds: Float[Tensor, " goal"]
    """What the objective wants."""
    scale: Float[Tensor, " entry"]
    """Of the entries of one end of the search: the square root of what their squares count in the objective."""
    centre: Float[Tensor, " entry"]
    """Less what is wanted of them, times that."""
    projection: Float[Tensor, "pixel column"]
    """A map's products with the basis, and its sum, each over the number of pixels."""
    parts: Float[Tensor, "row map"]
    """How maps sum up to the slopes of each goal by each target's edit, then to the mean shares, then to nothing."""
    blank: Float[Tensor, " number"]
    """The memory of one problem as it begins: see `_Memory`."""


@lru_cache(maxsize=64)
def frame_of(
    objective: Objective, targets: int, grid: Grid, spacing: float, dtype: torch.dtype, device: torch.device
) -> Frame:
    """The frame of a search; made once and kept."""
    pixels = grid.pixels
    share = min(1.0, objective.area * targets) / targets
    above, _ = quantile_rank(objective.peak_quantile, pixels, dtype)
    pulled = min(pixels, max(above, math.ceil(BAND * (1 - objective.peak_quantile) * pixels)))
    with torch.inference_mode(False):
        basis = gaussian_basis(grid, spacing, torch.float64, "cpu")
        functions = len(basis)
        each = torch.tensor([share, objective.peak], dtype=torch.float64).repeat_interleave(targets)
        counted = torch.tensor([objective.area_weight, objective.peak_weight], dtype=torch.float64) / targets
        weights = counted.repeat_interleave(targets)
        inside = each.clamp(1e-3, 1 - 1e-3)
        # The loss of a step of log odds near the goal, which is where it counts.
        curvature = weights * (inside * (1 - inside)).square()
        lean = torch.tensor([1.0, LEAN], dtype=torch.float64).repeat_interleave(targets)
        # What the objective's term for the size of the weights adds to the curvature, in units of log odds.
        damping = (lean * objective.size_weight / (targets * functions) / curvature.clamp_min(1e-12)).clamp(1e-6, 1e6)
        of_size = torch.full((targets * functions,), objective.size_weight / (targets * functions)).double()
        scale = torch.cat([of_size, torch.zeros(functions), weights]).sqrt()
        centre = torch.cat([torch.zeros((targets + 1) * functions), -each * weights.sqrt()])
        projection = torch.cat([basis.mT, torch.ones(pixels, 1)], 1) / pixels
        blank = _blank(targets, functions, pixels, damping)
        tensors = inside.logit(), scale, centre, projection, _parts(targets), blank
        return Frame(pulled, *(one.to(device, dtype) for one in tensors))


def _parts(targets: int) -> Float[Tensor, "row map"]:
    """See `Frame.parts`. As all groups sum to 1, `P_t (1 - P_t)` is the sum of `P_t P_u` over the others."""
    slopes = torch.zeros(2, targets, targets, targets * (targets + 2))
    means = torch.zeros(targets, targets * (targets + 2))
    for one in range(targets):
        first = one * (targets + 1)
        slopes[0, one, one, first : first + targets + 1] = 1
        for other in range(targets):
            slopes[0, one, other, first + other] = 0 if other == one else -1
        slopes[0, one, one, first + one] = 0
        slopes[1, one, one, targets * (targets + 1) + one] = 1
        means[one, first : first + targets + 1] = 1
    return torch.cat([slopes.flatten(0, 2), means, torch.zeros_like(means)])


def _blank(targets: int, functions: int, pixels: int, damping: Float[Tensor, " goal"]) -> Float[Tensor, " number"]:
    """Zeros, but for what keeps a slope's divisor from 0, and for the damping."""
    entries, rows = (targets + 1) * functions + 2 * targets, 2 * targets * targets + 2 * targets
    offsets = torch.zeros(rows, functions + 1, dtype=torch.float64)
    own = offsets[: 2 * targets * targets, -1].view(2, targets, targets).diagonal(dim1=1, dim2=2)
    own += EDGE / pixels
    system = torch.cat([damping.diag(), torch.zeros(2 * targets, 1)], 1)
    return torch.cat([torch.zeros((2 * targets + 2) * entries), offsets.flatten(), system.flatten()])


class _Memory:
    """What a search writes to, all of it one tensor: each operation costs, more so on a GPU.

    A problem's entries are rows, all as long: the slopes of each goal, then both ends of the search: the weights of
    now and those of the start, each followed by a row of zeros (the edit of what is no target) and by what is reached.
    """

    def __init__(self, frame: Frame, start: Float[Tensor, "problem target basis"]) -> None:
        problems, targets, functions = start.shape
        goals, weights = 2 * targets, targets * functions
        entries, rows = (targets + 1) * functions + goals, targets * goals + goals
        ends, offsets = goals * entries, (goals + 2) * entries
        system = offsets + rows * (functions + 1)
        first, between = frame.blank[:ends], frame.blank[ends + weights : ends + entries]
        last = frame.blank[ends + entries + weights :]
        begun = start.flatten(1)
        pieces = [first.expand(problems, -1), begun, between.expand(problems, -1), begun, last.expand(problems, -1)]
        whole = torch.cat(pieces, 1)
        state = whole[:, :offsets].unflatten(1, (goals + 2, entries))
        self.ends = state[:, goals:]
        self.reached, self.reached_first = self.ends[:, :, weights + functions :].unbind(1)
        self.slopes = state[:, :goals, :weights]
        self.by_goal = self.slopes.unflatten(1, (2, targets)).unflatten(3, (targets, functions))
        self.weights = state[:, goals : goals + 1, :weights]
        self.with_weights = state[:, : goals + 1, :weights]
        self.edit = state[:, goals, : weights + functions].unflatten(1, (targets + 1, functions))
        self.offsets = whole[:, offsets:system].unflatten(1, (rows, functions + 1))
        self.quantiles = self.offsets[:, -targets:, -1]
        self.system = whole[:, system:].unflatten(1, (goals, goals + 1))


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
    frame = frame_of(objective, targets, grid, spacing, logits.dtype, logits.device)
    everywhere = gaussian_basis(grid, spacing, logits.dtype, logits.device).expand(len(logits), -1, -1)
    memory = _Memory(frame, start)
    shape = len(logits), frame.parts.shape[1], grid.pixels
    maps = torch.empty(shape, dtype=logits.dtype, device=logits.device)
    for turn in range(iterations):
        shares = torch.baddbmm(logits, memory.edit, everywhere).softmax(1)
        largest = shares[:, :-1].topk(frame.pulled, dim=-1).values
        _quantile(objective, grid.pixels, largest, memory.quantiles)
        reached = _slopes(frame, memory, maps, shares, largest[..., -1:])
        if turn == 0:
            memory.reached_first.copy_(reached)
        torch.sub(frame.log_odds, reached.logit(EDGE), out=memory.system[:, :, -1])
        # What is solved, and beside it what is wanted: `J J^T + D` and `J w + goal - z`.
        system = torch.baddbmm(memory.system, memory.slopes, memory.with_weights.mT)
        # It does not wait to learn whether it went well.
        pull = torch.linalg.solve_ex(system[..., :-1], system[..., -1:]).result
        torch.bmm(pull.mT, memory.slopes, out=memory.weights)
    shares = torch.baddbmm(logits, memory.edit, everywhere).softmax(1)[:, :-1]
    torch.mean(shares, -1, out=memory.reached[:, :targets])
    count, _ = quantile_rank(objective.peak_quantile, grid.pixels, logits.dtype)
    _quantile(objective, grid.pixels, shares.topk(count, dim=-1).values, memory.reached[:, targets:])
    if not iterations:
        memory.reached_first.copy_(memory.reached)
    missed = torch.addcmul(frame.centre, memory.ends, frame.scale)
    after, before = (missed @ missed.mT).diagonal(dim1=1, dim2=2).unbind(1)
    better = after < before  # never true of a loss that is no number
    weights = torch.where(better[:, None, None], memory.weights.view_as(start), start)
    return Solution(weights, before, torch.where(better, after, before))


def _quantile(
    objective: Objective,
    pixels: int,
    largest: Float[Tensor, "problem target top"],
    out: Float[Tensor, "problem target"],
) -> None:
    """Write the quantile of each target."""
    count, beyond = quantile_rank(objective.peak_quantile, pixels, largest.dtype)
    torch.lerp(largest[..., count - 1], largest[..., max(count - 2, 0)], beyond, out=out)


def _slopes(
    frame: Frame,
    memory: _Memory,
    maps: Float[Tensor, "problem map pixel"],
    shares: Float[Tensor, "problem group pixel"],
    threshold: Float[Tensor, "problem target 1"],
) -> Float[Tensor, "problem goal"]:
    """Write how the log odds of each goal change with each weight to the memory; `maps` are written to also.

    A mean share's, with each pixel, by `P_t (1 - P_t) / sum P_t (1 - P_t)`, and with another target's pixels by
    `-P_t P_u` over the same; a peak's by 1 over their number at the pixels at the threshold and above.

    Returns:
        What is reached: the mean share of each target, then the quantile of each.
    """
    probability = shares[:, :-1]
    targets, groups = probability.shape[1], shares.shape[1]
    of_pairs = maps[:, : targets * groups].unflatten(1, (targets, groups))
    torch.mul(probability.unsqueeze(2), shares.unsqueeze(1), out=of_pairs)
    # What is masked has no pixel at which it could be pulled.
    least = threshold.clamp_min(torch.finfo(shares.dtype).tiny)
    torch.ge(probability, least, out=maps[:, targets * groups :])
    # One product a problem: in one for all, rounding would depend on how many there are.
    problems = len(shares)
    projected = maps @ frame.projection.expand(problems, -1, -1)
    told = torch.baddbmm(memory.offsets, frame.parts.expand(problems, -1, -1), projected)
    slopes = told[:, : 2 * targets * targets].unflatten(1, (2, targets, targets))
    divisors = slopes[..., -1].diagonal(dim1=2, dim2=3)
    torch.div(slopes[..., :-1], divisors[..., None, None], out=memory.by_goal)
    return told[:, 2 * targets * targets :, -1]
