"""The summary as CSV, Markdown, LaTeX and Parquet, and between two markers of a README."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attnreg.errors import AttnregError
from attnreg.records import UNMODIFIED, Record
from attnreg.report.summary import MethodRow, Summary, adjusted
from attnreg.report.wording import EXTRA, probability, seconds, unit_for
from attnreg.shown import visible
from attnreg.spreadsheet import csv_of
from attnreg.statistics import Interval
from attnreg.writing import write_file

BEGIN, END = "<!-- attnreg table: begin -->", "<!-- attnreg table: end -->"
"""What stands between these two lines of a README is written by `attnreg bench table`."""


def numbers(summaries: Sequence[Summary]) -> list[dict[str, Any]]:
    """One flat row per model, score and method, in full precision: for machines. `None` where nothing is known."""
    return [
        {
            "model": summary.model,
            "score": other.score,
            "method": row.method,
            "pictures": row.pictures,
            "prompts": row.prompts,
            **_interval("mean", cell[0]),
            **_interval("difference", compared.difference if compared else None),
            "test": compared.test if compared else None,
            "p": compared.p if compared else None,
            "p_holm": compared.p_holm if compared else None,
            **{
                name: getattr(compared, name) if compared else None
                for name in ("gained", "lost", "wins", "ties", "losses", "effect")
            },
            "seconds": row.seconds,
            **_interval("extra_time", row.extra),
            "distance_name": summary.distance,
            **_interval("distance", row.distance),
            "peak_bytes": row.peak_bytes,
            "passes": row.passes,
        }
        for summary in summaries
        for other in summary.scores
        for row, cell in zip(summary.rows, other.cells, strict=True)
        if cell
        for compared in (cell[1],)
    ]


def record_rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """One flat row a picture, a column a score; `None` where it was not judged."""
    names = list(dict.fromkeys(name for record in records for name in record.scores))
    return [
        {
            "prompt": r.prompt, "category": r.category, "seed": r.seed, "method": r.method, "model": r.model,
            "picture": r.picture, "seconds": r.seconds, "peak_bytes": r.peak_bytes,
            "passes": r.passes,
            **{name: r.scores.get(name) for name in names},
        }
        for r in records
    ]  # fmt: skip


def to_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Comma-separated, with a head; nothing is written where a value is not known. No cell is a formula."""
    return csv_of(list(rows[0]), [list(row.values()) for row in rows])


def write_parquet(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """One Parquet file. Raises `AttnregError` if pyarrow is not installed, or the file cannot be written."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise AttnregError(
            "expected pyarrow for Parquet, which is not installed; pip install pyarrow, or choose --format csv"
        ) from error
    made = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), made)
    write_file(path, made.getvalue())


def to_markdown(summaries: Sequence[Summary]) -> str:
    """For people: one table a model, with a head that says what it is about."""
    return "\n\n".join(_with_caption(s, markdown(*_cells(s, _plain_text))) for s in summaries) + "\n"


def to_latex(summaries: Sequence[Summary]) -> str:
    """For papers: one `table` a model, with the rules of booktabs."""
    return "\n\n".join(_latex(summary) for summary in summaries) + "\n"


def into_readme(text: str, table: str) -> str:
    """A README with a new table between its two markers. Raises `AttnregError` unless each is there once, in order."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise AttnregError(
            f"expected one line {BEGIN} and after it one line {END}, got {text.count(BEGIN)} and {text.count(END)} "
            "of them; put the two where the table shall be"
        )
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{table.strip()}\n{END}{rest.split(END)[1]}"


def _interval(name: str, interval: Interval | None) -> dict[str, float | None]:
    if interval is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    low, high = (end if math.isfinite(end) else None for end in (interval.low, interval.high))
    return {name: interval.value, f"{name}_low": low, f"{name}_high": high}


def _plain_text(text: str) -> str:
    return text


def _cells(summary: Summary, spell: Callable[[str], str]) -> tuple[list[str], list[list[str]]]:
    """The heads and the rows of the summary as people read it."""
    unit = summary.unit
    distance = unit_for([row.distance.value for row in summary.rows if row.distance], yes_no=False)
    points = f", {unit.of_difference}" if unit.of_difference else ""
    heads = ["method", summary.score, f"difference to {UNMODIFIED}{points} (95 % interval)", "p (Holm)"]
    heads += ["gained / lost"] if summary.yes_no else []
    passes = any(row.passes is not None for row in summary.rows)
    heads += ["win / tie / loss", "seconds", "extra time", *(["passes"] if passes else [])]
    heads += ["distance"] if summary.distance else []

    most = max(row.pictures for row in summary.rows)

    def name(row: MethodRow) -> str:
        return row.method if row.pictures == most else f"{row.method} ({row.pictures} pictures)"

    def cells(row: MethodRow) -> list[str]:
        c = row.compared
        told = [name(row), unit.value(row.mean.value).replace("\N{NO-BREAK SPACE}", " ")]
        if c:
            interval = unit.signed_interval(c.difference.low, c.difference.high)
            told += [
                f"{unit.difference(c.difference.value)} ({interval})",
                probability(adjusted(c)).replace("\N{NO-BREAK SPACE}", " "),
            ]
            told += [f"{c.gained} / {c.lost}"] if summary.yes_no else []
            told += [f"{c.wins} / {c.ties} / {c.losses}"]
        else:
            told += ["", "", *([""] if summary.yes_no else []), ""]
        told += [seconds(row.seconds), f"{EXTRA.difference(row.extra.value)} %" if row.extra else ""]
        told += ([""] if row.passes is None else [f"{row.passes:.0f}"]) if passes else []
        return told + ([distance.bare(row.distance.value) if row.distance else ""] if summary.distance else [])

    return [spell(head) for head in heads], [[spell(cell) for cell in cells(row)] for row in summary.rows]


def _caption(summary: Summary) -> str:
    row = max(summary.rows, key=lambda one: one.pictures)
    fewer = any(one.pictures < row.pictures for one in summary.rows)
    told = ", or as many as told" if fewer else ""
    return f"{summary.score} on {summary.model}: {row.prompts} prompts, {row.pictures} pictures a method{told}"


def _with_caption(summary: Summary, table: str) -> str:
    return f"{markdown_safe(_caption(summary))}; p adjusted for {summary.comparisons} comparisons.\n\n{table}"


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown, numbers to the right."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join("| " + " | ".join(markdown_safe(cell) for cell in line) + " |" for line in lines)


def markdown_safe(cell: str) -> str:
    """Text with everything that would mean something to Markdown spelled out."""
    # Of a table only the bar is special; method names hold no other sign of Markdown but "*" and "_", which GitHub
    # would take for emphasis in pairs.
    for sign in ("\\", "|", "*", "_", "<"):
        cell = cell.replace(sign, "\\" + sign)
    return " ".join(visible(cell).split("\n"))


LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "\N{MINUS SIGN}": "$-$",
    "\N{NO-BREAK SPACE}": "~",
}  # fmt: skip


def latex_safe(text: str) -> str:
    """Text with everything that means something to TeX spelled out."""
    return "".join(LATEX.get(sign, sign) for sign in visible(text))


def _latex(summary: Summary) -> str:
    heads, rows = _cells(summary, latex_safe)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex_safe(_caption(summary))}. $p$ adjusted for {summary.comparisons} comparisons (Holm).}}",
        rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
        r"\toprule",
        " & ".join(heads) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines)
