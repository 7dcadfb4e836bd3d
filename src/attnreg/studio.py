"""A sitting with one model and one prompt: draw pictures, put them beside the unmodified ones, save them."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from attnreg.account import account, acted, marks
from attnreg.attention.families import family_of, tokenizer_of
from attnreg.attention.installation import Edit
from attnreg.limits import MOST_GUIDANCE, MOST_SIDE
from attnreg.models.about import BUNDLED, About, about, folder_of
from attnreg.models.defaults import denoiser_of, sides_for
from attnreg.models.load import load_pipeline, set_scheduler
from attnreg.plot import sheet
from attnreg.png import read_png
from attnreg.recipe import Recipe, Sheet, is_of, read_recipe, save_pictures, versions
from attnreg.records import UNMODIFIED
from attnreg.sampling import configure, generate
from attnreg.shown import told as shown
from attnreg.targets import FoundTargets
from attnreg.token_spans import look_for_targets
from attnreg.trace import Sample
from attnreg.types import AttnregError, Target
from attnreg.watching import Watch
from attnreg.writing import check_writable


@dataclass(frozen=True)
class Session:
    """A loaded pipeline with everything checked that can be checked before drawing."""

    pipe: Any
    recipe: Recipe
    """For seed 0; each picture's own differs in its seed, and the unmodified one in its method."""
    edit: Edit | None
    targets: tuple[Target, ...]
    notes: tuple[str, ...] = ()
    """What is to be said of words that are no targets; drawing warns of it."""

    @staticmethod
    def open(
        prompt: str,
        *,
        targets: list[Any] | None = None,
        adjectives: bool = True,
        settings: dict[str, Any] | None = None,
        device: str = "auto",
        pipe: Any = None,
        **options: Any,
    ) -> Session:
        """Load the model and find the targets. `options` are those of `Recipe`.

        pipe: the model's pipeline, where it is loaded already; it is left as it is, whatever scheduler is asked for.

        Raises `AttnregError` for anything that cannot be drawn, before a step is taken.
        """
        recipe = Recipe(
            prompt=prompt, seed=0, targets=targets, adjectives=adjectives, settings=settings or {}, **options
        )
        edit = configure(recipe.method, recipe.settings)
        _check_numbers(recipe)
        pipe = copy.copy(pipe) if pipe else load_pipeline(recipe.model, device=device, dtype=recipe.dtype)
        if recipe.scheduler:
            set_scheduler(pipe, recipe.scheduler)
        told = about(folder_of(recipe.model))
        if told:
            told.check_words(prompt)
            recipe = _with_defaults(recipe, told)
        tokenizer = tokenizer_of(pipe, family_of(pipe, recipe.family)[0])
        named = edit or targets
        found = look_for_targets(prompt, tokenizer, targets, adjectives=adjectives) if named else FoundTargets(())
        # What decides the picture, not what was left to this machine or this folder to decide.
        model = str(folder_of(recipe.model).resolve()) if folder_of(recipe.model).exists() else recipe.model
        # Both sides of the picture if one was asked for, and no None that another model would fill otherwise.
        sides: dict[str, Any] = sides_for(pipe, recipe.height, recipe.width)
        recipe = replace(
            recipe,
            model=recipe.model if recipe.model in BUNDLED else model,
            dtype=str(denoiser_of(pipe).dtype).removeprefix("torch."),
            **sides,
            chosen=[target.text for target in found.targets] if edit else [],
            versions=versions(),
        )
        return Session(pipe, recipe, edit, *found)

    @staticmethod
    def again(recipe: Recipe, device: str = "auto") -> Session:
        """A session that draws a picture's recipe. Raises `AttnregError` as `open`."""
        options = {
            name: getattr(recipe, name)
            for name in (
                "model", "settings", "preset", "targets", "adjectives", "steps", "guidance_scale", "negative_prompt",
                "height", "width", "scheduler", "dtype", "family",
            )
        }  # fmt: skip
        # Whatever a release lets act by itself, the picture is of the method that acted then.
        return Session.open(recipe.prompt, method=recipe.acted or recipe.method, device=device, **options)

    @property
    def options(self) -> dict[str, Any]:
        """What the pipeline is told beside the prompt; `None` is left to it."""
        recipe = self.recipe
        return {
            "num_inference_steps": recipe.steps,
            "guidance_scale": recipe.guidance_scale,
            "negative_prompt": recipe.negative_prompt,
            "height": recipe.height,
            "width": recipe.width,
        }

    def sample(self, seed: int, edit: Edit | None, watch: Watch | None = None, maps: bool = False) -> Sample:
        """Draw one picture; with a progress bar of the pipeline's own, unless someone watches."""
        self.pipe.set_progress_bar_config(desc=f"seed {seed}, {'regulated' if edit else 'unmodified'}", leave=False)
        recipe = self.recipe
        return generate(
            self.pipe,
            recipe.prompt,
            edit,
            seed=seed,
            targets=recipe.targets,
            adjectives=recipe.adjectives,
            watch=watch,
            maps=maps,
            family=recipe.family,
            **self.options,
        )

    def columns(self, beside_unmodified: bool) -> list[tuple[Edit | None, Recipe]]:
        """What is drawn of every seed: the regulated picture, by wish after the unmodified one."""
        regulated = [(self.edit, self.recipe)]
        unmodified = (None, replace(self.recipe, method=UNMODIFIED, settings={}, preset="", chosen=[]))
        return [unmodified, *regulated] if beside_unmodified and self.edit else regulated

    def pictures(
        self, seed: int, *, beside_unmodified: bool, watch: Watch | None = None, maps: bool = False
    ) -> Iterator[tuple[Sample, Recipe]]:
        """Draw one seed; yields each picture with its own recipe, the unmodified one first."""
        for edit, recipe in self.columns(beside_unmodified):
            drawn = self.sample(seed, edit, watch, maps)
            yield drawn, replace(recipe, seed=seed, acted=acted(drawn.trace))

    def draw(
        self, seeds: Sequence[int], out: Path, *, beside_unmodified: bool, say: Callable[[str], None] = print
    ) -> Iterator[Path]:
        """Draw each seed, by wish with the unmodified picture and a sheet of both; yields the paths.

        What one seed draws is saved at once, so that an interruption costs the seed in hand.
        """
        check_writable(out)
        columns = [recipe for _, recipe in self.columns(beside_unmodified)]
        planned: dict[str, Recipe | Sheet] = {
            f"seed{seed}-{slug(recipe.method)}.png": replace(recipe, seed=seed) for seed in seeds for recipe in columns
        }
        shown = Sheet(tuple(columns), tuple(seeds))
        sheets = {"sheet.png": shown} if len(columns) > 1 else {}
        name = fresh_name(out, slug(self.recipe.prompt), planned | sheets)
        rows: list[list[Image.Image]] = []
        captions: list[tuple[str, str]] = []
        acting: dict[str, str] = {}
        spent = dict.fromkeys((recipe.method for recipe in columns), 0.0)
        for seed in seeds:
            files: list[tuple[str, Image.Image, Recipe | Sheet]] = []
            for drawn, recipe in self.pictures(seed, beside_unmodified=beside_unmodified):
                spent[recipe.method] += drawn.seconds
                files.append((f"{name}-seed{seed}-{slug(recipe.method)}.png", drawn.picture, recipe))
                for decision in drawn.trace.decisions:
                    if decision.method not in acting:
                        acting[decision.method] = f"{recipe.method}: {decision}"
                        say(acting[decision.method])
                if recipe.method != UNMODIFIED:
                    captions.append(marks(drawn))
                    say(f"seed {seed}: {account(drawn)}")
            rows.append([picture for _, picture, _ in files])
            yield from save_pictures(out, files)
        if sheets:
            labels = [f"seed {seed}" for seed in seeds]
            names = ["unmodified", ": ".join([self.recipe.method, *acting])]
            told = captions if any(map(any, captions)) else ()
            both = sheet(rows, names, labels, title=self.recipe.prompt, captions=told)
            yield from save_pictures(out, [(f"{name}-sheet.png", both, shown)])
        say("; ".join(f"{method}: {seconds / len(seeds):.2f} s a picture" for method, seconds in spent.items()))


def fresh_name(
    out: Path, name: str, planned: Mapping[str, Recipe | Sheet], keep: Collection[Path] = (), beside: str = ""
) -> str:
    """The name, or with -2, -3, ... the first under which nothing of another recipe would be overwritten.

    planned: ending -> what will be written there. keep: what must not be, whatever it is. beside: the ending of what is
    written with the pictures and tells no recipe; it is theirs if they are there.
    """
    for number in count(1):
        fresh = name if number == 1 else f"{name}-{number}"
        paths = {out / f"{fresh}-{ending}": recipe for ending, recipe in planned.items()}
        there = [path for path in paths if path.exists()]
        other = beside and len(there) < len(paths) and (out / f"{fresh}{beside}").exists()
        if not other and not any(path.resolve() in keep or not is_of(path, paths[path]) for path in there):
            return fresh
    raise AssertionError("there is always a next number")


def draw_again(picture: Path, device: str, out: Path) -> tuple[Path, bool, list[str]]:
    """Draw a saved picture from its recipe: the new file, whether every pixel is the same, which releases differ."""
    recipe, before = read_recipe(picture), read_png(picture).picture
    check_writable(out)
    session = Session.again(recipe, device)
    drawn = session.sample(recipe.seed, session.edit)
    same = np.array_equal(np.asarray(before), np.asarray(drawn.picture.convert("RGB")))
    again = replace(session.recipe, seed=recipe.seed, method=recipe.method, acted=recipe.acted)
    name = f"{slug(recipe.prompt)}-seed{recipe.seed}-{slug(recipe.method)}"
    fresh = fresh_name(out, name, {"again.png": again}, keep=[picture.resolve()])
    (path,) = save_pictures(out, [(f"{fresh}-again.png", drawn.picture, again)])
    now = versions()
    changed = [
        f"{name} {then} then, {now.get(name)} now" for name, then in recipe.versions.items() if now.get(name) != then
    ]
    return path, same, changed


def slugs(texts: Sequence[str]) -> dict[str, str]:
    """A file name's worth of each text, with -2, -3, ... where two would have the same."""
    found: dict[str, str] = {}
    for text in dict.fromkeys(texts):
        names = (slug(text) if number == 1 else f"{slug(text)}-{number}" for number in count(1))
        found[text] = next(name for name in names if name not in found.values())
    return found


def slug(text: str) -> str:
    """A file name's worth of a text: lower case words joined by hyphens, at most 60 signs."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].strip("-") or "picture"


def _with_defaults(recipe: Recipe, told: About) -> Recipe:
    return replace(
        recipe,
        steps=recipe.steps or told.steps,
        guidance_scale=told.guidance_scale if recipe.guidance_scale is None else recipe.guidance_scale,
    )


def _check_numbers(recipe: Recipe) -> None:
    guidance = recipe.guidance_scale
    if guidance is not None and not 0 <= guidance <= MOST_GUIDANCE:
        raise AttnregError(f"guidance_scale: expected a number from 0 on, got {shown(guidance)}; 1 turns guidance off")
    for name in ("height", "width"):
        size = getattr(recipe, name)
        if size is not None and (size % 8 or not 8 <= size <= MOST_SIDE):
            raise AttnregError(
                f"{name}: expected a multiple of 8 pixels, got {shown(size)}; try "
                f"{min(max(8, round(size / 8) * 8), MOST_SIDE)}"
            )
