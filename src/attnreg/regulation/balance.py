"""A balance in closed form: each pixel's attention to the targets is shared anew, so that none is drowned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attnreg.regulation.edit import Edited, PromptColumns, check_fit, full_precision
from attnreg.regulation.grouping import add_to_targets, group_logits, membership, target_mass
from attnreg.regulation.settings import EditSettings, in_layers, in_window, number, setting, whole_number
from attnreg.types import Grid, Logits

FAINTEST = 1e-12
"""Attention below which a target counts as having this much: what is masked cannot be raised."""
RELAXATION = 1.5
"""Each round goes this much further than Sinkhorn's own step; eight such rounds do what twelve plain ones would."""


@dataclass(frozen=True, kw_only=True)
class AttentionBalance(EditSettings):
    """`softmax(L + strength * S)` with `S_t(x) = log(gain * M(x) r_t(x) / P_t(x))`: every target gets the same mass.

    Per image and head, `P_t(x)` is the attention of pixel x to target t, `M(x) = sum_t P_t(x)` that to all targets.
    The shares `r` keep each pixel's total and follow the model's own preference as far as equal masses allow:

        r_t(x) = softmax_t((log P_t(x) + g_t) / temperature),   sum_x M(x) r_t(x) = sum_x M(x) / T   for every t

    That is entropic optimal transport from pixels to targets, and `g` its dual, found by Sinkhorn's iteration (Cuturi
    2013, arXiv:1306.0895). `gain` then raises all targets against the other tokens. No gradient, no pattern imposed.
    """

    window: tuple[float, float] = in_window(0.0, 0.67)
    layers: tuple[str, ...] = in_layers("all")
    gain: float = setting(3.0, number(0.0, above_low=True), "the targets' attention is raised by this factor")
    temperature: float = setting(
        0.3,
        number(0.0, above_low=True),
        "how sharply a pixel decides between targets; at 1 as the model does",
    )
    iterations: int = setting(8, whole_number(1, 10_000), "rounds of Sinkhorn's iteration, per layer and step")

    def __call__(
        self,
        logits: Logits,
        prompts: Sequence[PromptColumns],
        grid: Grid,
        step: int,
        layer: str,
        memory: dict[str, Any],
    ) -> Edited:
        """The balanced attention of one layer in one step; see `edit.LogitEdit` for what goes in.

        `memory` is not used: every step is solved on its own. Raises `AttnregError` if the shapes do not fit together.
        """
        check_fit(logits, prompts, grid)
        with full_precision(logits) as logits:
            with torch.no_grad():
                members = membership(tuple(prompts), logits.shape[-1], logits.dtype, logits.device)
                plain = logits.softmax(-1)
                given = group_logits(plain, members)[:, :-1].clamp_min(math.log(FAINTEST))
                total = given.logsumexp(1, keepdim=True)
                shares = shared_anew(given, total, self.temperature, self.iterations)
                edit = (shares + total - given + math.log(self.gain)) * self.strength
            probabilities = add_to_targets(logits, edit, members).softmax(-1)
            return Edited(probabilities, target_mass(plain, members), target_mass(probabilities.detach(), members))


def shared_anew(
    given: Float[Tensor, "problem target pixel"],
    total: Float[Tensor, "problem 1 pixel"],
    temperature: float,
    iterations: int,
) -> Float[Tensor, "problem target pixel"]:
    """`log r`: shares that sum to 1 over targets and give every target the same mass, from `log P` and `log M`.

    Each round sets the factor `u_t = exp(g_t / temperature)` of every target so that its mass is right, the pixels'
    sums being as the round before left them.
    """
    targets = given.shape[1]
    kernel = (given / temperature).softmax(1)
    mass = (total - total.logsumexp(-1, keepdim=True)).exp()
    factors = kernel.new_full((*kernel.shape[:2], 1), 1.0)
    for _ in range(iterations):
        # A target's factor is its due, 1/T, over what it would get with a factor of 1.
        pull = mass / (kernel.mT @ factors).mT
        due = (kernel @ (pull.mT * targets)).reciprocal()
        factors = due**RELAXATION * factors ** (1 - RELAXATION)
    weighted = kernel * factors
    return (weighted / weighted.sum(1, keepdim=True)).clamp_min(FAINTEST).log()
