"""Attention Regulation as this library runs it: its settings, and what it does to one layer in one step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attnreg.regulation.basis import gaussian_basis
from attnreg.regulation.columns import Bias, ColumnAttention
from attnreg.regulation.newton import approach
from attnreg.regulation.objective import ObjectiveSettings
from attnreg.regulation.settings import number, setting, whole_number
from attnreg.regulation.solver import Solution, descend
from attnreg.types import AttnregError, Grid


@dataclass(frozen=True, kw_only=True)
class AttentionRegulation(ObjectiveSettings):
    """Every target gets its share of the picture: `softmax(L + strength * S)`, `S` minimising the published objective.

    Zhang et al., arXiv:2403.06381. `L` are the attention logits; `S_t(x) = sum_k w[t,k] G_k(x)` is added to every
    token of target `t`; `w` lowers `objective.Objective`. Across steps the edit used is
    `(smoothing * S_previous + (1 - smoothing) * S_best) * decay^step`, where `S_previous` is the `S_best` of the step
    before; the first step has none and uses `S_best`.

    Where we differ from the published code (which `ReferenceRegulation` follows to the letter): the basis is even up to
    the edges of any map; the search starts from no edit or from the previous step's, not from noise, and fits its steps
    to the map; each image and head is solved alone; several tokens may form one target; every row still sums to 1.

    A setting out of its range raises `AttnregError`.
    """

    iterations: int = setting(
        2,
        whole_number(0, 10_000),
        "steps of the search by curvature, per layer and denoising step; in the first step of a picture twice as many "
        "and then so many of descent",
    )
    spacing: float = setting(
        0.125,
        number(0.0, 1.0, above_low=True),
        "how fine the edit is: distance of its Gaussians as a share of the map's side",
    )

    def bias(self, attention: ColumnAttention, step: int, layer: str, memory: dict[str, Any]) -> Bias:
        """The regulating edit of one layer in one denoising step; see `columns.LogitEdit` for what goes in.

        The edit is a constant to autograd. `memory["weights"]` holds the weights of the step before. At `strength` 0
        nothing is added, while the search still runs and reports.

        Raises `AttnregError` if `memory` is of another layer or group.
        """
        with torch.no_grad():
            grouped = _group_logits(attention.by_target)
            basis = gaussian_basis(attention.grid, self.spacing, grouped.dtype, grouped.device)
            shape = torch.Size((len(grouped), grouped.shape[1] - 1, len(basis)))
            previous = _recall(memory, shape, layer)
            solution = self._searched(grouped, basis, attention.grid, shape, previous)
            memory["weights"] = solution.weights
            used = solution.weights if previous is None else solution.weights.lerp(previous, self.smoothing)
            # What comes first counts nothing (beta): a product that adds nothing takes no factor.
            factor, everywhere = self.strength * self.decay**step, basis.expand(len(used), -1, -1)
            edit = torch.baddbmm(used[:1, :1, :1], used, everywhere, beta=0, alpha=factor)
            of_heads = attention.probabilities.shape[:2]
            losses = (one.unflatten(0, of_heads) for one in (solution.loss_before, solution.loss_after))
            return Bias(attention.spread(edit.unflatten(0, of_heads).mT), *losses)

    def _searched(
        self,
        logits: Float[Tensor, "problem group pixel"],
        basis: Float[Tensor, "basis pixel"],
        grid: Grid,
        shape: torch.Size,
        previous: Float[Tensor, "problem target basis"] | None,
    ) -> Solution:
        """From the step before on; without one, from no edit, for longer, and down to the corners of the loss."""
        if previous is not None:
            return approach(self.objective, logits, grid, self.spacing, previous, self.iterations)
        near = approach(self.objective, logits, grid, self.spacing, logits.new_zeros(shape), 2 * self.iterations)
        found = descend(self.objective, logits, basis, near.weights, self.iterations)
        return found._replace(loss_before=near.loss_before)


def _group_logits(by_target: Float[Tensor, "image head pixel target"]) -> Float[Tensor, "image*head group pixel"]:
    """`log P` of every target and, in the last row, of all other columns together: logits whose softmax is `P`."""
    of_problems = by_target.flatten(0, 1)
    signs, whole, least = _rest(of_problems.shape[2], by_target.dtype, by_target.device)
    shares = torch.baddbmm(whole, signs.expand(len(of_problems), -1, -1), of_problems.mT)
    return shares.clamp_min_(least).log_()


@lru_cache(maxsize=64)
def _rest(
    targets: int, dtype: torch.dtype, device: torch.device
) -> tuple[Float[Tensor, "group target"], Float[Tensor, "group 1"], Float[Tensor, "group 1"]]:
    """How shares of targets are put together with what they leave, from how much, and how little each may be.

    Do not write to the tensors: they are kept.
    """
    with torch.inference_mode(False):
        each, whole = torch.eye(targets), torch.zeros(targets + 1, 1)
        whole[-1] = 1
        tensors = torch.cat([each, -torch.ones(1, targets)]), whole, whole * torch.finfo(dtype).eps
        signs, whole, least = (one.to(device, dtype) for one in tensors)
        return signs, whole, least


def _recall(memory: dict[str, Any], shape: torch.Size, layer: str) -> Float[Tensor, "problem target basis"] | None:
    weights: Tensor | None = memory.get("weights")
    if weights is not None and weights.shape != shape:
        raise AttnregError(
            f"{layer}: expected a memory of shape {tuple(shape)} (image x head, target, basis), got "
            f"{tuple(weights.shape)}; give every layer and group of images its own memory, empty at the start of a run"
        )
    return weights
