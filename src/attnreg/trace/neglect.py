"""How likely a word is to be missing from a picture, told from where the picture attended to it.

Not by how much: the mean attention of words that are missing is like that of others (docs/results.md). What tells is
whether a word's map has a place of its own. Let `M_t` be the mean map of target t over the steps, smoothed over 3 x 3
positions, and `x_t` where it is largest:

    c_t = M_t(x_t) / mean_x M_t(x) * M_t(x_t) / (M_t(x_t) + max_(s != t) M_s(x_t))

is how far the word stands out from its own map there, times how much of that place it holds against the other word
that is strongest at it. The neglect score is the logistic curve `1 / (1 + (c_t / MIDDLE) ** STEEPNESS)`: on the bundled
model the share of words with that `c_t` that the judge does not see. For other models it puts words in an order; what
its size means there has not been measured.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

MIDDLE, STEEPNESS = 1.43, 3.76
"""Fitted on the development half: `python -m benchmarks.neglect tell`."""
NEGLECTED = 0.32
"""From which score on a word may be missing: where precision and recall were best together on that half."""


def neglect(maps: Float[np.ndarray, "step target height width"]) -> Float[np.ndarray, " target"]:
    """The neglect score of each target, 0 to 1.

    Args:
        maps: attention probabilities, mean over heads and layers.
    """
    return score_of(clarity(maps))


def clarity(maps: Float[np.ndarray, "step target height width"]) -> Float[np.ndarray, " target"]:
    """`c_t`: how clearly each target has a place of its own; 1 for a map that is even, of a single target."""
    mean = maps.mean(0, dtype=np.float64)
    smooth = _smoothed(mean).reshape(len(mean), -1)
    targets, at = np.arange(len(mean)), smooth.argmax(-1)
    peaks = smooth[targets, at]
    rivals = smooth[:, at].copy()
    rivals[targets, targets] = 0
    whole = np.maximum(mean.mean((1, 2)), 1e-12)
    found: Float[np.ndarray, " target"] = peaks / whole * peaks / np.maximum(peaks + rivals.max(0), 1e-12)
    return found


def score_of(clarity: Float[np.ndarray, " target"]) -> Float[np.ndarray, " target"]:
    """The neglect score that a clarity stands for: the clearer, the lower."""
    score: Float[np.ndarray, " target"] = 1 / (1 + (clarity / MIDDLE) ** STEEPNESS)
    return score


def _smoothed(maps: Float[np.ndarray, "target height width"]) -> Float[np.ndarray, "target height width"]:
    """The mean over 3 x 3 positions, the edges repeated."""
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    mean: Float[np.ndarray, "target height width"] = windows.mean((3, 4))
    return mean
