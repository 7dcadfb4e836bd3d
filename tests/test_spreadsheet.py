"""No cell of a table is a formula, and what is written is read again."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnreg.evaluation.prompts import prompt_set
from attnreg.evaluation.prompts.plain import write
from attnreg.measure.asked import Prompt
from attnreg.report.tables import to_csv
from attnreg.spreadsheet import csv_of, escaped, restored

FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1", "\r=1", "'=1", "''-a"]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_text_is_a_formula(text: str, tmp_path: Path) -> None:
    (row,) = csv.DictReader(io.StringIO(to_csv([{"prompt": text, "method": text}]), newline=""))
    assert row["prompt"] == row["method"] == f"'{text}"
    write([Prompt(text, category=text)], tmp_path / "mine.csv")
    assert f'"\'{text}"' in (tmp_path / "mine.csv").read_bytes().decode()
    assert prompt_set(str(tmp_path / "mine.csv")) == (Prompt(text, category=text),)


def test_numbers_stay_numbers() -> None:
    assert csv_of(["a", "b", "c", "d"], [[-0.5, -3, None, "-2.5e-3"]]) == "a,b,c,d\n-0.5,-3,,-2.5e-3\n"
    assert escaped("a - b") == "a - b"
    assert restored("'tis a cat") == "'tis a cat"


@given(cell=st.text(max_size=8) | st.sampled_from(FORMULAS))
def test_what_is_written_is_read(cell: str) -> None:
    assert restored(str(escaped(cell))) == cell
