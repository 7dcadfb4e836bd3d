"""The queue: drawings wait for the one thread that draws, can be stopped at every pass, and belong to who asked."""

from __future__ import annotations

import logging
import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from attnreg.app import bounds
from attnreg.app.happened import Happened
from attnreg.app.history import History, maps_of
from attnreg.app.order import Order, sentence
from attnreg.errors import AttnregError
from attnreg.recipe import Recipe
from attnreg.records import UNMODIFIED
from attnreg.trace import Sample
from attnreg.watching import Progress

WAITING, DRAWING, DONE, STOPPED, FAILED = "waiting", "drawing", "done", "stopped", "failed"
ENDED = (DONE, STOPPED, FAILED)
NOT_BEGUN = Progress(0, 0, 0)

log = logging.getLogger("attnreg.app")


class StoppedError(Exception):
    """Raised in the midst of a picture that nobody wants any more."""


@dataclass(eq=False)
class Job:
    """One drawing that was asked for. Who knows its token may ask about it, and nobody else."""

    order: Order
    page: str
    """Whose it is, for the bound on what one page may have in the queue."""
    drawing: str
    """Where its pictures go."""
    token: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    state: str = WAITING
    error: str = ""
    seed: int = 0
    regulated: bool = False
    """Whether the picture in hand is."""
    progress: Progress = NOT_BEGUN
    files: dict[int, dict[str, str]] = field(default_factory=dict)
    """By seed, names of files by kind: "unmodified", "regulated"."""
    happened: dict[int, Happened] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)

    def add(self, files: dict[str, str]) -> None:
        """Tell of files of the seed in hand, by kind. A new dictionary each time: other threads tell pages of them."""
        self.files = self.files | {self.seed: self.files.get(self.seed, {}) | files}

    def watch(self, progress: Progress) -> None:
        """Told by the library before every pass of the denoiser; raises `StoppedError`."""
        if self.stop.is_set():
            raise StoppedError
        self.progress = progress


class Queue:
    """The drawings of all pages. One thread draws: a pipeline serves one picture at a time."""

    def __init__(self, history: History) -> None:
        self.history = history
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._current: Job | None = None
        self._thread = threading.Thread(target=self._work, name="attnreg-draws", daemon=True)
        self._thread.start()

    def ask(self, order: Order, page: str) -> Job:
        """Put a drawing at the end of the queue. Raises `AttnregError` if it is full."""
        with self._changed:
            mine = [job for job in self._unfinished() if job.page == page]
            if len(mine) >= bounds.MOST_WAITING_OF_ONE:
                raise AttnregError(
                    f"expected at most {bounds.MOST_WAITING_OF_ONE} unfinished drawings of one page, got one more; "
                    "wait, or cancel one"
                )
            if len(self._waiting) >= bounds.MOST_WAITING:
                raise AttnregError(f"the queue is full: {len(self._waiting)} drawings wait; try again later")
            job = Job(order, page, self.history.begin(order.recipe.prompt))
            self._jobs[job.token] = job
            self._waiting.append(job)
            self._forget_old()
            self._changed.notify()
        return job

    def job(self, token: str) -> Job | None:
        """The drawing of a token, if it is not too long ago."""
        return self._jobs.get(token)

    def ahead_of(self, job: Job) -> int:
        """How many drawings come before one that waits."""
        with self._changed:
            place = self._waiting.index(job) if job in self._waiting else 0
            return place + (self._current is not None)

    def stop(self, job: Job) -> None:
        """Stop a drawing: at once if it waits, else at the next pass of the denoiser. What is drawn is kept."""
        with self._changed:
            job.stop.set()
            if job in self._waiting:
                self._waiting.remove(job)
                job.state = STOPPED

    def unfinished(self) -> set[str]:
        """Names of the drawings that are not done: nobody's business but their own page's."""
        with self._changed:
            return {job.drawing for job in self._unfinished()}

    def close(self, patience: float = 10.0) -> None:
        """Stop whatever is drawn, and draw nothing more; waits some seconds for the pass in hand."""
        with self._changed:
            self._closed = True
            for job in self._unfinished():
                job.stop.set()
            self._waiting.clear()
            self._changed.notify()
        self._thread.join(patience)

    def _unfinished(self) -> Iterable[Job]:
        return [job for job in self._jobs.values() if job.state not in ENDED]

    def _forget_old(self) -> None:
        ended = [token for token, job in self._jobs.items() if job.state in ENDED]
        for token in ended[: max(0, len(self._jobs) - bounds.MOST_REMEMBERED)]:
            del self._jobs[token]

    def _work(self) -> None:
        while True:
            with self._changed:
                self._current = None
                self._changed.wait_for(lambda: self._closed or self._waiting)
                if self._closed:
                    return
                job = self._current = self._waiting.popleft()
                job.state = DRAWING
            job.state = self._drawn(job)

    def _keep(self, job: Job, sample: Sample, recipe: Recipe) -> None:
        """Save a picture, and what happened."""
        kind = "unmodified" if recipe.method == UNMODIFIED else "regulated"
        job.add({kind: self.history.add(job.drawing, sample, recipe)})
        if kind == "regulated":
            job.happened = job.happened | {job.seed: Happened.of(sample)}
            self.history.tell(job.drawing, job.happened)
        job.regulated, job.progress = True, NOT_BEGUN

    def _keep_maps(self, job: Job, drawn: Sequence[tuple[Sample, Recipe]]) -> None:
        """Save the figures of a seed's pictures; of one that was stopped, of those that are there."""
        figures: dict[str, str] = {}
        for number, (sample, recipe) in enumerate(drawn):
            beside = drawn[1 - number][0] if len(drawn) > 1 else None
            if figure := self.history.add_maps(job.drawing, sample, recipe, beside):
                figures[maps_of(recipe.method)] = figure
        if figures:
            job.add(figures)

    def _drawn(self, job: Job) -> str:
        """Draw everything of one; how it ended."""
        try:
            session = job.order.offered.sitting(job.order.options)
            for seed in job.order.seeds:
                job.seed, job.regulated = seed, session.edit is None
                job.progress = NOT_BEGUN
                drawn: list[tuple[Sample, Recipe]] = []
                try:
                    for sample, recipe in session.pictures(seed, beside_unmodified=True, watch=job.watch, maps=True):
                        drawn.append((sample, recipe))
                        self._keep(job, sample, recipe)
                finally:  # once both are there, for their figures have one scale
                    self._keep_maps(job, drawn)
            return DONE
        except StoppedError:
            return STOPPED
        except AttnregError as error:
            job.error = sentence(str(error))
        except Exception as error:  # of a model, a device or a full memory: the queue goes on
            log.exception("a drawing failed")
            first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
            job.error = sentence(
                f"unexpected {type(error).__name__}: {first[:200]}; the terminal of the app tells more"
            )
        return FAILED
