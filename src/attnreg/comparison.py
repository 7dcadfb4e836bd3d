"""One prompt under several methods: a sheet of seeds by methods with verdicts and costs, and the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from attnreg.account import acted
from attnreg.evaluation.drawing import begin_peak, peak_bytes
from attnreg.evaluation.prompts.found import with_things
from attnreg.evaluation.spelling import edit_of, read_method, tidy
from attnreg.measure.asked import Prompt
from attnreg.measure.likeness import PixelDistance
from attnreg.models.about import BUNDLED
from attnreg.plot import sheet
from attnreg.plot.sheets import PAPER
from attnreg.recipe import Recipe, Sheet, save_pictures
from attnreg.records import UNMODIFIED
from attnreg.studio import Session, fresh_name, slug, slugs
from attnreg.types import AttnregError
from attnreg.writing import check_writable, write_file


@dataclass(frozen=True)
class ComparedPicture:
    """One picture of a comparison, as its JSON tells it."""

    method: str
    seed: int
    file: str
    seconds: float
    peak_bytes: int | None
    """Of the device while drawing; on a CPU of the whole process."""
    distance: float
    """Root mean squared difference of RGB values from the unmodified picture, black to white being 1."""
    verdict: dict[str, float] = field(default_factory=dict)
    """The bundled judge's scores; empty for models it does not know."""
    acted: str = ""
    """The method that acted, where `method` leaves that to the run."""
    failed: str = ""
    """Why there is no picture."""

    @property
    def caption(self) -> str:
        """Verdict and cost in a few words."""
        if self.failed:
            return f"not drawn: {self.failed}"
        memory = f", {self.peak_bytes / 2**20:.0f} MiB" if self.peak_bytes else ""
        said = ""
        if self.verdict:
            said = "all there" if self.verdict["all things"] else f"{self.verdict['things']:.0%} of the things"
            said += f", {self.verdict['colours']:.0%} of the colours" if "colours" in self.verdict else ""
            said += "; "
        return f"{said}moved {self.distance:.3f}; {self.seconds:.1f} s{memory}"


def compare(
    prompt: str,
    methods: Sequence[str],
    seeds: Sequence[int],
    out: Path,
    *,
    say: Callable[[str], None] = print,
    targets: list[Any] | None = None,
    device: str = "auto",
    **options: Any,
) -> Iterator[Path]:
    """Draw every seed with every method, written as in `attnreg bench`: "attention-scaling(shift=2)", "a+b".

    The unmodified picture comes first, whether it is asked for or not: distances are to it. A method that cannot draw
    this prompt is told by its line, and the others go on. Yields the paths of the pictures, the sheet and the JSON.

    Raises `AttnregError` for an unknown method or setting and for whatever `Session.open` refuses, before a step.
    """
    check_writable(out)
    named = list(dict.fromkeys([UNMODIFIED, *map(tidy, methods)]))
    edits = {method: edit_of(method) for method in named}
    if len(named) == 1:
        raise AttnregError(f"expected methods to compare with {UNMODIFIED}, got {list(methods)}; see attnreg methods")
    # Any method finds the targets; the unmodified model needs none.
    session = Session.open(prompt, method=read_method(named[1])[0].name, targets=targets, device=device, **options)
    recipes = {method: _recipe(session.recipe, method) for method in named}
    files = slugs(named)
    shown = Sheet(tuple(recipes.values()), tuple(seeds))
    planned: dict[str, Recipe | Sheet] = {"sheet.png": shown}
    for seed in seeds:
        planned |= {f"seed{seed}-{files[method]}.png": replace(recipes[method], seed=seed) for method in named}
    name = fresh_name(out, f"{slug(prompt)}-compared", planned, beside=".json")
    judge = _judge(session, prompt)
    cells: list[ComparedPicture] = []
    rows: list[list[Image.Image]] = []
    for seed in seeds:
        unmodified: Image.Image | None = None
        row: list[Image.Image] = []
        for method in named:
            file = f"{name}-seed{seed}-{files[method]}.png"
            begin_peak(session.pipe.device)
            try:
                drawn = session.sample(seed, edits[method])
            except AttnregError as error:
                cells.append(ComparedPicture(method, seed, "", 0, None, 0, failed=str(error)))
                row.append(Image.new("RGBA", row[0].size, PAPER))
                say(f"seed {seed}, {method}: {cells[-1].caption}")
                continue
            peak = peak_bytes(torch.device(session.pipe.device))
            unmodified = unmodified or drawn.picture
            row.append(drawn.picture)
            (moved,) = PixelDistance()([drawn.picture], [Prompt(prompt)], [unmodified])
            verdict = judge(drawn.picture) if judge else {}
            by = acted(drawn.trace)
            cells.append(ComparedPicture(method, seed, file, drawn.seconds, peak, moved["distance"], verdict, by))
            say(f"seed {seed}, {method}: {cells[-1].caption}")
            yield from save_pictures(out, [(file, drawn.picture, replace(recipes[method], seed=seed, acted=by))])
        rows.append(row)
    captions = [[cell.caption for cell in cells if cell.seed == seed] for seed in seeds]
    columns = ["unmodified" if method == UNMODIFIED else method for method in named]
    paper = sheet(rows, columns, [f"seed {seed}" for seed in seeds], title=prompt, captions=captions)
    yield from save_pictures(out, [(f"{name}-sheet.png", paper, shown)])
    path = out / f"{name}.json"
    told = {"prompt": prompt, "model": session.recipe.model, "steps": session.recipe.steps,
            "guidance_scale": session.recipe.guidance_scale, "versions": session.recipe.versions,
            "targets": [target.text for target in session.targets]}  # fmt: skip
    write_file(path, json.dumps(told | {"pictures": [asdict(cell) for cell in cells]}, indent=1) + "\n")
    yield path


def _recipe(recipe: Recipe, method: str) -> Recipe:
    """The recipe of one column. Settings of a composed method go to each part that has them, so one list serves."""
    parts = read_method(method)
    settings: dict[str, Any] = {}
    for part in parts:
        if clash := [name for name, value in part.settings.items() if settings.get(name, value) != value]:
            raise AttnregError(
                f"expected one value of {clash[0]} in {method}, got several; compare composed methods with settings in "
                "attnreg bench"
            )
        settings |= part.settings
    chosen = recipe.chosen if method != UNMODIFIED else []
    return replace(recipe, method="+".join(part.name for part in parts), settings=settings, chosen=chosen)


def _judge(session: Session, prompt: str) -> Callable[[Image.Image], dict[str, float]] | None:
    """The bundled judge for a bundled model, where it knows what the prompt names."""
    if session.recipe.model not in BUNDLED:
        return None
    from attnreg.measure.pocket import pocket_judge

    (asked,) = with_things([Prompt(prompt)])
    judge = pocket_judge()
    try:
        judge.check([asked])
    except AttnregError:
        return None
    return lambda picture: judge([picture], [asked])[0]
