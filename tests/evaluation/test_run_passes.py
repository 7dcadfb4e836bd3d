"""Passes of the denoiser in a run's folder: they come back with the records, and are void for another picture."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import fakes

from attnreg.evaluation.ledger import Ledger
from attnreg.evaluation.pictures import png_of
from attnreg.evaluation.store import Cell, Store
from attnreg.evaluation.tasks import Drawn
from attnreg.report.run import Run
from attnreg.report.summary import summarise
from attnreg.report.tables import numbers, record_rows, to_markdown

CELL = Cell("a cat and a dog", 0, "none", "pocket")


def kept(folder: Path, passes: int | None, shown: str = "") -> None:
    png = png_of(fakes.picture(CELL._replace(prompt=CELL.prompt + shown)))
    with Ledger(folder) as ledger:
        ledger.ask({}, fakes.prompts(1), [CELL], {}, {}, "")
        ledger.keep(CELL, Drawn(png, 1.0, passes=passes))


def counts(folder: Path) -> list[int | None]:
    return [record.passes for record in Store(folder).records()]


def test_they_come_back_and_are_void_for_another_picture(tmp_path: Path) -> None:
    kept(tmp_path, 24)
    assert counts(tmp_path) == [24]
    kept(tmp_path, None, shown="!")
    assert counts(tmp_path) == [None]


def test_a_run_of_an_earlier_release_has_none_and_gains_them(tmp_path: Path) -> None:
    kept(tmp_path, None)
    with closing(sqlite3.connect(tmp_path / "run.sqlite")) as connection:
        connection.execute("DROP TABLE passes")
    assert counts(tmp_path) == [None]
    kept(tmp_path, 30)
    assert counts(tmp_path) == [30]


def test_tables_show_them_where_they_are_known(tmp_path: Path) -> None:
    for passes, shown in ((36, " 36 |"), (None, "")):
        kept(tmp_path, passes)
        if passes is None:
            with closing(sqlite3.connect(tmp_path / "run.sqlite")) as connection:
                connection.execute("DELETE FROM passes")
                connection.commit()
        records = [record.__class__(**{**vars(record), "scores": {"a/b": 1.0}}) for record in Store(tmp_path).records()]
        run = Run(records=records, picture=lambda _: None)
        summary = summarise(run, "pocket", resamples=100)
        assert numbers([summary])[0]["passes"] == passes
        assert record_rows(records)[0]["passes"] == passes
        assert ("| passes |" in to_markdown([summary])) == (passes is not None)
        assert shown in to_markdown([summary])
