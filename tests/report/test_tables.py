"""The summary for spreadsheets, papers and READMEs."""

from __future__ import annotations

import csv
import io
import re
import sys
from pathlib import Path

import pytest
from made_run import made_run
from test_summary import many, record, run_of

from attnreg.errors import AttnregError
from attnreg.report import tables
from attnreg.report.run import Run
from attnreg.report.summary import Summary, summarise


@pytest.fixture(scope="module")
def run() -> Run:
    return made_run(6, 2, side=8)


@pytest.fixture(scope="module")
def summary(run: Run) -> Summary:
    return summarise(run, "pocket", resamples=300)


def test_csv_holds_every_score_in_full(summary: Summary) -> None:
    rows = list(csv.DictReader(io.StringIO(tables.to_csv(tables.numbers([summary])))))
    assert len(rows) == 6 * 4
    row = next(one for one in rows if one["method"] == "syngen" and one["score"] == "pocket/all things")
    (own,) = [one for one in summary.rows if one.method == "syngen"]
    assert own.compared is not None
    assert float(row["difference"]) == own.compared.difference.value
    assert float(row["p_holm"]) == own.compared.p_holm
    assert row["test"] == "Wilcoxon signed-rank"
    none = next(one for one in rows if one["method"] == "none")
    assert none["difference"] == none["p"] == none["extra_time"] == ""


def test_no_infinity_leaves_the_house() -> None:
    """The interval of a single prompt is everything; a spreadsheet is given nothing in its place."""
    one = summarise(run_of(record("p", 0, "none", 0), record("p", 0, "new", 1)), "m", resamples=300)
    assert tables.numbers([one])[1]["difference"] == 1.0
    assert tables.numbers([one])[1]["difference_low"] is None
    assert "inf" not in tables.to_csv(tables.numbers([one])) + tables.to_markdown([one]) + tables.to_latex([one])


def test_one_row_a_picture(run: Run) -> None:
    rows = tables.record_rows(run.records)
    assert len(rows) == len(run.records)
    assert rows[0]["pocket/distance"] is None, "none has no distance to itself"
    assert {tuple(row) for row in rows} == {tuple(rows[0])}, "the same columns in every row"


def test_parquet(run: Run, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    tables.write_parquet(tables.record_rows(run.records), tmp_path / "x.parquet")
    back = pq.read_table(tmp_path / "x.parquet").to_pylist()
    assert back == tables.record_rows(run.records)


def test_parquet_without_pyarrow_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(AttnregError, match="expected pyarrow"):
        tables.write_parquet([{"a": 1}], tmp_path / "x.parquet")


def test_markdown_is_a_table(summary: Summary) -> None:
    caption, _, *lines = tables.to_markdown([summary]).splitlines()
    assert caption == "pocket/all things on pocket: 6 prompts, 12 pictures a method; p adjusted for 20 comparisons."
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
    assert {len(line) for line in cells} == {9}
    assert [line[0].strip() for line in cells[2:]] == [row.method for row in summary.rows]
    assert all(re.fullmatch(r" [+−]?\d+\.\d \(\S+ to \S+\) ", line[2]) for line in cells[3:])
    assert cells[2][2].strip() == ""


def test_who_drew_fewer_pictures_is_told() -> None:
    records = [record(p, 0, "none", 0) for p in "pqr"] + [record("p", 0, "slow", 1), record("q", 0, "slow", 1)]
    made = tables.to_markdown([summarise(run_of(*records), "m", resamples=300)])
    assert "3 prompts, 3 pictures a method, or as many as told;" in made
    assert "| slow (2 pictures) |" in made
    assert "| none |" in made


def test_names_cannot_break_the_tables() -> None:
    evil = r"a|b_c*d<e>\f & 50% $x$ {y} ~^#"
    records = [record("p", 0, "none", 0), record("q", 0, "none", 1), record("p", 0, evil, 1), record("q", 0, evil, 1)]
    summary = summarise(run_of(*records), "m", resamples=300)
    line = tables.to_markdown([summary]).splitlines()[-1]
    assert len(re.findall(r"(?<!\\)\|", line)) == 9
    assert r"a\|b\_c\*d\<e>" in line
    line = next(row for row in tables.to_latex([summary]).splitlines() if "textbackslash" in row)
    assert len(re.findall(r"(?<!\\)&", line)) == 7
    assert r"b\_c*d$<$e$>$\textbackslash{}f \& 50\% \$x\$ \{y\} \textasciitilde{}\textasciicircum{}\#" in line


def test_latex_is_balanced() -> None:
    text = tables.to_latex([summarise(many(3), "m", resamples=300)])
    assert [text.count(word) for word in (r"\begin{table}", r"\end{tabular}", r"\toprule", r"\bottomrule")] == [1] * 4
    columns = re.search(r"\\begin\{tabular\}\{(\w+)\}", text)
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert columns
    assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {len(columns[1])}


def test_a_readme_takes_the_table_between_its_marks() -> None:
    text = f"# Title\n\n{tables.BEGIN}\nold\n{tables.END}\n\nrest\n"
    new = tables.into_readme(text, "| a |\n")
    assert new == f"# Title\n\n{tables.BEGIN}\n| a |\n{tables.END}\n\nrest\n"
    assert tables.into_readme(new, "| a |\n") == new


@pytest.mark.parametrize(
    "text", ["", tables.BEGIN, tables.END + tables.BEGIN, f"{tables.BEGIN}{tables.END}{tables.END}"]
)
def test_a_readme_without_the_marks_is_left_alone(text: str) -> None:
    with pytest.raises(AttnregError, match="put the two where the table shall be"):
        tables.into_readme(text, "x")
