"""A picture's recipe: everything that decides it, kept in the PNG's own text so that it can be drawn again."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from attnreg.limits import MOST_SIDE, MOST_STEPS
from attnreg.png import read_png
from attnreg.reading import RECIPE, json_of
from attnreg.shown import cut
from attnreg.shown import told as shown
from attnreg.types import AttnregError
from attnreg.writing import whole_files

PREFIX = "attnreg:"
SHEET = "attnreg-sheet"
"""Name of a sheet's text: of which recipes and seeds it shows the pictures."""
BOUNDS = (("seed", 0, 2**63 - 1), ("steps", 1, MOST_STEPS), ("height", 8, MOST_SIDE), ("width", 8, MOST_SIDE))
"""Least and greatest of the numbers in a recipe."""
LIBRARIES = ("attnreg", "torch", "diffusers", "transformers")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to draw, with what, and how. `None` stands for the model's own default."""

    prompt: str
    seed: int
    model: str
    method: str
    settings: dict[str, Any] = field(default_factory=dict)
    """The method's settings that differ from its defaults."""
    preset: str = ""
    """The preset that they are from, for the reader; drawing again takes the settings as they stand here."""
    targets: list[Any] | None = None
    """As asked for; `None`: found automatically."""
    adjectives: bool = True
    steps: int | None = None
    guidance_scale: float | None = None
    negative_prompt: str | None = None
    height: int | None = None
    width: int | None = None
    scheduler: str | None = None
    dtype: str = "auto"
    family: str | None = None
    """The model family that was named, or "probe"; `None`: told by the denoiser's class."""
    acted: str = ""
    """The method that acted, where `method` leaves that to the run ("auto"): drawing again lets it act."""
    chosen: list[str] = field(default_factory=list)
    """The targets that were found, for the reader; drawing again finds them anew."""
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sheet:
    """What a sheet shows: pictures of these recipes with each of these seeds."""

    recipes: tuple[Recipe, ...]
    seeds: tuple[int, ...]


def versions() -> dict[str, str]:
    """The installed release of each library that decides a picture."""
    return {name: installed for name in LIBRARIES if (installed := installed_version(name))}


def installed_version(name: str) -> str | None:
    """The installed release of a distribution, `None` if it is not there."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def read_recipe(path: Path) -> Recipe:
    """The recipe that a PNG carries.

    Raises `AttnregError` if it is no PNG, carries none that can be read, one with a value that cannot be, or is a sheet
    of several pictures.
    """
    return recipe_in(_text_in(path), str(path))


def recipe_in(text: Mapping[str, str], path: str) -> Recipe:
    """The recipe in the text chunks of a PNG, by keyword; path: what it is called. Errors as of `read_recipe`."""
    if SHEET in text:
        raise AttnregError(
            f"expected a PNG of one picture, got {path}, a sheet of several; give one of those that lie beside it"
        )
    types = get_type_hints(Recipe)
    found = {key.removeprefix(PREFIX): value for key, value in text.items() if key.startswith(PREFIX)}
    if not found:
        raise _unreadable(path, "it has none")
    try:
        values = {name: json_of(value, name, RECIPE) for name, value in found.items() if name in types}
    except AttnregError as error:
        raise _unreadable(path, str(error)) from error
    try:
        for name, value in values.items():
            if not _fits(value, types[name]):
                raise AttnregError(
                    f"expected a recipe whose {name} is {getattr(types[name], '__name__', types[name])}, got "
                    f"{shown(value)} in {path}; give a picture as attnreg saved it"
                )
        for name, least, most in BOUNDS:
            if values.get(name) is not None and not least <= values[name] <= most:
                raise AttnregError(
                    f"expected a recipe whose {name} is {least} to {most}, got {values[name]} in {path}; "
                    "give a picture as attnreg saved it"
                )
        return Recipe(**values)
    except TypeError as error:
        raise _unreadable(path, str(error).removeprefix("Recipe.__init__() ")) from error


def _unreadable(path: str, reason: str) -> AttnregError:
    return AttnregError(
        f"expected a PNG with its recipe in text chunks named {PREFIX}..., got {path} without a readable one "
        f"({cut(reason)}); only pictures that attnreg saved can be drawn again (editors often drop the text)"
    )


def is_of(path: Path, wanted: Recipe | Sheet) -> bool:
    """Whether a PNG is the picture of a recipe, or such a sheet, whatever releases drew it."""
    try:
        if isinstance(wanted, Recipe):
            return _decides(read_recipe(path)) == _decides(wanted)
        told = json_of(_text_in(path).get(SHEET, "null"), str(path), RECIPE)
    except AttnregError:
        return False
    return bool(told == _shown(wanted))


def _decides(recipe: Recipe) -> dict[str, Any]:
    """What decides a picture, as JSON gives it back."""
    told: dict[str, Any] = json.loads(json.dumps(asdict(replace(recipe, versions={}, chosen=[], acted=""))))
    return told


def _shown(sheet: Sheet) -> dict[str, Any]:
    return {"seeds": list(sheet.seeds), "recipes": [_decides(replace(recipe, seed=0)) for recipe in sheet.recipes]}


def _text_in(path: Path) -> dict[str, str]:
    return read_png(path).text


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value that was read from JSON is of the type, as far as its outermost layer tells."""
    kinds = tuple(get_origin(one) or one for one in (get_args(hint) if isinstance(hint, UnionType) else (hint,)))
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, (*kinds, int) if float in kinds else kinds)


def save_pictures(folder: Path, pictures: Sequence[tuple[str, Image.Image, Recipe | Sheet]]) -> list[Path]:
    """Write PNG files of given names, with what they are of; all of them, or on an error none.

    Raises `AttnregError` if the folder cannot be written or the disk is full.
    """
    try:
        with whole_files() as write:
            for name, picture, recipe in pictures:
                png = io.BytesIO()
                picture.save(png, format="PNG", pnginfo=_text(recipe))
                write(folder / name, png.getvalue())
    except OSError as error:
        raise AttnregError(
            f"expected to write {len(pictures)} pictures to {folder}, got {error.strerror or error}; "
            "nothing was kept: make room or choose another folder with --out"
        ) from error
    return [folder / name for name, _, _ in pictures]


def _text(told: Recipe | Sheet) -> PngInfo:
    info = PngInfo()
    if isinstance(told, Sheet):
        info.add_itxt(SHEET, json.dumps(_shown(told), ensure_ascii=False))
    else:
        for key, value in asdict(told).items():
            info.add_itxt(PREFIX + key, json.dumps(value, ensure_ascii=False))
    return info
