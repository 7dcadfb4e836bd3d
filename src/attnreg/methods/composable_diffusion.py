"""Composable Diffusion: every phrase is denoised alone, and the picture goes where they all pull."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from einops import einsum
from jaxtyping import Float
from torch import Tensor

from attnreg.regulation.edit import PromptWords
from attnreg.regulation.settings import GatedSettings, in_window, numbers, setting
from attnreg.types import AttnregError
from attnreg.words import numbered


def some_numbers(name: str, value: object) -> tuple[float, ...]:
    """Accepts one or more finite numbers."""
    found = numbers()(name, value)
    if not isinstance(found, tuple) or not found:
        raise AttnregError(f"{name}: expected at least one number, got none; write for example (1.0,)")
    return found


@dataclass(frozen=True, kw_only=True)
class ComposableDiffusion(GatedSettings):
    """`eps_0 + sum_i w_i (eps_i - eps_0)`, where `eps_i` is what the denoiser predicts for the i-th target alone.

    Liu et al., ECCV 2022, arXiv:2206.01714, equation 11; `eps_0` is the prediction without a prompt. It is whatever the
    model predicts: noise, velocity or picture. The weights count in units of the pipeline's guidance: one phrase of
    weight w, drawn with guidance g, is guidance w g where the pipeline guides by the plain rule. With guidance off they
    count as they are. A negative weight moves away from a phrase.

    The whole prompt is not heard where `strength` is 1; below, it is mixed in.
    """

    weights: tuple[float, ...] = setting(
        (1.0,), some_numbers, "of the phrases in units of the guidance scale: one for all, or one a target"
    )
    window: tuple[float, float] = in_window(0.0, 1.0)

    def phrases(self, words: PromptWords) -> tuple[str, ...]:
        """The targets' words. Raises `AttnregError` if there are several weights, but not one a target."""
        if len(self.weights) not in (1, len(words.targets)):
            names = ", ".join(target.text for target in words.targets)
            raise AttnregError(
                f"weights: expected one, or one for each of {names}, got {len(self.weights)}; give one a target"
            )
        return tuple(numbered(target.text)[0] for target in words.targets)

    def combine(
        self,
        plain: Float[Tensor, "*latent"],
        unconditional: Float[Tensor, "*latent"],
        alone: Float[Tensor, phrase * latent],
    ) -> Float[Tensor, "*latent"]:
        """The composed prediction, which guidance then moves away from `unconditional`; see `kinds.PredictionEdit`."""
        weights = _one_a_phrase(self.weights, len(alone))
        pull = einsum(
            (alone - unconditional).float(),
            alone.new_tensor(weights).float(),
            "phrase ..., phrase -> ...",
        )
        composed = unconditional.float() + pull
        return plain.float().lerp(composed, self.strength).to(plain.dtype)


def _one_a_phrase(weights: Sequence[float], count: int) -> list[float]:
    return list(weights) * count if len(weights) == 1 else list(weights)
