"""Parts of a prompt set: its development and its test half, and a smaller set that stands for the whole."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import NamedTuple

from attnreg.errors import AttnregError
from attnreg.measure.asked import Prompt


class Halves(NamedTuple):
    """A prompt set in two: settings are chosen on the one and reported on the other."""

    development: tuple[Prompt, ...]
    test: tuple[Prompt, ...]


def halves(prompts: Sequence[Prompt], seed: int = 0) -> Halves:
    """Every prompt in one of two halves, each with half of every category (to one prompt), in the set's order.

    Prompts of the same words, in whatever order ("a cat and a dog", "a dog and a cat", the swapped captions of
    ABC-6K), go to the same half: else the test would hold what was tuned on. Which half a prompt goes to depends on
    the seed and on which prompts the set has, not on their order; so split first, and take fewer afterwards.

    Args:
        prompts: the whole set.
        seed: of the lot.

    Returns:
        The development half, which settings are chosen on, and the test half.
    """
    alike: dict[tuple[str, ...], list[Prompt]] = {}
    for prompt in prompts:
        alike.setdefault(tuple(sorted(re.findall(r"\w+", prompt.text.lower()))), []).append(prompt)
    strata: dict[str, list[tuple[str, ...]]] = {}
    for words, group in sorted(alike.items()):
        strata.setdefault(min(prompt.category for prompt in group), []).append(words)
    development: set[tuple[str, ...]] = set()
    odd = False
    for category, members in sorted(strata.items()):
        random.Random(f"halves {seed} {category}").shuffle(members)
        # Of the categories with an odd number, one gives the prompt left over to this half, the next to that.
        development.update(members[: (len(members) + odd) // 2])
        odd ^= len(members) % 2 == 1
    chosen = {id(prompt) for words in development for prompt in alike[words]}
    return Halves(
        tuple(prompt for prompt in prompts if id(prompt) in chosen),
        tuple(prompt for prompt in prompts if id(prompt) not in chosen),
    )


def fewer(prompts: Sequence[Prompt], limit: int, seed: int = 0) -> tuple[Prompt, ...]:
    """So many of the prompts, drawn from the seed, each category with its share (to one prompt), in the set's order.

    Of one set and seed, a smaller choice is part of every larger one: raising the limit keeps what was drawn.

    Args:
        prompts: the set, or a half of it.
        limit: how many to take.
        seed: of the lot.

    Returns:
        So many prompts; all of them if there are no more.

    Raises:
        AttnregError: the limit is below 1.
    """
    if limit < 1:
        raise AttnregError(f"expected a limit of 1 or more prompts, got {limit}; leave it out to take all")
    strata: dict[str, list[int]] = {}
    for index, prompt in enumerate(prompts):
        strata.setdefault(prompt.category, []).append(index)
    places: list[tuple[float, float, int]] = []
    for category, members in sorted(strata.items()):
        rng = random.Random(f"fewer {seed} {category}")
        rng.shuffle(members)
        # Members of every category stand evenly along the line from 0 to 1; whoever asks for fewer takes its beginning.
        offset = rng.random()
        places += [((rank + offset) / len(members), offset, index) for rank, index in enumerate(members)]
    return tuple(prompts[index] for index in sorted(index for *_, index in sorted(places)[:limit]))
