"""Prompts in the words of a small model that says what it was taught: pairs it saw and never saw, one to four."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

from attnreg.errors import AttnregError
from attnreg.evaluation.prompts.wording import kind, listed
from attnreg.measure.asked import Prompt, Thing
from attnreg.models.about import ABOUT, POCKET, About, about


def unseen_pairs(seed: int = 0, folder: Path = POCKET) -> tuple[Prompt, ...]:
    """Every pair of things that no training picture of the model shows together, one prompt each.

    "a cat and a red car": in the order of the model's own list; objects have a colour drawn from the seed, animals
    none (the model was not taught coloured animals). Categories as Attend-and-Excite: "animal-animal" and so on.

    Raises `AttnregError` if the model does not say which pairs were held out, or says nothing at all.
    """
    return _pairs(seed, folder, held_out=True)


def seen_pairs(seed: int = 0, folder: Path = POCKET) -> tuple[Prompt, ...]:
    """Every pair of things that training pictures of the model may show together; else as `unseen_pairs`."""
    return _pairs(seed, folder, held_out=False)


def three_things(seed: int = 0, folder: Path = POCKET, count: int = 100) -> tuple[Prompt, ...]:
    """So many prompts of three things, "a cat, a frog and a red car", that no training picture shows together.

    Two of them at least are a pair that was held out, if any was. Which three, in which order, and the objects' colours
    are drawn from the seed; no three things come twice.
    """
    return _several(seed, folder, 3, count)


def four_things(seed: int = 0, folder: Path = POCKET, count: int = 100) -> tuple[Prompt, ...]:
    """So many prompts of four things; else as `three_things`."""
    return _several(seed, folder, 4, count)


def single_things(folder: Path = POCKET) -> tuple[Prompt, ...]:
    """One prompt "a cat" for every thing that the model knows: whatever fails here is not the pair's fault."""
    model = told(folder)
    return tuple(_prompt((Thing(noun),), f"single {kind(noun)}", model) for noun in model.things)


def coloured_things(folder: Path = POCKET) -> tuple[Prompt, ...]:
    """Every object in every colour that the model knows, "a red car"; animals, never taught in colours, are left out.

    The category is the colour.
    """
    model = told(folder)
    return tuple(
        _prompt((Thing(noun, colour),), colour, model)
        for noun in model.things
        if kind(noun) != "animal"
        for colour in model.colours
    )


def told(folder: Path) -> About:
    """What a model's directory says of its words. Raises `AttnregError` if it says nothing."""
    model = about(folder)
    if model is None:
        raise AttnregError(
            f"expected a model that names the words it knows, got {folder}, which holds no {ABOUT}; "
            "give the bundled model's directory or one made by training/pocket.py"
        )
    return model


def _pairs(seed: int, folder: Path, held_out: bool) -> tuple[Prompt, ...]:
    model = told(folder)
    if not model.held_out_pairs:
        raise AttnregError(
            f"expected the pairs that training held out, as held_out_pairs in {folder / ABOUT}, got none; "
            "export the model again with training/pocket.py"
        )
    unseen = {frozenset(pair) for pair in model.held_out_pairs}
    # One stream of colours over all pairs: a pair's colours do not depend on which pairs were held out.
    rng = random.Random(f"pairs {seed}")
    made = []
    for nouns in itertools.combinations(model.things, 2):
        things = tuple(_coloured(noun, model, rng) for noun in nouns)
        if (frozenset(nouns) in unseen) == held_out:
            made.append(_prompt(things, "-".join(map(kind, nouns)), model))
    return tuple(made)


def _several(seed: int, folder: Path, size: int, count: int) -> tuple[Prompt, ...]:
    model = told(folder)
    rng = random.Random(f"{size} things {seed}")
    unseen = {frozenset(pair) for pair in model.held_out_pairs}
    every = [
        nouns
        for nouns in itertools.combinations(model.things, size)
        if not unseen or not unseen.isdisjoint(map(frozenset, itertools.combinations(nouns, 2)))
    ]
    if count > len(every):
        raise AttnregError(f"expected at most {len(every)} prompts of {size} things of {model.name}, got {count}")
    made = []
    for nouns in rng.sample(every, count):
        things = tuple(_coloured(noun, model, rng) for noun in rng.sample(nouns, size))
        made.append(_prompt(things, f"{size} things", model))
    return tuple(made)


def _coloured(noun: str, model: About, rng: random.Random) -> Thing:
    colour = rng.choice(model.colours) if model.colours else None
    return Thing(noun, None if kind(noun) == "animal" else colour)


def _prompt(things: tuple[Thing, ...], category: str, model: About) -> Prompt:
    # As the model was taught: an article before every thing, "glasses" too, and "an" only if it knows the word.
    words = [
        f"{'an' if thing.phrase[0] in 'aeiou' and 'an' in model.other else 'a'} {thing.phrase}" for thing in things
    ]
    return Prompt(listed(words), things, category=category)
