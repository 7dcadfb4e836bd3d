"""What the page is told, as JSON: what there is to choose from, how a drawing is, what was drawn before."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attnreg.app import bounds
from attnreg.app.happened import Happened
from attnreg.app.history import History, of_one
from attnreg.app.offered import Offered
from attnreg.app.queue import WAITING, Job, Queue
from attnreg.methods import DEFAULT, METHODS
from attnreg.methods.setting import written
from attnreg.models.load import SCHEDULERS
from attnreg.recipe import Recipe
from attnreg.records import UNMODIFIED
from attnreg.seeds import seeds_text

EXAMPLE = {"prompt": "a bird and a frog", "seeds": "0-3"}
"""Chosen because the bundled model loses the bird in seed 3, and has it again."""


def options(offered: Mapping[str, Offered]) -> dict[str, Any]:
    """What the form has to choose from, and its bounds."""
    return {
        "models": [_model(one) for one in offered.values()],
        "methods": [
            {
                "name": name,
                "summary": method.summary,
                "settings": [
                    {"name": one.name, "default": one.written, "help": one.help} for one in method.settings().values()
                ],
            }
            for name, method in METHODS.items()
        ],
        "method": DEFAULT,
        "schedulers": list(SCHEDULERS),
        "example": EXAMPLE,
        "most": {"letters": bounds.MOST_LETTERS, "seeds": bounds.MOST_SEEDS, "steps": bounds.MOST_STEPS},
    }


def _model(one: Offered) -> dict[str, Any]:
    own, about = one.own, one.about
    return {
        "name": one.name,
        "steps": about.steps if about else own.steps,
        "guidance_scale": about.guidance_scale if about else own.guidance_scale,
        "height": own.height,
        "width": own.width,
        "words": {"things": about.things, "colours": about.colours, "others": about.other} if about else None,
    }


def form_of(recipe: Recipe, seeds: Sequence[int], offered: Mapping[str, Offered]) -> tuple[dict[str, Any], list[str]]:
    """A recipe as the form's fields have it, and what of it the app has not, one sentence each."""
    notes = []
    name = next((one.name for one in offered.values() if one.model == recipe.model), None)
    name = name or next((one.name for one in offered.values() if one.is_at(recipe.model)), None)
    if name is None:
        notes.append(
            "This picture was drawn with a model that is not offered here; the rest of its settings is restored. "
            f"To have the same picture, start the app with --model {recipe.model}"
        )
    plain = recipe.targets is None or all(isinstance(target, str) for target in recipe.targets)
    return {
        "model": name,
        "prompt": recipe.prompt,
        "targets": recipe.targets if plain else recipe.chosen,
        "adjectives": recipe.adjectives,
        "method": recipe.method,
        "settings": {key: written(value) for key, value in recipe.settings.items()},
        "seeds": seeds_text(seeds),
        "steps": _text(recipe.steps),
        "guidance_scale": _text(recipe.guidance_scale),
        "negative_prompt": recipe.negative_prompt or "",
        "height": _text(recipe.height),
        "width": _text(recipe.width),
        "scheduler": recipe.scheduler or "",
    }, notes


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def job(one: Job, queue: Queue) -> dict[str, Any]:
    """How a drawing is."""
    return {
        "state": one.state,
        "ahead": queue.ahead_of(one) if one.state == WAITING else 0,
        "error": one.error,
        "seed": one.seed,
        "seeds": one.order.seeds,
        "regulated": one.regulated,
        "progress": one.progress._asdict(),
        "drawing": _drawing(one.drawing, one.order.recipe, one.files, one.happened),
    }


def drawing(name: str, history: History, offered: Mapping[str, Offered]) -> dict[str, Any] | None:
    """A drawing of the history; `None` if it is not there."""
    pictures = history.pictures(name)
    if not pictures:
        return None
    recipe = of_one(pictures)
    files: dict[int, dict[str, str]] = {}
    for one in pictures:
        kind = "unmodified" if one.recipe.method == UNMODIFIED else "regulated"
        files[one.recipe.seed] = files.get(one.recipe.seed, {}) | {kind: one.file}
    form, notes = form_of(recipe, sorted(files), offered)
    figures = history.maps(name)
    files = {seed: kinds | figures.get(seed, {}) for seed, kinds in files.items()}
    return {**_drawing(name, recipe, files, history.happened(name)), "form": form, "notes": notes}


def listed(names: Iterable[str], history: History) -> list[dict[str, Any]]:
    """Drawings of the history in short."""
    found = []
    for name in names:
        pictures = history.pictures(name)
        if pictures:
            recipe = of_one(pictures)
            shown = next(one for one in pictures if one.recipe == recipe)
            found.append(
                {
                    "name": name,
                    "prompt": recipe.prompt,
                    "method": recipe.method,
                    "seeds": seeds_text(sorted({one.recipe.seed for one in pictures})),
                    "when": _when(name),
                    "picture": _address(name, shown.file),
                }
            )
    return found


def _drawing(
    name: str, recipe: Recipe, files: Mapping[int, Mapping[str, str]], happened: Mapping[int, Happened]
) -> dict[str, Any]:
    return {
        "name": name,
        "prompt": recipe.prompt,
        "method": recipe.method,
        "targets": recipe.chosen,
        "when": _when(name),
        "seeds": [
            {
                "seed": str(seed),
                **{kind: _address(name, file) for kind, file in kinds.items()},
                "happened": happened[seed].told() if seed in happened else None,
            }
            for seed, kinds in sorted(files.items())
        ],
    }


def _address(name: str, file: str) -> str:
    return f"/pictures/{name}/{file}"


def _when(name: str) -> str:
    """When a drawing was begun, for a reader; its name begins with that."""
    try:
        return time.strftime("%d %b %Y, %H:%M", time.strptime(name[:15], "%Y%m%d-%H%M%S"))
    except ValueError:
        return ""
