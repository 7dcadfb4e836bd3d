"""The folder of what was drawn: a folder a drawing, whose PNGs carry their recipes. It is all that a restart needs."""

from __future__ import annotations

import io
import json
import re
import secrets
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnreg.app.happened import Happened
from attnreg.errors import AttnregError
from attnreg.reading import json_of, text_of
from attnreg.recipe import Recipe, read_recipe, save_pictures
from attnreg.records import UNMODIFIED
from attnreg.studio import slug
from attnreg.trace import Sample
from attnreg.writing import check_writable, write_file

DRAWING = re.compile(r"\d{8}-\d{6}-[a-z0-9-]{1,60}-[0-9a-f]{12}")
PICTURE = re.compile(r"seed\d{1,19}-[a-z0-9-]{1,80}\.png")
MAPS = re.compile(r"seed(\d{1,19})-maps-([a-z0-9-]{1,80})\.png")
"""A figure of where the model looked for each word: of which seed, and of which method's picture."""
HAPPENED = "happened.json"
"""By seed, what `Happened` tells. The pictures do without it."""


@dataclass(frozen=True)
class Picture:
    """One PNG of a drawing."""

    file: str
    recipe: Recipe


class History:
    """What was drawn, in one folder. Names from outside are matched whole, so that none leads out of it."""

    def __init__(self, root: Path) -> None:
        """Raises `AttnregError` if the folder cannot be written."""
        check_writable(root)
        self.root = root.resolve()
        self._read: dict[Path, tuple[int, Recipe]] = {}

    def begin(self, prompt: str) -> str:
        """The name of a new drawing. Nobody can guess it, so that pictures are not seen before they are done."""
        when = time.strftime("%Y%m%d-%H%M%S")
        return f"{when}-{slug(prompt)}-{secrets.token_hex(6)}"

    def add(self, drawing: str, sample: Sample, recipe: Recipe) -> str:
        """Save one picture of a drawing; its file's name. Raises `AttnregError` as `save_pictures`."""
        name = f"seed{recipe.seed}-{slug(recipe.method)}.png"
        save_pictures(self._folder(drawing), [(name, sample.picture, recipe)])
        return name

    def add_maps(self, drawing: str, sample: Sample, recipe: Recipe, beside: Sample | None = None) -> str:
        """Save where the model looked for each word, over the steps; the file's name, empty if nothing was watched.

        beside: the other picture of the seed, whose figure has the same scales.
        """
        try:
            figure = sample.trace.plot(sample.picture, tall=True, beside=beside.trace if beside else None)
        except AttnregError:  # of a prompt that names nothing
            return ""
        name, png = f"seed{recipe.seed}-maps-{slug(recipe.method)}.png", io.BytesIO()
        figure.save(png, "PNG")
        write_file(self._folder(drawing) / name, png.getvalue())
        return name

    def maps(self, drawing: str) -> dict[int, dict[str, str]]:
        """The figures of a drawing that are there: by seed, of which kind of picture."""
        found: dict[int, dict[str, str]] = {}
        for path in self._folder(drawing).iterdir():
            if (of := MAPS.fullmatch(path.name)) and self.file(drawing, path.name):
                found.setdefault(int(of[1]), {})[maps_of(of[2])] = path.name
        return found

    def tell(self, drawing: str, happened: dict[int, Happened]) -> None:
        """Keep what happened while a drawing's pictures were drawn, by seed."""
        told = {str(seed): one.told() for seed, one in happened.items()}
        write_file(self._folder(drawing) / HAPPENED, json.dumps(told, indent=1) + "\n")

    def file(self, drawing: str, name: str) -> Path | None:
        """Where a picture lies; `None` if there is none of that name."""
        if not DRAWING.fullmatch(drawing) or not PICTURE.fullmatch(name):
            return None
        path = self.root / drawing / name
        return path if path.is_file() and path.resolve() == path else None

    def drawings(self, count: int, before: str = "", hidden: Collection[str] = ()) -> list[str]:
        """Names of drawings, the latest first.

        Args:
            count: so many at most.
            before: only those that are listed after this one.
            hidden: those that are being drawn.
        """
        names = sorted((path.name for path in self.root.iterdir() if DRAWING.fullmatch(path.name)), reverse=True)
        found: list[str] = []
        for name in names:
            if len(found) == count:
                break
            if (not before or name < before) and name not in hidden and self.pictures(name):
                found.append(name)
        return found

    def pictures(self, drawing: str) -> list[Picture]:
        """The pictures of a drawing whose recipes can be read: the unmodified one of each seed first."""
        if not DRAWING.fullmatch(drawing):
            return []
        folder = self._folder(drawing)
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        found = []
        for name in names:
            path = self.file(drawing, name)
            if path is not None and (recipe := self._recipe(path)) is not None:
                found.append(Picture(name, recipe))
        return sorted(found, key=lambda one: (one.recipe.seed, one.recipe.method != UNMODIFIED))

    def happened(self, drawing: str) -> dict[int, Happened]:
        """What happened while the pictures were drawn, by seed; nothing if that is gone or cannot be read."""
        try:
            text = text_of(self._folder(drawing) / HAPPENED)
            told: Any = json_of(text, HAPPENED)
            return {int(seed): Happened.read(one) for seed, one in told.items()}
        except (AttnregError, ValueError, AttributeError):
            return {}

    def _folder(self, drawing: str) -> Path:
        assert DRAWING.fullmatch(drawing)
        return self.root / drawing

    def _recipe(self, path: Path) -> Recipe | None:
        """A picture's recipe, read once; `None` if it has none."""
        changed = path.stat().st_mtime_ns
        known = self._read.get(path)
        if known is None or known[0] != changed:
            try:
                known = changed, read_recipe(path)
            except AttnregError:
                return None
            self._read[path] = known
        return known[1]


def maps_of(method: str) -> str:
    """The kind of a figure, by the method of its picture."""
    return "unmodified_maps" if method == UNMODIFIED else "regulated_maps"


def of_one(pictures: Sequence[Picture]) -> Recipe:
    """The recipe that a drawing was asked for by: the regulated one's where there are both."""
    return max(pictures, key=lambda one: one.recipe.method != UNMODIFIED).recipe
