"""SynGen: a noun and its modifiers shall be seen in one place, apart from the other words (arXiv:2306.08877)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from attnreg.heads import Parts, parts_of
from attnreg.regulation.attended import distributions, word_columns
from attnreg.regulation.edit import Maps, PromptWords
from attnreg.regulation.latent import Aim, LatentSettings


@dataclass(frozen=True, kw_only=True)
class SynGen(LatentSettings):
    """`L = sum_(n, m) [F(n, m) - mean_u (F(n, u) + F(m, u)) / 2]` over nouns n, their modifiers m, words u outside.

    Rassin et al., NeurIPS 2023, the positive and the negative loss. F is the mean of both Kullback-Leibler divergences
    of two words' attention, each divided by its sum over the pixels, without softmax or smoothing; the largest over the
    pieces of the words. u are the tokens outside the noun's phrase. The parse is `attnreg.phrases`' own (spaCy where a
    model of it is installed, as published). Nouns without modifiers add nothing, and a prompt of such nouns only is
    left as it is. The step size is constant.
    """

    def aim(self, maps: Maps, words: PromptWords, step: int, total: int, memory: dict[str, Any]) -> Aim:
        """The loss over all pairs of the prompt; 0 if it has none."""
        parts = [parts_of(target, words.prompt) for target in words.targets]
        return Aim(syntactic_loss(maps.cross, parts, word_columns(words.columns, maps.cross.shape[-1])))

    def pace(self, step: int, total: int) -> float:
        """Always the full step size."""
        return 1.0


def syntactic_loss(
    cross: Float[Tensor, "pixel token"], parts: Sequence[Parts], tokens: Sequence[int]
) -> Float[Tensor, ""]:
    """The loss of `SynGen`, for phrases that lie among the `tokens` of the prompt's own words."""
    loss = cross.new_zeros(())
    distances = symmetric_divergences(cross)
    for part in parts:
        phrase = {*part.noun, *(column for modifier in part.modifiers for column in modifier)}
        outside = [token for token in tokens if token not in phrase]
        for modifier in part.modifiers:
            loss = loss + distances[list(part.noun)][:, list(modifier)].amax()
            if outside:
                away = [distances[list(word)][:, outside].amax(0).mean() for word in (part.noun, modifier)]
                loss = loss - (away[0] + away[1]) / 2
    return loss


def symmetric_divergences(cross: Float[Tensor, "pixel token"]) -> Float[Tensor, "token token"]:
    """`(KL(p_i, p_j) + KL(p_j, p_i)) / 2 = sum_x (p_i - p_j)(log p_i - log p_j) / 2` of every pair, in nats."""
    p = distributions(cross.T)
    log = p.log()
    agree, negated_entropy = p @ log.T, (p * log).sum(-1)
    return (negated_entropy[:, None] + negated_entropy[None, :] - agree - agree.T) / 2
