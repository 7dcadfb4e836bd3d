"""Run a configuration: draw what is missing, judge what has not been judged, keep all of it in the run's folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from attnreg.evaluation.checks import check_call, check_judges, check_models, facts_of
from attnreg.evaluation.config import Config
from attnreg.evaluation.executors import LocalExecutor
from attnreg.evaluation.judging import Judges, batch_of
from attnreg.evaluation.ledger import Ledger
from attnreg.evaluation.plan import (
    cells_of,
    held_by,
    mapped_of,
    named_anywhere,
    prompts_of,
    unmodified_of,
    with_unmodified,
)
from attnreg.evaluation.progress import RunProgress
from attnreg.evaluation.store import Cell, Failed
from attnreg.evaluation.tasks import Batch, Executor, OpenJudge, OpenModel, Refused
from attnreg.measure.asked import Prompt
from attnreg.recipe import versions
from attnreg.records import UNMODIFIED

BATCH = 16
Say = Callable[[str], None]


@dataclass(frozen=True)
class Finished:
    """What one sitting did."""

    folder: str
    asked: int
    """Pictures that the configuration asks for."""
    drawn: int
    """Of these and the unmodified ones beside them, drawn by this process in this sitting."""
    judged: int
    """Verdicts given by this process in this sitting."""
    damaged: int
    """Pictures found lost or damaged, and drawn again."""
    failures: tuple[Failed, ...]
    """What could not be drawn, in this sitting or an earlier one."""


def run(
    config: Config,
    folder: str | Path,
    *,
    prompts: Sequence[Prompt] | None = None,
    executor: Literal["local", "ray"] = "local",
    workers: int | None = None,
    device: str = "auto",
    batch: int = BATCH,
    download: bool = False,
    retry_failed: bool = False,
    command: str = "",
    say: Say = lambda _: None,
    progress: Say = lambda _: None,
    open_model: OpenModel | None = None,
    open_judge: OpenJudge | None = None,
) -> Finished:
    """Bring a run's folder to hold all that a configuration asks for; what it holds already is not done again.

    Killed at any moment and called again, it goes on where it was; several processes of one machine may work on one
    folder at once.

    Args:
        config: what to draw and judge.
        folder: a path, or what fsspec understands, such as "s3://bucket/run".
        prompts: in place of those that `config.prompts` name.
        executor: "local", or "ray": a Ray cluster.
        workers: of Ray; by default one a GPU, or one a core.
        device: where models and judges run; "auto" takes CUDA, else MPS, else the CPU.
        batch: pictures that a judge sees at a time.
        download: whether judges may fetch weights from the hub.
        retry_failed: whether to try again what a method could not draw.
        command: the command line, for the run's own account.
        say: is told what happens, a line at a time.
        progress: is told how far it is, after every picture.
        open_model: in place of pipelines.
        open_judge: in place of `attnreg.measure.judges.JUDGES`.

    Returns:
        What this sitting did, and what could not be drawn.

    Raises:
        AttnregError: before anything is drawn, for all that can be known then.
    """
    check_call(folder, executor, workers, batch)
    open_judge = open_judge or Judges(device, download)
    if prompts is None:
        config, held = named_anywhere(config), held_by(folder)
        for name in held.gone(config) if held else ():
            say(f"{name} is not here any more; the prompts that the run holds are taken")
        asked = prompts_of(config, held)
    else:
        asked = list(prompts)
    cells = cells_of(config, asked)
    mapped = mapped_of(config, asked)
    digests = check_models(config, asked) if open_model is None else {}
    compares = check_judges(config, asked, open_judge)
    todo = with_unmodified(cells) if any(compares.values()) else cells
    if open_model is None:
        from attnreg.evaluation.drawing import Pipelines

        open_model = Pipelines(config.drawing(), device, mapped)
    with Ledger(folder) as ledger:
        ledger.ask(config.as_json(), asked, cells, facts_of(config, digests), versions(), command)
        damaged = ledger.forget_damaged(todo)
        if damaged:
            say(f"{len(damaged)} pictures are lost or damaged and are drawn again")
        if retry_failed:
            ledger.forget_failures(todo)
        edited = [cell for cell in cells if cell.method != UNMODIFIED and (cell.prompt, cell.seed) in mapped]
        if late := len(ledger.drawn_without_maps(edited)):
            say(
                f"{late} pictures were drawn before their maps were asked for, and have none; a new folder has them all"
            )
        with closing(_executor(executor, workers, open_model, open_judge)) as crew:
            drawn = _draw(ledger, crew, todo, say, progress)
            judged = sum(
                _judge(ledger, crew, cells, name, config.weights.get(name, ""), beside, asked, batch, say, progress)
                for name, beside in compares.items()
            )
        wanted = set(cells)
        failures = tuple(Failed(cell, error) for cell, error in ledger.failed().items() if cell in wanted)
    return Finished(str(folder), len(cells), drawn, judged, len(damaged), failures)


def _executor(name: str, workers: int | None, open_model: OpenModel, open_judge: OpenJudge) -> Executor:
    if name == "ray":
        from attnreg.evaluation.ray_executor import RayExecutor

        return RayExecutor(open_model, open_judge, workers)
    return LocalExecutor(open_model, open_judge)


def _draw(ledger: Ledger, crew: Executor, todo: Sequence[Cell], say: Say, progress: Say) -> int:
    there, failed = ledger.drawn(), ledger.failed()
    missing = [cell for cell in todo if cell not in there and cell not in failed]
    say(f"{len(todo)} pictures, {len(missing)} of them to be drawn")
    known: dict[str, list[float]] = {}
    for cell, (_, seconds) in there.items():
        known.setdefault(cell.method, []).append(seconds)
    account = RunProgress.of([cell.method for cell in missing], known, crew.workers)
    drawn = 0
    for cell, outcome in crew.draw(ledger.claimed(missing)):
        if isinstance(outcome, Refused):
            ledger.keep_failure(cell, outcome.error)
            account.note(cell.method, None)
        else:
            ledger.keep(cell, outcome)
            drawn += 1
            account.note(cell.method, outcome.seconds)
        progress(account.line())
    return drawn


def _judge(
    ledger: Ledger,
    crew: Executor,
    cells: Sequence[Cell],
    judge: str,
    weights: str,
    compares: bool,
    prompts: Sequence[Prompt],
    size: int,
    say: Say,
    progress: Say,
) -> int:
    beside = {cell: unmodified_of(cell) for cell in cells} if compares else {}
    meant = {prompt.text: prompt for prompt in prompts}
    total = len(ledger.unjudged(cells, judge, weights, beside))
    if total:
        say(f"{judge}: {total} pictures to be judged")

    def batches() -> Iterator[Batch | None]:
        for claimed in ledger.claimed_batches(cells, judge, weights, beside, size):
            yield None if claimed is None else batch_of(judge, weights, claimed, meant, ledger.pictures)

    judged = 0
    for batch, scores in crew.judge(batches()):
        ledger.keep_verdicts(batch, scores)
        judged += len(scores)
        progress(f"{judge}: judged {judged} of {total}")
    return judged
