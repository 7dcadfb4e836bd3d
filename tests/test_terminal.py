"""What a prompt file or a run holds commands no terminal, and no reader of a report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from attnreg.cli import cli
from attnreg.report.page import page
from attnreg.report.summary import summarise
from attnreg.report.tables import to_latex, to_markdown
from attnreg.report.wishes import Wishes
from report.made_run import made_run

EVIL = "a cat\x1b]0;owned\x07\x1b[2J\x9b31m and a dog\u202e"
COMMANDS = ("\x1b", "\x07", "\x9b", "\u202e", "\r")


def is_clean(text: str) -> bool:
    return not any(sign in text for sign in COMMANDS)


def test_prompts_that_are_shown(tmp_path: Path) -> None:
    told = {"prompt": EVIL, "category": EVIL, "things": [{"noun": EVIL}], "questions": [[EVIL, EVIL]]}
    (tmp_path / "evil.jsonl").write_text(json.dumps(told) + "\n")
    done = CliRunner().invoke(cli, ["prompts", "show", str(tmp_path / "evil.jsonl"), "--known"], catch_exceptions=False)
    assert done.output.count(r"\x1b[2J\x9b31m") == 5
    assert is_clean(done.output)


def test_reports_and_tables() -> None:
    run = made_run(3, 2, ("none", "attention-regulation"), side=16)
    first = run.records[0].prompt
    records = [
        replace(r, prompt=r.prompt.replace(first, EVIL), method=r.method.replace("attention", "\x1b[1mattention"))
        for r in run.records
    ]
    evil = replace(
        run,
        records=records,
        title=EVIL,
        command=EVIL,
        config={EVIL: EVIL},
        versions={EVIL: EVIL},
        attention={},
        maps={},
    )
    summary = summarise(evil, "pocket", resamples=100)
    for made in (page(evil, Wishes(resamples=100)), to_markdown([summary]), to_latex([summary])):
        assert is_clean(made)
    assert r"\x1b[1mattention" in page(evil, Wishes(resamples=100))


def test_every_command_prints_through_one_door() -> None:
    commands = Path(__file__).parents[1] / "src" / "attnreg" / "commands"
    raw = [
        f"{path.name}: {line.strip()}"
        for path in sorted(commands.glob("*.py"))
        if path.name != "terminal.py"
        for line in path.read_text(encoding="utf-8").splitlines()
        if ("click.echo(" in line and '"\\r"' not in line) or line.strip().startswith("print(")
    ]
    assert raw == []


@pytest.mark.parametrize("option", ["--weights", "--subset"])
def test_a_name_given_twice_is_refused(option: str, tmp_path: Path) -> None:
    words = ["bench", "run", "--prompts", "similar-subjects", option, "none=1", option, "none=2"]
    done = CliRunner().invoke(cli, [*words, "--out", str(tmp_path / "run")])
    assert done.exit_code == 2
    assert "expected every name once, got 'none' twice" in done.output
