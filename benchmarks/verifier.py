"""A verifier for the bundled model, which picks pictures and never judges them: the second judge of `training/`.

Of another make, seed and set of answers than the bundled judge, which tells the figures. What it says of a picture is
how sure it is of the prompt's least sure noun.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from attnreg.errors import AttnregError
from attnreg.measure.asked import Prompt
from training import second_judge
from training.words import NOUNS


class Verifier:
    """Says how likely a picture shows every thing of its prompt."""

    def __init__(self) -> None:
        self.network = second_judge.opened()

    def __call__(self, pictures: Sequence[Any], prompts: Sequence[Prompt]) -> list[float]:
        """The smallest logit of the prompt's nouns, one a picture: above 0 it takes every thing to be there.

        Args:
            pictures: of the bundled model, 128 x 128.
            prompts: of each, with the things it names.

        Raises:
            AttnregError: a prompt names no thing, or one that the verifier was not taught.
        """
        asked = [[_place(thing.noun, prompt.text) for thing in prompt.things] for prompt in prompts]
        if empty := [prompt.text for prompt, places in zip(prompts, asked, strict=True) if not places]:
            raise AttnregError(f"verifier: expected a prompt whose things are listed, got {empty[0]!r} without")
        pixels = np.stack([np.asarray(picture.convert("RGB")) for picture in pictures])
        with torch.inference_mode():
            logits = self.network(torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(127.5).sub(1))
        return [float(row[places].min()) for row, places in zip(logits, asked, strict=True)]


def _place(noun: str, prompt: str) -> int:
    if noun not in NOUNS:
        raise AttnregError(
            f"verifier: expected nouns of the bundled model ({', '.join(NOUNS)}), got {noun} in {prompt!r}"
        )
    return NOUNS.index(noun)
