"""Structured Diffusion: every phrase hands on what it means alone, not what its neighbours made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from attnreg.regulation.edit import PromptWords
from attnreg.regulation.kinds import Embedded, Encode
from attnreg.regulation.settings import GatedSettings, in_window
from attnreg.types import AttnregError
from attnreg.words import numbered


@dataclass(frozen=True, kw_only=True)
class StructuredDiffusion(GatedSettings):
    """`softmax(Q K^T) (V + sum_i V_i) / (n + 1)`: keys of the whole prompt, values of it and of n pasted prompts.

    Feng et al., ICLR 2023, arXiv:2212.05032, equation 5. In the i-th pasted prompt the tokens of the i-th target are
    replaced by what the text encoder makes of the target's words alone. All layers over the text, all steps, the
    prompt's rows only. Values are an affine map of embeddings, so that the mean of the values is the value of the mean
    embedding: one pass, whatever n is.

    A prompt without a noun phrase is drawn unmodified. Where targets are named, they are the phrases.
    """

    window: tuple[float, float] = in_window(0.0, 1.0)

    values_apart: ClassVar[bool] = True
    """Values are made of something else than keys, by a layer's own projection of the embedding."""

    def embed(self, embedding: Float[Tensor, "token channel"], encode: Encode, words: PromptWords) -> Embedded | None:
        """The prompt's embedding as it is for the keys, and the mean of the pasted ones for the values.

        Raises `AttnregError` for a target whose words are other tokens alone than in the prompt.
        """
        exact = embedding.float()
        total = exact.clone()
        for target in words.targets:
            span = list(range(target.tokens[0], target.tokens[-1] + 1))
            alone = encode(numbered(target.text)[0])
            if len(alone.own) != len(span):
                raise AttnregError(
                    f"expected {target} to be {len(span)} tokens when it stands alone, got {len(alone.own)}; "
                    "name whole words of the prompt"
                )
            pasted = exact.clone()
            pasted[span] = alone.embedding[list(alone.own)].to(exact)
            total += pasted
        mean = torch.lerp(exact, total / (len(words.targets) + 1), self.strength)
        return Embedded(embedding, mean.to(embedding.dtype))
