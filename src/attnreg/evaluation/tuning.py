"""A method's settings chosen for a model: successive halving on paired pictures of the development half.

Jamieson & Talwalkar, AISTATS 2016, arXiv:1502.07943, after the sequential halving of Karnin et al., ICML 2013. A
budget of denoiser passes is shared evenly among the rounds; in each, every settings that is left draws the same further
pictures, and the better half of them goes on. The published settings are one of the candidates. All pictures lie in a
run's folder, so that what was drawn is kept: the same call goes on where it was, and comes to the same end.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from attnreg.errors import AttnregError
from attnreg.evaluation.config import Config
from attnreg.evaluation.prompts import halves, prompt_set
from attnreg.evaluation.spelling import Spelled, edit_of, read_method, tidy, write_method
from attnreg.evaluation.store import Store
from attnreg.evaluation.tasks import OpenJudge, OpenModel
from attnreg.measure.asked import Prompt
from attnreg.methods import METHODS
from attnreg.methods.spaces import SPACES

BUDGET = 40_000
"""Passes of the denoiser, the same for every method: some 1,700 pictures of twelve steps with guidance."""
CANDIDATES = 16
SLICE = 4
"""Prompts that every settings which is left draws before the budget is looked at again."""
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is tuned, on what, and how much it may cost. Raises `AttnregError` for what cannot be."""

    method: str
    model: str = "pocket"
    prompts: str = "three-things"
    half: str = "development"
    judge: str = "pocket"
    score: str = "all things"
    seeds: tuple[int, ...] = (0, 1, 2, 3)
    budget: int = BUDGET
    candidates: int = CANDIDATES
    lot: int = 0
    """Seed of which settings are tried, and of the order of the prompts."""

    def __post_init__(self) -> None:
        if self.half != "development":
            raise AttnregError(
                f"half: expected development, got {self.half}; settings are chosen on that half, so that the test half "
                "can say what they are worth"
            )
        if self.method not in METHODS or self.method not in SPACES:
            raise AttnregError(f"expected a method that can be tuned ({', '.join(SPACES)}), got {self.method!r}")
        for name, least in (("budget", 1), ("candidates", 2)):
            if getattr(self, name) < least:
                raise AttnregError(f"{name}: expected at least {least}, got {getattr(self, name)}; give more")


@dataclass(frozen=True)
class Trial:
    """Settings, and what came of them on the pictures that they drew."""

    method: str
    """As `spelling.tidy` writes it."""
    pictures: int
    share: float
    """Mean of the score; a picture that could not be drawn counts 0."""
    passes: float
    """Of the denoiser, mean of a picture."""


@dataclass(frozen=True)
class Tuned:
    """How a search ended."""

    rounds: tuple[tuple[Trial, ...], ...]
    """Of each round those that drew in it, the best first."""
    spent: int
    """Passes in all."""

    @property
    def winner(self) -> Trial:
        """The best of the last round."""
        return self.rounds[-1][0]

    @property
    def settings(self) -> dict[str, Any]:
        """Those in which the winner differs from the published ones."""
        return read_method(self.winner.method)[0].settings


def candidates(method: str, count: int, lot: int = 0) -> list[str]:
    """The published settings and others of the method's space, drawn by lot; each once, tidily written.

    Args:
        method: a name of `SPACES`.
        count: how many at most, the published ones among them.
        lot: seed.

    Returns:
        Methods as `spelling.read_method` reads them, the published one first.
    """
    space = SPACES[method]
    every = [dict(zip(space, values, strict=True)) for values in product(*space.values())]
    random.Random(f"candidates {method} {lot}").shuffle(every)
    spelled: dict[str, None] = {method: None}
    for settings in every:
        if len(spelled) == count:
            break
        spelled[tidy(write_method([Spelled(method, settings)]))] = None
    return list(spelled)


def tune(
    search: Search,
    folder: str | Path,
    *,
    device: str = "auto",
    command: str = "",
    say: Say = lambda _: None,
    open_model: OpenModel | None = None,
    open_judge: OpenJudge | None = None,
) -> Tuned:
    """Search a method's settings within a budget.

    Args:
        search: what, on what, and within which budget.
        folder: of the run that keeps the pictures; given again, nothing is drawn twice.
        device: where the model runs.
        command: the command line, for the run's own account.
        say: is told how each round ends.
        open_model: in place of pipelines.
        open_judge: in place of `attnreg.measure.judges.JUDGES`.

    Returns:
        Every round, and the winner.

    Raises:
        AttnregError: the model, the judge or the prompts are not as needed, no settings can be drawn, or the budget
            ends before every candidate has drawn its first pictures.
    """
    from attnreg.evaluation.bench import run

    left = candidates(search.method, search.candidates, search.lot)
    for method in left:
        edit_of(method)
    slices = _slices(search)
    rounds = math.ceil(math.log2(len(left)))
    drawn: list[tuple[int, Prompt]] = []
    told: list[tuple[Trial, ...]] = []
    spent = 0

    def draw(seed: int, prompts: Sequence[Prompt]) -> None:
        nonlocal spent
        config = Config(
            prompts=(search.prompts,), methods=tuple(left), models=(search.model,), seeds=(seed,),
            judges=(search.judge,), half="development",
        )  # fmt: skip
        run(
            config,
            folder,
            prompts=prompts,
            device=device,
            command=command,
            open_model=open_model,
            open_judge=open_judge,
        )
        new = [(seed, prompt) for prompt in prompts]
        drawn.extend(new)
        spent += sum(_passes(folder, left, new).values())

    for number in range(1, rounds + 1):
        before, allowed = len(drawn), search.budget * number / rounds
        while True:
            each = spent / max(1, len(drawn) * len(left))  # of those that are left; an estimate after a halving
            if len(drawn) > before and spent + each * SLICE * len(left) > allowed:
                break
            if (further := next(slices, None)) is None:
                break
            draw(*further)
            for method, reason in _failed(folder, left):
                say(f"  left out, cannot be drawn: {method}: {reason}")
                left.remove(method)
            if not left:
                raise AttnregError(f"expected settings of {search.method} that this model can draw, got none; {reason}")
        if number == 1 and spent > search.budget:
            raise AttnregError(
                f"budget: expected enough for {SLICE} pictures of {len(left)} settings, {spent} passes, got "
                f"{search.budget}; give more, or fewer candidates"
            )
        standing = sorted(_standing(search, folder, left, drawn), key=lambda one: (-one.share, one.passes))
        told.append(tuple(standing))
        left = [one.method for one in standing[: math.ceil(len(standing) / 2)]]
        say(f"round {number} of {rounds}: {len(drawn)} pictures each, {spent} of {search.budget} passes so far")
        for one in standing:
            kept = "goes on" if one.method in left and number < rounds else ""
            say(f"  {100 * one.share:5.1f} %  {one.passes:6.0f} passes  {one.method}  {kept}".rstrip())
    return Tuned(tuple(told), spent)


def _slices(search: Search) -> Iterator[tuple[int, Sequence[Prompt]]]:
    """Prompts of the development half in an order by lot, so many at a time, the whole half for each seed in turn."""
    prompts = list(halves(prompt_set(search.prompts)).development)
    random.Random(f"prompts {search.lot}").shuffle(prompts)
    for seed in search.seeds:
        for first in range(0, len(prompts), SLICE):
            yield seed, prompts[first : first + SLICE]


def _passes(
    folder: str | Path, methods: Sequence[str], drawn: Sequence[tuple[int, Prompt]]
) -> dict[tuple[str, int, str], int]:
    """What each of some pictures took; what could not be drawn is not there."""
    asked = {(seed, prompt.text) for seed, prompt in drawn}
    return {
        (one.method, one.seed, one.prompt): one.passes or 0
        for one in Store(folder).records()
        if one.method in methods and (one.seed, one.prompt) in asked
    }


def _failed(folder: str | Path, methods: Sequence[str]) -> list[tuple[str, str]]:
    """Methods that could not draw a picture, with the first reason: layers that this model has not, for instance."""
    reasons: dict[str, str] = {}
    for failed in Store(folder).failures():
        reasons.setdefault(failed.cell.method, failed.error)
    return [(method, reasons[method]) for method in methods if method in reasons]


def _standing(
    search: Search, folder: str | Path, methods: Sequence[str], drawn: Sequence[tuple[int, Prompt]]
) -> list[Trial]:
    name, asked = f"{search.judge}/{search.score}", {(seed, prompt.text) for seed, prompt in drawn}
    found = [one for one in Store(folder).records() if (one.seed, one.prompt) in asked]
    if found and not any(name in one.scores for one in found):
        known = ", ".join(found[0].scores)
        raise AttnregError(f"score: expected one of {search.judge} ({known}), got {search.score}; choose one of them")
    tried = []
    for method in methods:
        own = [one for one in found if one.method == method]
        share = sum(one.scores.get(name, 0.0) for one in own) / len(drawn)
        tried.append(Trial(method, len(drawn), share, sum(one.passes or 0 for one in own) / max(1, len(own))))
    return tried
