"""Settings are chosen within a budget, on the development half, on the same pictures; what was drawn is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import White
from PIL import Image

from attnreg.errors import AttnregError
from attnreg.evaluation.pictures import png_of
from attnreg.evaluation.prompts import halves, prompt_set
from attnreg.evaluation.spelling import edit_of
from attnreg.evaluation.store import Cell
from attnreg.evaluation.tasks import Drawn
from attnreg.evaluation.tuning import SLICE, Search, candidates, tune
from attnreg.methods import METHODS
from attnreg.methods.spaces import SPACES
from attnreg.sampling import configure

METHOD = "attend-and-excite"
COST = 10


class Models:
    """White pictures where the step is 5, black ones elsewhere, but for one in four that is white by its seed."""

    def __init__(self) -> None:
        self.drawn: list[Cell] = []

    def __call__(self, model: str) -> Any:
        def draw(cell: Cell) -> Drawn:
            self.drawn.append(cell)
            lucky = len(self.drawn) % 4 == 0
            white = edit_of(cell.method).step_size == 5.0 or lucky
            shade = np.full((8, 8, 3), 255 if white else 0, np.uint8)
            return Drawn(png_of(Image.fromarray(shade)), 0.01, passes=COST)

        return draw


def tuned(folder: Path, models: Models, budget: int = 3000, **options: Any) -> Any:
    search = Search(method=METHOD, budget=budget, candidates=8, **options)
    return tune(search, folder, open_model=models, open_judge=lambda name, weights: White())


def test_the_better_settings_win_within_the_budget_on_paired_pictures(tmp_path: Path) -> None:
    models = Models()
    done = tuned(tmp_path, models)
    tried = candidates(METHOD, 8)
    assert [len(one) for one in done.rounds] == [8, 4, 2]
    assert any(edit_of(one).step_size == 5.0 for one in tried), "else the test says nothing"
    assert edit_of(done.winner.method).step_size == 5.0
    assert done.winner.share == 1.0
    assert done.spent == COST * len(models.drawn) <= 3000
    first = {cell.method: [] for cell in models.drawn}  # type: dict[str, list[tuple[str, int]]]
    for cell in models.drawn:
        first[cell.method].append((cell.prompt, cell.seed))
    longest = max(first.values(), key=len)
    assert all(one == longest[: len(one)] for one in first.values()), "the same pictures for all"
    assert {prompt for prompt, _ in longest} <= {one.text for one in halves(prompt_set("three-things")).development}
    assert configure(METHOD, done.settings) == edit_of(done.winner.method)


def test_it_goes_on_where_it_was_and_draws_nothing_twice(tmp_path: Path) -> None:
    models = Models()
    whole = tuned(tmp_path / "whole", models)

    class Stopped(Models):
        def __call__(self, model: str) -> Any:
            draw = super().__call__(model)

            def stops(cell: Cell) -> Drawn:
                if len(self.drawn) == 40:
                    raise KeyboardInterrupt
                return draw(cell)

            return stops

    cut = Stopped()
    with pytest.raises(KeyboardInterrupt):
        tuned(tmp_path / "cut", cut)
    rest = Models()
    rest.drawn = [*cut.drawn]  # the pictures' luck goes by their number
    assert tuned(tmp_path / "cut", rest) == whole
    assert rest.drawn == models.drawn
    nothing = Models()
    assert tuned(tmp_path / "cut", nothing) == whole
    assert nothing.drawn == []


def test_settings_that_the_model_cannot_draw_are_left_out_with_the_reason(tmp_path: Path) -> None:
    """They take no place from others, and do not count as pictures that lack everything."""
    barred = candidates(METHOD, 8)[:3]

    class Particular(Models):
        def __call__(self, model: str) -> Any:
            draw = super().__call__(model)

            def refuses(cell: Cell) -> Drawn:
                if cell.method in barred:
                    raise AttnregError("layers: expected layers of one size")
                return draw(cell)

            return refuses

    told: list[str] = []
    search = Search(method=METHOD, budget=3000, candidates=8)
    done = tune(search, tmp_path, open_model=Particular(), open_judge=lambda name, weights: White(), say=told.append)
    assert [len(one) for one in done.rounds] == [5, 3, 2]
    assert not {trial.method for trial in done.rounds[0]} & set(barred)
    assert told[:3] == [
        f"  left out, cannot be drawn: {method}: layers: expected layers of one size" for method in barred
    ]
    barred = candidates(METHOD, 8)
    with pytest.raises(AttnregError, match="expected settings of attend-and-excite that this model can draw, got none"):
        tune(search, tmp_path / "none", open_model=Particular(), open_judge=lambda name, weights: White())


def test_what_cannot_be_tuned_is_said(tmp_path: Path) -> None:
    with pytest.raises(AttnregError, match="half: expected development, got test"):
        Search(method=METHOD, half="test")
    with pytest.raises(AttnregError, match="expected a method that can be tuned"):
        Search(method="none")
    with pytest.raises(AttnregError, match="budget: expected enough for 4 pictures of 8 settings, 320 passes, got 100"):
        tuned(tmp_path, Models(), budget=100)
    with pytest.raises(AttnregError, match="score: expected one of pocket"):
        tuned(tmp_path, Models(), score="beauty")


@pytest.mark.parametrize("method", SPACES)
def test_every_space_holds_settings_of_its_method_and_the_published_ones(method: str) -> None:
    known = METHODS[method].settings()
    for name, values in SPACES[method].items():
        for value in values:
            configure(method, {name: value})
        assert known[name].default in values, "the published value is one of those tried"
    found = candidates(method, 12)
    assert found[0] == method
    assert len(set(found)) == 12 == len(found)
    assert found[:5] == candidates(method, 5), "fewer are the first of more"
    assert SLICE > 0
