"""The published behaviour of Attention Regulation, defects included: the yardstick for everything else here."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from attnreg.regulation.edit import Edited, PromptColumns, check_fit, full_precision
from attnreg.regulation.grouping import add_to_targets, group_logits, membership, per_image, target_mass
from attnreg.regulation.objective import ObjectiveSettings, loss_and_gradient
from attnreg.regulation.settings import number, setting, whole_number
from attnreg.types import AttnregError, Grid, Logits


@dataclass(frozen=True, kw_only=True)
class ReferenceRegulation(ObjectiveSettings):
    """Attention Regulation as its authors' code runs it (arXiv:2403.06381, github YaNgZhAnG-V5/attention_regulation).

    In Stable Diffusion, layers "auto" are the published down_blocks.2 and up_blocks.1; elsewhere they are their like.
    For comparison, not for use: prefer `AttentionRegulation`. Kept as published: every token is a target of its own;
    `w` starts uniform in [0, 1); 20 steps `w <- w - 100 grad`; the best of them is chosen for the whole batch at once;
    the edit is `(0.25 S_previous + 0.75 S_best) 0.99^step`, where the first step takes the random start for
    `S_previous`; after the softmax the columns of the start token and of the first end-of-text token get their old
    values back, so that rows no longer sum to 1.

    Where we differ, so that it is defined everywhere: the random start comes from a generator of its own, seeded by
    `start_seed`, layer and step, and leaves the global one alone; logits are not rounded to float16; `sigma` is at
    least 1, height and width are counted apart, and each layer remembers its own edit. Images whose targets have
    different numbers of tokens are solved as separate batches.

    A setting out of its range raises `AttnregError`.
    """

    iterations: int = setting(20, whole_number(1, 10_000), "steps of the search, per layer and denoising step")
    step_size: float = setting(100.0, number(0.0), "size of the steps of the search")
    start_seed: int = setting(0, whole_number(0, 2**31 - 1), "decides the random starts of the search")

    def __call__(
        self,
        logits: Logits,
        prompts: Sequence[PromptColumns],
        grid: Grid,
        step: int,
        layer: str,
        memory: dict[str, Any],
    ) -> Edited:
        """The attention of one layer in one denoising step as published; see `edit.ProbabilityEdit` for what goes in.

        Computes and answers in float32 (float64 for float64 logits). `memory["edits"]` holds the best edit
        of the step before, per number of tokens.

        Raises `AttnregError` if the shapes do not fit together, or if the map is so small that the published basis has
        no function on it.
        """
        check_fit(logits, prompts, grid)
        with full_precision(logits) as logits, torch.no_grad():
            members = membership(tuple(prompts), logits.shape[-1], logits.dtype, logits.device)
            plain = logits.softmax(-1)
            probabilities = plain.clone()
            before, after = logits.new_zeros(len(prompts)), logits.new_zeros(len(prompts))
            edits: dict[int, Tensor] = memory.setdefault("edits", {})
            for count, rows in _images_by_tokens(prompts).items():
                pieces = [_every_token_a_target(prompts[row]) for row in rows]
                size = (len(rows) * logits.shape[1], count, len(published_basis(grid)))
                start = self.random_start(size, step, layer).to(logits)
                probabilities[rows], edits[count], before[rows], after[rows] = self.from_start(
                    logits[rows], pieces, grid, step, start, edits.get(count)
                )
            return Edited(
                probabilities=probabilities,
                mass_before=target_mass(plain, members),
                mass_after=target_mass(probabilities, members),
                loss_before=before,
                loss_after=after,
            )

    def random_start(self, size: tuple[int, int, int], step: int, layer: str) -> Float[Tensor, "problem target basis"]:
        """Weights uniform in [0, 1), decided by the seed, the layer's name and the step alone; float32, on the CPU."""
        generator = torch.Generator().manual_seed(zlib.crc32(f"{self.start_seed} {step} {layer}".encode()))
        return torch.rand(size, generator=generator, dtype=torch.float32, device="cpu")

    def from_start(
        self,
        logits: Logits,
        prompts: Sequence[PromptColumns],
        grid: Grid,
        step: int,
        start: Float[Tensor, "problem target basis"],
        previous: Float[Tensor, "problem target pixel"] | None,
    ) -> tuple[
        Float[Tensor, "image head pixel token"],
        Float[Tensor, "problem target pixel"],
        Float[Tensor, " image"],
        Float[Tensor, " image"],
    ]:
        """The edit from given weights: probabilities, best edit found, and each image's loss at the start and there."""
        members = membership(tuple(prompts), logits.shape[-1], logits.dtype, logits.device)
        basis = published_basis(grid).to(logits)
        plain = logits.softmax(-1)
        weights, before, after = self._descend(group_logits(plain, members), basis, start)
        best = weights @ basis
        blend = self.smoothing * (start @ basis if previous is None else previous) + (1 - self.smoothing) * best
        edited = add_to_targets(logits, blend * (self.strength * self.decay**step), members).softmax(-1)
        for image, prompt in enumerate(prompts):
            for column in (prompt.start_of_text, prompt.end_of_text):
                if column is not None:
                    edited[image, :, :, column] = plain[image, :, :, column]
        return edited, best, per_image(before, len(prompts)), per_image(after, len(prompts))

    def _descend(
        self,
        logits: Float[Tensor, "problem group pixel"],
        basis: Float[Tensor, "basis pixel"],
        weights: Float[Tensor, "problem target basis"],
    ) -> tuple[Float[Tensor, "problem target basis"], Float[Tensor, " problem"], Float[Tensor, " problem"]]:
        # The published loss is the mean over problems and its step is multiplied by their number: as here.
        trail = []
        for _ in range(self.iterations):
            loss, gradient = loss_and_gradient(self.objective, weights, logits, basis.unsqueeze(0))
            trail.append((weights, loss.flatten()))
            weights = weights - self.step_size * gradient
        means = torch.stack([loss.mean() for _, loss in trail])
        best = int(means.nan_to_num(torch.inf).argmin())
        return trail[best][0], trail[0][1], trail[best][1]


@lru_cache(maxsize=64)
def published_basis(grid: Grid) -> Float[Tensor, "basis pixel"]:
    """`G_k(x) = exp(-|x - c_k|^2 / (2 sigma^2))`, `sigma = width // 16`, centres at `range(2 sigma, side, 2 sigma)`.

    As in the authors' code: off-centre, and 49 functions on square maps of side 16, 32 and 64. Extended to narrower
    maps by `sigma >= 1`, and to maps that are not square by their real height. Do not write to the tensor: it is kept.

    Raises `AttnregError` for a map on which no centre lies.
    """
    sigma = max(1, grid.width // 16)
    if min(grid) <= 2 * sigma:
        raise AttnregError(
            f"expected a map whose sides exceed {2 * sigma}, got {grid.height} x {grid.width}, on which the published "
            "basis has no function; leave this layer out or use AttentionRegulation"
        )
    with torch.inference_mode(False):
        rows, columns = (
            torch.exp(-((torch.arange(side) - torch.arange(2 * sigma, side, 2 * sigma)[:, None]) ** 2) / (2 * sigma**2))
            for side in grid
        )
        # The authors count centres column by column, pixels row by row; recorded starts depend on it.
        product = einsum(columns, rows, "column width, row height -> column row height width")
        return rearrange(product, "column row height width -> (column row) (height width)")


def _images_by_tokens(prompts: Sequence[PromptColumns]) -> dict[int, list[int]]:
    groups: dict[int, list[int]] = {}
    for image, prompt in enumerate(prompts):
        groups.setdefault(sum(map(len, prompt.targets)), []).append(image)
    return groups


def _every_token_a_target(prompt: PromptColumns) -> PromptColumns:
    tokens = tuple((column,) for target in prompt.targets for column in target)
    return PromptColumns(tokens, prompt.start_of_text, prompt.end_of_text)
