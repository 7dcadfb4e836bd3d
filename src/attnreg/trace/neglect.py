"""How likely a word is to be missing from a picture, told from where the picture attended to it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

NEGLECTED = 0.5
"""From which score on a word counts as neglected."""


def neglect(
    maps: Float[np.ndarray, "step target height width"], steps: Sequence[int], total: int
) -> Float[np.ndarray, " target"]:
    """One number a target."""
    mean = maps.mean(0)
    peak = mean.max((1, 2)) / np.maximum(mean.mean((1, 2)), 1e-12)
    score: Float[np.ndarray, " target"] = 1 / peak
    return score
