"""The commands, on a run's folder as `attnreg bench run` leaves it; pictures of others taken into one."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from made_run import MODEL, made_run
from PIL import Image

from attnreg.cli import cli
from attnreg.errors import AttnregError
from attnreg.evaluation.foreign import take_in
from attnreg.evaluation.ledger import Ledger
from attnreg.evaluation.store import Cell, Store, last_config
from attnreg.evaluation.tasks import Batch, Drawn
from attnreg.measure.asked import Prompt, Thing
from attnreg.report.layouts import read_layout
from attnreg.report.tables import BEGIN, END

METHODS = ("none", "attention-regulation")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 3 prompts x 2 seeds x 2 methods in a folder of its own."""
    run = made_run(3, 2, METHODS, side=16)
    out = tmp_path_factory.mktemp("run")
    prompts = [
        Prompt(str(p["text"]), tuple(Thing(t["noun"], t["colour"]) for t in p["things"]), category=str(p["category"]))  # type: ignore[attr-defined]
        for p in run.prompts
    ]
    cells = {Cell(r.prompt, r.seed, r.method, r.model): r for r in run.records}
    lost = Cell(prompts[0].text, 7, "attention-regulation", MODEL)
    with Ledger(out) as ledger:
        ledger.ask(dict(run.config), prompts, [*cells, lost], {}, run.versions, run.command)
        for cell, record in cells.items():
            data = run.picture(record.picture) or b""
            told = dict(run.attention.get(cell, {})), run.maps.get(cell)  # type: ignore[call-overload]
            ledger.keep(cell, Drawn(data, record.seconds, record.peak_bytes, *told))
        ledger.keep_failure(lost, "no token of the prompt matches 'gizmo'")
        scores: dict[str, dict[Cell, dict[str, float]]] = {}
        for cell, record in cells.items():
            for name, value in record.scores.items():
                judge, score = name.split("/")
                scores.setdefault(judge, {}).setdefault(cell, {})[score] = value
        for judge, told in scores.items():
            shas = tuple(cells[cell].picture for cell in told)
            some = (None,) * len(told)
            ledger.keep_verdicts(Batch(judge, "", tuple(told), (), shas, (), None, some), list(told.values()))
    return out


def call(*words: object) -> Result:
    return CliRunner().invoke(cli, ["bench", *map(str, words)], catch_exceptions=False)


def test_report(folder: Path, tmp_path: Path) -> None:
    done = call("report", folder, "--out", tmp_path / "new" / "page.html", "--title", "Mine", "--resamples", 200)
    assert done.exit_code == 0, done.output
    assert done.output.startswith(f"saved {tmp_path / 'new' / 'page.html'} (0.")
    made = (tmp_path / "new" / "page.html").read_text(encoding="utf-8")
    for part in ("<h1>Mine</h1>", "attnreg bench run --prompts", "gizmo", 'id="attention"', "diffusers"):
        assert part in made
    assert made.count("the edit, over the picture") == 3 * 2 * 2, "each prompt, each thing, before and after"


def test_report_stands_in_the_run_unless_told(folder: Path) -> None:
    call("report", folder, "--resamples", 200, "--sheets", 1)
    assert (folder / "report.html").is_file()


def test_tables(folder: Path, tmp_path: Path) -> None:
    told = call("table", folder, "--resamples", 200)
    assert told.output.startswith("pocket/all things on pocket: 3 prompts, 6 pictures a method")
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\n{END}\nafter\n")
    assert call("table", folder, "--resamples", 200, "--readme", readme).exit_code == 0
    assert readme.read_text() == f"before\n{BEGIN}\n{told.output.strip()}\n{END}\nafter\n"
    rows = list(csv.DictReader(io.StringIO(call("table", folder, "--format", "csv", "--records").output)))
    assert len(rows) == 12
    call("table", folder, "--format", "latex", "--out", tmp_path / "t.tex", "--resamples", 200)
    assert r"\toprule" in (tmp_path / "t.tex").read_text()


@pytest.mark.parametrize(
    "words",
    [
        ["--resamples", "100000000"],
        ["--out", "x" * 300],
        ["--records"],
        ["--format", "parquet"],
        ["--format", "csv", "--readme", "x"],
        ["--readme", "x", "--out", "y"],
    ],
)
def test_tables_that_cannot_be(folder: Path, words: list[str]) -> None:
    assert call("table", folder, *words).exit_code == 2


def test_errors_are_the_librarys(folder: Path, tmp_path: Path) -> None:
    for words, told in (
        (["report", tmp_path], "expected a run's folder"),
        (["report", folder, "--score", "beauty"], "the run has:"),
        (["report", folder, "--distance", "nope"], "name of one distance, got 'nope'; the run has: pocket/distance"),
        (["table", folder, "--distance", "things"], "name of one distance"),
        (["report", folder, "--prompt", "a unicorn", "--resamples", "200"], "none of its 3"),
        (["table", folder, "--readme", str(tmp_path / "no.md"), "--resamples", "200"], "expected a README"),
        (["export", folder, str(tmp_path / "x"), "--layout", "geneval", "--method", "y"], "it has none, attention-reg"),
    ):
        with pytest.raises(AttnregError, match=told):
            call(*words)


def test_export_and_import(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "theirs"
    done = call("export", folder, out, "--layout", "geneval", "--method", "none")
    assert done.output == f"saved 6 pictures to {out} as 00000/metadata.jsonl with 00000/samples/0000.png\n"
    listed = [json.loads(line) for line in call("import", out, "--layout", "geneval").output.splitlines()]
    assert len(listed) == 6
    assert {row["method"] for row in listed} == {"none"}
    assert all(Path(row["picture"]).is_file() for row in listed)
    call("import", out, "--layout", "geneval", "--method", "other", "--out", tmp_path / "rows.jsonl")
    assert '"method": "other"' in (tmp_path / "rows.jsonl").read_text()
    assert call("import", out, "--layout", "geneval", "--into", tmp_path / "run").exit_code == 2, "whose model?"


def test_tracking(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(AttnregError, match="expected wandb for --track"):
        call("report", folder, "--out", tmp_path / "page.html", "--resamples", 200, "--track", "wandb")
    assert (tmp_path / "page.html").is_file(), "the page is saved before anything is sent anywhere"


class Brightness:
    """A judge; `compares`: against the unmodified picture."""

    def __init__(self, compares: bool) -> None:
        self.needs_unmodified = compares

    def check(self, prompts: list[Prompt]) -> None:
        if any(prompt.text == "unfit" for prompt in prompts):
            raise AttnregError("expected prompts that fit, got 'unfit'; leave it out")

    def __call__(
        self, pictures: list[Image.Image], prompts: list[Prompt], unmodified: object = None
    ) -> list[dict[str, float]]:
        assert (unmodified is not None) == self.needs_unmodified
        return [
            {"things": float(len(prompt.things)), "width": float(one.width)}
            for one, prompt in zip(pictures, prompts, strict=True)
        ]


def open_judge(name: str, weights: str) -> Brightness:
    return Brightness(compares=name == "beside")


def test_pictures_of_others_are_judged_beside_ours(folder: Path, tmp_path: Path) -> None:
    """Two pictures, a PNG and a JPEG, of a prompt that the run knows; one of them has an unmodified one beside it."""
    prompt = Store(folder).prompts()[1]
    run, theirs = tmp_path / "run", tmp_path / "theirs" / prompt.text
    first = [record for record in Store(folder).records() if record.prompt == prompt.text and record.seed == 0]
    with Ledger(run) as ledger:
        cell = Cell(prompt.text, 0, "none", MODEL)
        ledger.ask({"prompts": ["x"]}, [prompt], [cell], {}, {}, "mine")
        ledger.keep(cell, Drawn(Store(folder).picture(first[0].picture) or b"", 1.0))
    theirs.mkdir(parents=True)
    Image.new("RGB", (24, 24), "red").save(theirs / "0.png")
    Image.new("RGB", (24, 24), "blue").save(theirs / "5.jpg")
    found = read_layout("attend-and-excite", tmp_path / "theirs", "theirs")
    judges = {"alone": "", "beside": ""}
    assert take_in(found, run, MODEL, judges=judges, open_judge=open_judge) == 3
    records = {(r.method, r.seed): r for r in Store(run).records()}
    assert records["theirs", 0].scores == {
        "alone/things": 2.0, "alone/width": 24.0, "beside/things": 2.0, "beside/width": 24.0,
    }  # fmt: skip
    assert set(records["theirs", 5].scores) == {"alone/things", "alone/width"}
    assert records["theirs", 0].seconds == 0.0
    assert (Store(run).picture(records["theirs", 5].picture) or b"").startswith(b"\x89PNG")
    assert Store(run).sittings()[-1].config == {"prompts": ["x"]}, "the run can be taken up again"
    assert take_in(found, run, MODEL, judges=judges, open_judge=open_judge) == 0, "nothing is done twice"
    (kept,) = (run / "pictures").rglob(f"{records['theirs', 0].picture}.png")
    kept.write_bytes(kept.read_bytes() + b"damage")
    assert take_in(found, run, MODEL, judges=judges, open_judge=open_judge) == 0
    assert Store(run).picture(records["theirs", 0].picture), "a damaged one is healed"
    Image.new("RGB", (24, 24), "green").save(theirs / "0.png")
    with pytest.raises(AttnregError, match="name the method otherwise"):
        take_in(found, run, MODEL, judges=judges, open_judge=open_judge)


def test_pictures_of_others_alone_are_no_configuration(tmp_path: Path) -> None:
    """The run can be asked for more: it was asked for nothing yet. What a judge lacks is told."""
    (tmp_path / "theirs" / "a cat").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "theirs" / "a cat" / "0.png")
    found, said = read_layout("attend-and-excite", tmp_path / "theirs", "theirs"), list[str]()
    judges = {"beside": ""}
    assert take_in(found, tmp_path / "run", MODEL, judges=judges, open_judge=open_judge, say=said.append) == 0
    assert any("missing for 1 of these" in line for line in said)
    assert last_config(tmp_path / "run") is None


def test_nothing_is_written_when_something_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "theirs" / "unfit").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "theirs" / "unfit" / "0.png")
    found = read_layout("attend-and-excite", tmp_path / "theirs", "theirs")
    with pytest.raises(AttnregError, match="got 'unfit'"):
        take_in(found, tmp_path / "run", MODEL, judges={"alone": ""}, open_judge=open_judge)
    (tmp_path / "theirs" / "unfit" / "0.png").write_bytes(b"nothing")
    with pytest.raises(AttnregError, match="expected a picture, got"):
        take_in(found, tmp_path / "run", MODEL, judges={}, open_judge=open_judge)
    assert not (tmp_path / "run").exists()
