"""The search for an edit: gradient descent whose step fits itself to every problem."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from attnreg.regulation.objective import Objective, loss_and_gradient

GROW, SHRINK = 1.2, 0.5
"""Factors of the step size after a step that was taken and one that was not."""


class Solution(NamedTuple):
    """The best weights found, and the loss at the start and at the end."""

    weights: Float[Tensor, "problem target basis"]
    loss_before: Float[Tensor, " problem"]
    loss_after: Float[Tensor, " problem"]


def descend(
    objective: Objective,
    logits: Float[Tensor, "problem group pixel"],
    basis: Float[Tensor, "basis pixel"],
    start: Float[Tensor, "problem target basis"],
    iterations: int,
) -> Solution:
    """`w <- w - a grad` where that lowers the loss, else `w` stays and the step `a` shrinks; `iterations` times.

    Takes the place of the 20 steps of fixed size from a random start in the public code of Attention Regulation
    (arXiv:2403.06381). That size oscillates for one target and diverges on small maps. Here `a` begins at half of
    Polyak's `loss / |grad|^2`, which would bring the tangent of the loss to 0, so it fits any map, basis and number of
    targets; then it follows what it meets. Every problem has a step size of its own, and takes or refuses a step alone;
    no random number is drawn. The loss never rises, hence never ends above its start.
    """
    basis = basis.unsqueeze(0)
    weights = start
    loss, gradient = loss_and_gradient(objective, weights, logits, basis)
    loss_before = loss
    # At a stationary start the gradient is 0 and any finite step will do.
    step = 0.5 * loss / gradient.square().sum((1, 2), keepdim=True).clamp_min(1e-20)
    grow, shrink = step.new_full((), GROW), step.new_full((), SHRINK)
    for _ in range(iterations):
        trial = torch.addcmul(weights, step, gradient, value=-1)
        trial_loss, trial_gradient = loss_and_gradient(objective, trial, logits, basis)
        # A step into overflow yields NaN, which is not less than anything: it is refused like any other rise.
        better = trial_loss < loss
        weights = torch.where(better, trial, weights)
        gradient = torch.where(better, trial_gradient, gradient)
        loss = torch.where(better, trial_loss, loss)
        step = step * torch.where(better, grow, shrink)
    return Solution(weights, loss_before.flatten(), loss.flatten())
