"""Attention Regulation as this library runs it: its settings, and what it does to one layer in one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attnreg.regulation.basis import gaussian_basis
from attnreg.regulation.edit import Edited, PromptColumns, check_fit, full_precision
from attnreg.regulation.grouping import add_to_targets, group_logits, membership, per_image, target_mass
from attnreg.regulation.objective import ObjectiveSettings
from attnreg.regulation.settings import number, setting, whole_number
from attnreg.regulation.solver import descend
from attnreg.types import AttnregError, Grid, Logits


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

    # Eight of ours end lower than the published twenty on every recorded input; ten leave a margin.
    iterations: int = setting(10, whole_number(0, 10_000), "steps of the search, per layer and denoising step")
    spacing: float = setting(
        0.125,
        number(0.0, 1.0, above_low=True),
        "how fine the edit is: distance of its Gaussians as a share of the map's side",
    )

    def __call__(
        self,
        logits: Logits,
        prompts: Sequence[PromptColumns],
        grid: Grid,
        step: int,
        layer: str,
        memory: dict[str, Any],
    ) -> Edited:
        """The regulated attention of one layer in one denoising step; see `edit.LogitEdit` for what goes in.

        Computes and answers in float32 (float64 for float64 logits) whatever surrounds it. The edit is a constant to
        autograd: gradients reach `logits` through the last softmax only. `memory["weights"]` holds the weights of the
        step before. At `strength` 0 the probabilities are `softmax(logits)` exactly, while the search still runs and
        reports.

        Raises `AttnregError` if the shapes do not fit together or `memory` is of another layer or group.
        """
        check_fit(logits, prompts, grid)
        with full_precision(logits) as logits:
            with torch.no_grad():
                members = membership(tuple(prompts), logits.shape[-1], logits.dtype, logits.device)
                plain = logits.softmax(-1)
                grouped = group_logits(plain, members)
                basis = gaussian_basis(grid, self.spacing, logits.dtype, logits.device)
                shape = torch.Size((len(grouped), grouped.shape[1] - 1, len(basis)))
                previous = _recall(memory, shape, layer)
                start = grouped.new_zeros(shape) if previous is None else previous
                solution = descend(self.objective, grouped, basis, start, self.iterations)
                memory["weights"] = solution.weights
                used = solution.weights if previous is None else solution.weights.lerp(previous, self.smoothing)
                edit = (used * (self.strength * self.decay**step)) @ basis
            probabilities = add_to_targets(logits, edit, members).softmax(-1)
            return Edited(
                probabilities=probabilities,
                mass_before=target_mass(plain, members),
                mass_after=target_mass(probabilities.detach(), members),
                loss_before=per_image(solution.loss_before, len(prompts)),
                loss_after=per_image(solution.loss_after, len(prompts)),
            )


def _recall(memory: dict[str, Any], shape: torch.Size, layer: str) -> Float[Tensor, "problem target basis"] | None:
    weights: Tensor | None = memory.get("weights")
    if weights is not None and weights.shape != shape:
        raise AttnregError(
            f"{layer}: expected a memory of shape {tuple(shape)} (image x head, target, basis), got "
            f"{tuple(weights.shape)}; give every layer and group of images its own memory, empty at the start of a run"
        )
    return weights
