"""Attention maps in a run's folder: who gets them, old runs, pictures that change, and a run that is taken up again."""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import fakes
import pytest

from attnreg.evaluation.config import Config
from attnreg.evaluation.ledger import Ledger
from attnreg.evaluation.pictures import png_of
from attnreg.evaluation.plan import cells_of, mapped_of
from attnreg.evaluation.schema import connect
from attnreg.evaluation.store import Cell, Store
from attnreg.evaluation.tasks import Drawn, Maps

METHOD = "attention-regulation"
CELL = Cell("a cat and a dog", 0, METHOD, "pocket")
MAPS: Maps = {"cat": ([[0.0, 0.25], [0.5, 0.125]], [[0.0, 0.5], [0.75, 0.25]])}


def kept(folder: Path, maps: Maps | None, of: Cell = CELL, shown: str = "") -> None:
    """A run with one picture; `shown` makes it another one."""
    png = png_of(fakes.picture(of._replace(prompt=of.prompt + shown)))
    with Ledger(folder) as ledger:
        ledger.ask({}, fakes.prompts(1), [CELL], {}, {}, "")
        ledger.keep(of, Drawn(png, 1.0, None, {"cat": (0.2, 0.4)}, maps))


def age(folder: Path) -> None:
    """Make a run one of a release that knew no maps."""
    with closing(sqlite3.connect(folder / "run.sqlite")) as connection:
        connection.execute("DROP TABLE maps")


def tables(folder: Path) -> set[str]:
    with closing(sqlite3.connect(folder / "run.sqlite")) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_maps_come_back(tmp_path: Path) -> None:
    kept(tmp_path, MAPS)
    assert Store(tmp_path).maps() == {CELL: {"cat": tuple(MAPS["cat"])}}


@pytest.mark.parametrize("maps", [None, {}])
def test_not_asked_for_and_none_to_be_had_are_told_apart(tmp_path: Path, maps: Maps | None) -> None:
    kept(tmp_path, maps)
    assert Store(tmp_path).maps() == {}
    with Ledger(tmp_path) as ledger:
        assert ledger.drawn_without_maps([CELL, CELL._replace(seed=9)]) == ([CELL] if maps is None else [])


def test_maps_of_another_picture_are_void(tmp_path: Path) -> None:
    kept(tmp_path, MAPS)
    kept(tmp_path, None)
    assert Store(tmp_path).maps().keys() == {CELL}, "the same picture, drawn again without being asked for maps"
    kept(tmp_path, None, shown="!")
    assert Store(tmp_path).maps() == {}
    with Ledger(tmp_path) as ledger:
        assert ledger.drawn_without_maps([CELL]) == [CELL]


def test_a_run_of_an_earlier_release_is_read_and_written(tmp_path: Path) -> None:
    kept(tmp_path, None)
    age(tmp_path)
    assert Store(tmp_path).maps() == {}
    assert "maps" not in tables(tmp_path), "reading writes nothing"
    other = CELL._replace(seed=1)
    kept(tmp_path, MAPS, of=other)
    assert Store(tmp_path).maps().keys() == {other}
    assert Store(tmp_path).attention().keys() == {CELL, other}


def test_several_at_once_open_a_run_of_an_earlier_release(tmp_path: Path) -> None:
    kept(tmp_path, None)
    for _ in range(5):
        age(tmp_path)
        wrong: list[BaseException] = []
        start = threading.Barrier(4)

        def open_it(start: threading.Barrier = start, wrong: list[BaseException] = wrong) -> None:
            try:
                start.wait()
                connect(tmp_path / "run.sqlite").close()
            except BaseException as error:
                wrong.append(error)

        together = [threading.Thread(target=open_it) for _ in range(4)]
        for one in together:
            one.start()
        for one in together:
            one.join()
        assert wrong == []
        assert "maps" in tables(tmp_path)


def test_a_run_of_another_version_is_left_as_it_is(tmp_path: Path) -> None:
    kept(tmp_path, None)
    age(tmp_path)
    with closing(sqlite3.connect(tmp_path / "run.sqlite")) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(ValueError, match="of version 99"):
        connect(tmp_path / "run.sqlite")
    assert "maps" not in tables(tmp_path)


def test_the_prompts_are_those_that_a_slow_method_is_given() -> None:
    prompts = fakes.prompts(12)
    config = Config(prompts=("fake",), methods=("none", METHOD), subset={METHOD: 4}, seeds=(3, 1), maps=3)
    mapped = mapped_of(config, prompts)
    assert len(mapped) == 3
    assert {seed for _, seed in mapped} == {3}, "the first that is named"
    given = {cell.prompt for cell in cells_of(config, prompts) if cell.method == METHOD}
    assert {text for text, _ in mapped} < given
    assert mapped < mapped_of(config.with_these(maps=6), prompts)
    assert mapped_of(config.with_these(maps=0), prompts) == frozenset()


def test_real_pictures_have_maps_and_are_the_same(tmp_path: Path) -> None:
    """Two prompts of three have maps, of the first seed, as `generate` tells them; going on adds none and says so."""
    import torch

    import tiny
    from attnreg.evaluation.bench import run
    from attnreg.models.load import load_pipeline
    from attnreg.regulation.config import AttentionRegulation
    from attnreg.sampling import generate

    model = tmp_path / "tiny"
    tiny.stable_diffusion().save_pretrained(model)
    methods = ("none", METHOD, "prompt-weighting")
    small: dict[str, Any] = {"steps": 2, "height": 64, "width": 64, "guidance_scale": 3}
    config = Config(prompts=("fake",), methods=methods, models=(str(model),), seeds=(1, 0), maps=2, **small)
    prompts = fakes.prompts(3)
    said: list[str] = []

    def sitting(name: str, **changes: Any) -> Store:
        said.clear()
        run(config.with_these(**changes), tmp_path / name, prompts=prompts, device="cpu", say=said.append)
        return Store(tmp_path / name)

    with_maps = sitting("with", seeds=(1,))
    assert not any("have none" in line for line in said)
    told = with_maps.maps()
    assert {(cell.prompt, cell.seed, cell.method) for cell in told} == {
        (text, seed, METHOD) for text, seed in mapped_of(config, prompts)
    }
    pipe = load_pipeline(str(model), device="cpu")
    pipe.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 2, "height": 64, "width": 64, "guidance_scale": 3.0}
    for cell, by_target in told.items():
        (alone,) = generate(pipe, cell.prompt, AttentionRegulation(), seed=1, maps=True, **options).trace.maps()
        assert by_target.keys() == alone.keys()
        for name, pair in by_target.items():
            for one, exact in zip(pair, alone[name], strict=True):
                torch.testing.assert_close(torch.tensor(one), exact, rtol=0.006, atol=0.0)
                assert len(json.dumps(one)) < 16 * exact.numel(), "three digits each"

    without = sitting("without", seeds=(1,), maps=0)
    assert without.maps() == {}
    assert [r.picture for r in without.records()] == [r.picture for r in with_maps.records()], "the same to the bit"
    sitting("without", seeds=(1,))
    assert without.maps() == {}
    assert any(line.startswith("4 pictures were drawn before their maps were asked for") for line in said)
    assert sitting("with").maps() == told, "the second seed of a run that goes on has none"
    assert not any("have none" in line for line in said)
