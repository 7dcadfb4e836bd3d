"""Prompt weighting: the targets' part in what the prompt became, made larger or smaller (the rule of compel)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from attnreg.regulation.edit import PromptWords
from attnreg.regulation.kinds import Embedded, Encode
from attnreg.regulation.settings import GatedSettings, in_window, number, setting
from attnreg.types import Embedding


@dataclass(frozen=True, kw_only=True)
class PromptWeighting(GatedSettings):
    """`z_0 + w (z - z_0)` on the targets' tokens for w >= 1; for w < 1 a blend with the prompt without each target.

    The rule of the library compel (github damian0815/compel). `z` is the prompt's embedding, `z_0` that of the empty
    prompt; on transformers, which read it in chat templates and no longer than it is, that of the prompt with padding
    in each word's place. Below 1 every target t has an embedding `z_t` of its own, in which no token sees it, and the
    blend is `(z + tan((1 - w) pi / 2) sum_t z_t) / (1 + n tan((1 - w) pi / 2))`: z at 1, only the others at 0.

    What the prompt is in one vector (SDXL), and what a ControlNet reads, stays as it was.
    """

    weight: float = setting(1.5, number(0.0), "w: of every target; 1 leaves the prompt as it is")
    window: tuple[float, float] = in_window(0.0, 1.0)

    def embed(self, embedding: Embedding, encode: Encode, words: PromptWords) -> Embedded | None:
        """The prompt's embedding with the targets weighted; see `kinds.EmbeddingEdit`."""
        if self.weight == 1:
            return None
        targets = words.columns.targets
        exact = embedding.float()
        if self.weight > 1:
            columns = [column for target in targets for column in target]
            nothing = encode.emptied().to(exact)
            weighted = exact.clone()
            weighted[columns] = nothing[columns] + self.weight * (exact[columns] - nothing[columns])
        else:
            without = torch.stack([encode(words.prompt, masked=target).embedding.to(exact) for target in targets])
            # tan grows without bound as w falls to 0: its inverse does not.
            share = math.cos((1 - self.weight) * math.pi / 2) / math.sin((1 - self.weight) * math.pi / 2)
            weighted = (share * exact + without.sum(0)) / (share + len(targets))
        made = torch.lerp(exact, weighted, self.strength).to(embedding.dtype)
        return Embedded(made, made)
