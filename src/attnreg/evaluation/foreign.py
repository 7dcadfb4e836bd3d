"""Pictures that others drew, taken into a run's folder and judged as our own are."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from attnreg.errors import AttnregError
from attnreg.evaluation.executors import LocalExecutor
from attnreg.evaluation.judging import batch_of
from attnreg.evaluation.ledger import Ledger
from attnreg.evaluation.pictures import digest, png_of
from attnreg.evaluation.schema import NoRunError
from attnreg.evaluation.store import Cell, Store
from attnreg.evaluation.tasks import Drawn, OpenJudge
from attnreg.measure.asked import Prompt
from attnreg.reading import bytes_of
from attnreg.recipe import versions
from attnreg.records import UNMODIFIED
from attnreg.report.layouts import Found


def take_in(
    found: Sequence[Found],
    folder: str | Path,
    model: str,
    *,
    prompts: Sequence[Prompt] = (),
    judges: Mapping[str, str],
    open_judge: OpenJudge,
    command: str = "",
    batch: int = 16,
    say: Callable[[str], None] = lambda _: None,
) -> int:
    """Put pictures in a run's folder, judge them, and say how many verdicts were given. Done twice, it does no more.

    model: what they were drawn with, for the pairs; name it as the run does to compare with its "none".
    prompts: what is known of their meaning; what the run knows already counts first. judges: name -> weights.
    Raises `AttnregError` before anything is written if a picture cannot be read, a judge cannot be opened or cannot
    judge a prompt, or the run holds another picture of one of these cells.
    """
    before = Store(folder) if _is_run(folder) else None
    known = {prompt.text: prompt for prompt in [*prompts, *(before.prompts() if before else ())]}
    asked = [known.get(text, Prompt(text)) for text in dict.fromkeys(one.prompt for one in found)]
    pictures = {Cell(one.prompt, one.seed, one.method, model): _png(one.picture) for one in found}
    compares = {}
    for name, weights in judges.items():
        judge = open_judge(name, weights)
        judge.check(asked)
        compares[name] = judge.needs_unmodified
    with Ledger(folder) as ledger:
        there = ledger.drawn()
        for cell, png in pictures.items():
            if cell in there and there[cell][0] != digest(png):
                raise AttnregError(
                    f"expected pictures that the run does not have, got another of {cell.prompt!r}, seed {cell.seed}, "
                    f"{cell.method}; name the method otherwise, or use another folder"
                )
        config = before.sittings()[-1].config if before and before.sittings() else {"taken in": sorted(judges)}
        ledger.ask(config, asked, list(pictures), {}, versions(), command)
        for cell, png in pictures.items():
            if cell in there:
                if ledger.pictures.get(there[cell][0]) is None:  # lost or damaged since
                    ledger.pictures.put(png)
            else:
                # Nobody knows how long it took: 0 seconds stand for that.
                ledger.keep(cell, Drawn(png, 0.0))
        say(f"{len(pictures)} pictures in {folder}, {sum(cell not in there for cell in pictures)} of them new")
        drawn = ledger.drawn()
        alone = sum(cell._replace(method=UNMODIFIED) not in drawn for cell in pictures)
        for name in [name for name, beside in compares.items() if beside and alone]:
            say(
                f"{name} compares with unmodified pictures, which are missing for {alone} of these: draw them with "
                f"attnreg bench run --out {folder} --prompts ... --methods {UNMODIFIED}"
            )
        with closing(LocalExecutor(_draws_nothing, open_judge)) as crew:
            return sum(
                _judge(ledger, crew, list(pictures), name, judges[name], beside, known, batch)
                for name, beside in compares.items()
            )


def _judge(
    ledger: Ledger, crew: LocalExecutor, cells: Sequence[Cell], judge: str, weights: str, compares: bool,
    known: Mapping[str, Prompt], size: int,
) -> int:  # fmt: skip
    beside = {cell: cell._replace(method=UNMODIFIED) for cell in cells} if compares else {}
    meant = {cell.prompt: known.get(cell.prompt, Prompt(cell.prompt)) for cell in cells}
    batches = (
        None if claimed is None else batch_of(judge, weights, claimed, meant, ledger.pictures)
        for claimed in ledger.claimed_batches(cells, judge, weights, beside, size)
    )
    judged = 0
    for told, scores in crew.judge(batches):
        ledger.keep_verdicts(told, scores)
        judged += len(scores)
    return judged


def _draws_nothing(model: str) -> Callable[[Cell], Drawn]:
    raise AttnregError(f"expected pictures to judge, got a request to draw with {model!r}; use attnreg bench run")


def _is_run(folder: str | Path) -> bool:
    try:
        Store(folder)
    except NoRunError:
        return False
    return True


def _png(path: Path) -> bytes:
    """A picture's bytes if they are a PNG already; else the same pixels as one."""
    try:
        content = bytes_of(path, "a picture")
        with Image.open(io.BytesIO(content)) as picture:
            picture.load()
            return content if picture.format == "PNG" else png_of(picture.convert("RGB"))
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
        raise AttnregError(f"expected a picture, got {path} ({error}); remove or replace it") from error
