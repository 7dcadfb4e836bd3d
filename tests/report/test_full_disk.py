"""Every command that writes a file, on a disk that is full: one line, and what was there is as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from test_report_commands import folder  # noqa: F401  (a fixture)

from attnreg.cli import cli
from attnreg.errors import AttnregError
from attnreg.report.tables import BEGIN, END
from writers import full_after, tree

README = f"before\n{BEGIN}\n{END}\n" + "after\n" * 1000
QUICK = ("--resamples", "200")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("README.md", ["bench", "table", "RUN", *QUICK, "--readme", "FILE"]),
        ("table.csv", ["bench", "table", "RUN", *QUICK, "--format", "csv", "--out", "FILE"]),
        ("table.parquet", ["bench", "table", "RUN", *QUICK, "--format", "parquet", "--out", "FILE"]),
        ("records.parquet", ["bench", "table", "RUN", "--format", "parquet", "--records", "--out", "FILE"]),
        ("report.html", ["bench", "report", "RUN", *QUICK, "--out", "FILE"]),
        ("prompts.csv", ["prompts", "export", "attend-and-excite", "FILE"]),
        ("prompts.txt", ["prompts", "export", "attend-and-excite", "FILE"]),
        ("prompts.jsonl", ["prompts", "export", "attend-and-excite", "FILE"]),
        ("new", ["bench", "export", "RUN", "FILE", "--layout", "geneval", "--method", "none"]),
        ("rows.jsonl", ["bench", "import", "LAYOUT", "--layout", "geneval", "--out", "FILE"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_was_there_survives(name: str, words: list[str], folder: Path, tmp_path: Path) -> None:  # noqa: F811
    layout, out = tmp_path / "layout", tmp_path / "out"
    run = CliRunner().invoke
    if "LAYOUT" in words:
        told = ["bench", "export", str(folder), str(layout), "--layout", "geneval", "--method", "none"]
        run(cli, told, catch_exceptions=False)
    out.mkdir()
    if name != "new":
        (out / name).write_text(README)
    places = {"RUN": str(folder), "FILE": str(out / name), "LAYOUT": str(layout)}
    before = tree(tmp_path), tree(folder)
    with full_after(400), pytest.raises(AttnregError, match=f"expected to write .*{name}.*File too large"):
        run(cli, [places.get(word, word) for word in words], catch_exceptions=False)
    assert (tree(tmp_path), tree(folder)) == before


def test_no_command_opens_a_file_to_write_it_by_itself() -> None:
    """There is one door: what writes in any other way could destroy what was there."""
    package = Path(__file__).parents[2] / "src" / "attnreg"
    exempt = {
        "writing.py",
        "evaluation/drawing.py",  # /proc/self/clear_refs is no file
        "evaluation/working_copy.py",  # a copy in a folder of its own, which goes with it
    }
    ways = (".write_text(", ".write_bytes(", '.open("w', '.open("x', ".mkstemp(", ', "w"', "savefig(")
    found = [
        f"{path.relative_to(package)}: {way}"
        for path in sorted(package.rglob("*.py"))
        if path.relative_to(package).as_posix() not in exempt
        for way in ways
        if way in path.read_text(encoding="utf-8")
    ]
    assert found == []
