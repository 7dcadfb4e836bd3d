"""An explanation as files: the pictures with their recipes, the figure, the numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from attnreg.explain.explanation import Explanation, explain
from attnreg.png import read_png
from attnreg.recipe import Recipe, Sheet, read_recipe, save_pictures
from attnreg.studio import Session, fresh_name, slug
from attnreg.trace.neglect import NEGLECTED
from attnreg.writing import check_writable, write_file


def explain_session(session: Session, seed: int) -> Explanation:
    """Explain one seed of what a session draws. Raises `AttnregError` as `explanation.explain`."""
    recipe = session.recipe
    session.pipe.set_progress_bar_config(desc=f"seed {seed}, watched", leave=False)
    return explain(
        session.pipe,
        recipe.prompt,
        session.edit,
        method=recipe.method,
        seed=seed,
        targets=recipe.targets,
        adjectives=recipe.adjectives,
        **session.options,
    )


def explain_picture(picture: Path, device: str, out: Path, say: Callable[[str], None] = print) -> Iterator[Path]:
    """Draw a saved picture again from its recipe, and explain it.

    Args:
        picture: a PNG that attnreg saved.
        device: where to draw.
        out: folder of the files.
        say: told what was found, line by line.

    Returns:
        The paths of the files, as they are written.

    Raises:
        AttnregError: the PNG holds no recipe, or it cannot be drawn.
    """
    recipe, before = read_recipe(picture), read_png(picture).picture
    check_writable(out)
    session = Session.again(recipe, device)
    found = explain_session(session, recipe.seed)
    again = (found.regulated or found.without).picture
    same = np.array_equal(np.asarray(before), np.asarray(again.convert("RGB")))
    say("drawn again: the same, bit for bit" if same else "drawn again: different from the picture given")
    yield from save(found, session.recipe, out, say)


def save(found: Explanation, recipe: Recipe, out: Path, say: Callable[[str], None] = print) -> Iterator[Path]:
    """Write an explanation: pictures, figure, JSON; nothing of another recipe is written over.

    Args:
        found: the explanation.
        recipe: of the method's picture, for any seed.
        out: folder of the files.
        say: told each word's neglect score and what the method did.

    Returns:
        The paths of the files.

    Raises:
        AttnregError: the folder cannot be written.
    """
    plain = replace(recipe, seed=found.seed, method="none", settings={}, chosen=[], acted="")
    pictures: list[tuple[str, Image.Image, Recipe | Sheet]] = [("none.png", found.without.picture, plain)]
    if found.regulated:
        acted = found.acted if found.acted != found.method else ""
        own = replace(recipe, seed=found.seed, acted=acted)
        pictures.append((f"{slug(found.method)}.png", found.regulated.picture, own))
    recipes = tuple(one for _, _, one in pictures if isinstance(one, Recipe))
    pictures.append(("figure.png", found.figure(), Sheet(recipes, (found.seed,))))
    base = f"{slug(recipe.prompt)}-seed{found.seed}-explained"
    name = fresh_name(out, base, {ending: told for ending, _, told in pictures}, beside=".json")
    for line in lines(found):
        say(line)
    yield from save_pictures(out, [(f"{name}-{ending}", picture, told) for ending, picture, told in pictures])
    path = out / f"{name}.json"
    write_file(path, json.dumps({"model": recipe.model} | found.told(), indent=1, ensure_ascii=False) + "\n")
    yield path


def lines(found: Explanation) -> Iterator[str]:
    """What was found, in a few lines of text."""
    without, regulated = found.neglected(), found.neglected(regulated=True)
    for word, score in without.items():
        told = f"{word}: neglect {_said(score)}"
        yield f"{told} unmodified, {_said(regulated[word])} with {found.method}" if found.regulated else told
    if found.regulated:
        acted = "" if found.acted == found.method else f" ({found.acted})"
        yield f"{found.method}{acted}: {found.account()}"


def _said(score: float) -> str:
    return f"{score:.2f}" + (" (may be missing)" if score >= NEGLECTED else "")
