"""Distances between two sets of pictures with intervals over prompts, and the floor that they are read against.

Arrays in, numbers out. A finite set lies at some distance from another of the very same kind, and the fewer pictures,
the farther: such a number says nothing without the distance between two halves of the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from attnreg.errors import AttnregError
from attnreg.measure.distributions import Matrix, cmmd, frechet_distance, kernel_distance, kernel_distance_of_pairs
from attnreg.statistics import LEVEL, Interval


@dataclass(frozen=True)
class Distance:
    """One way to say how far two sets lie apart."""

    apart: Callable[[Matrix, Matrix], float]
    of_pairs: Callable[[Matrix, Matrix], float]
    """The same where row i of both sets is of one prompt and seed."""
    least: float = 0.0


DISTANCES: Mapping[str, Distance] = {
    "frechet": Distance(frechet_distance, frechet_distance),
    # Unbiased, and therefore below 0 as often as above where there is no difference.
    "kernel": Distance(kernel_distance, kernel_distance_of_pairs, least=-np.inf),
    "cmmd": Distance(cmmd, cmmd),
}
RESAMPLES = 200
"""Few, for each of them is a Fréchet distance anew: the ends of an interval are good to about a tenth of its width."""
SPLITS = 100
"""Pairs of random halves: one alone is at the mercy of its lot."""
_MIDDLE = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
FEWEST = 4
"""Pictures of a reference, so that each half has a covariance."""


def distance_between(
    distance: Distance, pictures: Matrix, prompts: Sequence[str], reference: Matrix, *, paired: bool,
    resamples: int = RESAMPLES, seed: int = 0,
) -> Interval:  # fmt: skip
    """The distance of two sets, and its bootstrap interval over prompts; of one prompt alone it is everything.

    paired: row i of the reference is of the same prompt as row i of the pictures, and the two are resampled together;
    otherwise the reference stays as it is, and the interval is of the prompts given that reference.

    Prompts are drawn with replacement, all seeds of a prompt at once. A set that holds some prompts twice lies farther
    from any other than the set it was drawn from, so that plain percentiles of the resampled distances would lie above
    the distance itself. They are moved by the difference between the distance and the resamples' mean: the interval
    tells how far the lot of prompts moves the number, for sets of this size; their bias is the floor's to tell.
    """
    measured = distance.of_pairs if paired else distance.apart
    value = measured(pictures, reference)
    draws = resampled_rows(prompts, resamples, seed)
    if not draws:
        return Interval(value, -np.inf, np.inf)
    drawn = np.array([measured(pictures[rows], reference[rows] if paired else reference) for rows in draws])
    low, high = np.quantile(drawn, _MIDDLE) + value - drawn.mean()
    return Interval(value, float(max(low, distance.least)), float(high))


def resampled_rows(prompts: Sequence[str], resamples: int, seed: int = 0) -> list[Int[np.ndarray, " row"]]:
    """Rows of each resample: as many prompts as there are, drawn with replacement, each with all its rows.

    The same prompts and seed give the same rows. Of fewer than two prompts there is none.
    """
    rows: dict[str, list[int]] = {}
    for row, prompt in enumerate(prompts):
        rows.setdefault(prompt, []).append(row)
    of_prompt = [np.array(some) for some in rows.values()]
    if len(of_prompt) < 2:
        return []
    draw = np.random.default_rng(seed)
    return [
        np.concatenate([of_prompt[i] for i in draw.integers(0, len(of_prompt), len(of_prompt))])
        for _ in range(resamples)
    ]


def floor_of(distance: Distance, reference: Matrix, splits: int = SPLITS, seed: int = 0) -> Interval:
    """The mean distance between two random halves of a set, and where it lies for 95 % of the halves.

    Of an odd number of pictures one is left out each time. Raises `AttnregError` for fewer than 4 pictures.
    """
    if len(reference) < FEWEST:
        raise AttnregError(
            f"expected at least {FEWEST} pictures of the reference, got {len(reference)}; draw more, or give a folder "
            "with more"
        )
    draw = np.random.default_rng(seed)
    half = len(reference) // 2
    lots = [draw.permutation(len(reference)) for _ in range(splits)]
    found = np.array([distance.apart(reference[lot[:half]], reference[lot[half : 2 * half]]) for lot in lots])
    low, high = np.quantile(found, _MIDDLE)
    return Interval(float(found.mean()), float(low), float(high))
