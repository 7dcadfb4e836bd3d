"""FRAP: how loudly each word of the prompt is read, learnt while the picture is drawn (arXiv:2408.11706)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from attnreg.heads import parts_of
from attnreg.regulation.attended import distributions, maps_of, sharpened, smoothed, word_columns
from attnreg.regulation.edit import LatentUpdated, Maps, PromptWords
from attnreg.regulation.latent import Aim, LatentSettings, See
from attnreg.regulation.settings import in_window, number, padding_competes, setting
from attnreg.regulation.sight import asked
from attnreg.types import AttnregError, Embedding


@dataclass(frozen=True, kw_only=True)
class Frap(LatentSettings):
    """`w <- w - r dL/dw`, where token i is read as `z_0 + w_i (z_i - z_0)`; the latent is left where it is.

    Jiang et al., TMLR 2025. `L = mean_s (1 - max M_s) - b mean_(s, r) sum_x min(P_s, P_r)`: presence of the nouns s,
    and binding of each noun to its modifiers r. `M` are the smoothed maps of Attend-and-Excite, `P` the same divided by
    their sums. The weights w of all of the prompt's words begin at 1, go one step downhill before each denoising step,
    and are held within `reach` of 1; r is `step_size`. `z_0` is the embedding of the prompt if it said nothing, as
    in prompt weighting.

    The losses are the paper's as summaries of it tell them, but for a factor of one over the map's positions in the
    binding, which is in b here. What could not be read, and is chosen here: the rule by which weights act on the
    embedding, the bounds, r and b, the mean over several nouns and pairs. There the pass that is looked at is the
    step's own, and new weights act from the next step on; here they act at once, for a pass more.

    What the prompt is in one vector (SDXL) stays as it was.
    """

    window: tuple[float, float] = in_window(0.0, 0.5)
    step_size: float = setting(0.5, number(0.0), "r: change of a word's weight for a slope of 1")
    binding: float = setting(1.0, number(0.0), "b: weight of how much a noun's map and those of its modifiers overlap")
    reach: float = setting(0.4, number(0.0, 1.0), "how far from 1 a weight may go")
    padding: bool = padding_competes()

    asks: ClassVar[frozenset[str]] = frozenset({"text"})

    def aim(self, maps: Maps, words: PromptWords, step: int, total: int, memory: dict[str, Any]) -> Aim:
        """The loss of presence less the overlap of binding."""
        sharp = sharpened(maps.cross, words.columns, self.padding)
        parts = [parts_of(target, words.prompt) for target in words.targets]
        nouns = smoothed(maps_of(sharp, [part.noun for part in parts], maps.grid))
        loss = (1 - nouns.flatten(1).amax(-1)).mean()
        pairs = [(number, modifier) for number, part in enumerate(parts) for modifier in part.modifiers]
        if pairs:
            modifiers = smoothed(maps_of(sharp, [modifier for _, modifier in pairs], maps.grid))
            bound = torch.minimum(distributions(nouns)[[number for number, _ in pairs]], distributions(modifiers))
            loss = loss - self.binding * bound.sum(-1).mean()
        return Aim(loss)

    def update(
        self,
        latent: Float[Tensor, "*latent"],
        see: See,
        words: PromptWords,
        step: int,
        total: int,
        memory: dict[str, Any],
    ) -> LatentUpdated:
        """The latent as it is, and the prompt as it is read in this step; see `edit.LatentEdit`."""
        size = self.strength * self.step_size
        if not size:
            return LatentUpdated(latent)
        see = asked(see, "sees under other embeddings")
        prompt, nothing = see.prompt.float(), see.nothing.float()
        if prompt.shape != nothing.shape:
            raise AttnregError(
                f"expected the empty prompt in {len(prompt)} tokens, as the prompt is, got {len(nothing)}; texts of "
                "this model differ in length: choose a method that edits attention"
            )
        columns = list(word_columns(words.columns, len(prompt)))
        weights = memory.get("weights")
        weights = prompt.new_ones(len(columns)) if weights is None else weights

        def read(weights: Float[Tensor, " word"]) -> Embedding:
            return weighted(prompt, nothing, columns, weights)

        found = self.look(weights, lambda w: see.under(read(w), latent), words, step, total, memory)
        if found.gradient is not None:
            weights = (weights - size * found.gradient).clamp(1 - self.reach, 1 + self.reach)
        memory["weights"] = weights
        return LatentUpdated(latent, found.loss, None, 1, text=read(weights))


def weighted(
    prompt: Embedding,
    nothing: Embedding,
    columns: list[int],
    weights: Float[Tensor, " word"],
) -> Embedding:
    """`z_0 + w (z - z_0)` in some columns, z elsewhere."""
    apart = (prompt - nothing)[columns]
    each = weights.view(-1, *[1] * (prompt.ndim - 1))
    return prompt.index_copy(0, torch.tensor(columns, device=prompt.device), nothing[columns] + each * apart)
