"""Whatever comes from outside, each reader and each command ends in a result or in the library's own error.

Nothing else is raised, nothing hangs, and a command that fails leaves every file as it was. Small budgets: the whole
file takes about a minute of one core.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from attnreg.cli import cli
from attnreg.errors import LONGEST, AttnregError
from attnreg.evaluation.config import config_of, read_config
from attnreg.evaluation.ledger import Ledger
from attnreg.evaluation.prompts.registry import PROMPT_SETS, READERS, prompt_set
from attnreg.evaluation.spelling import read_method, split_methods
from attnreg.evaluation.store import Cell
from attnreg.evaluation.tasks import Batch, Drawn
from attnreg.measure.asked import Prompt, Thing
from attnreg.reading import json_of, path_of, yaml_of
from attnreg.recipe import read_recipe
from attnreg.regulation.settings import layer_patterns, number, whole_number
from attnreg.report.layouts import BESIDE, LAYOUTS, read_layout
from attnreg.seeds import seeds_of
from report.made_run import MODEL, made_run
from writers import tree

EXAMPLES = 30

# What people, programs and villains write

SIGNS = st.characters(exclude_categories=[])
ODD = st.sampled_from(
    ["", " ", "\0", "\ud800", "\x1b[2J", "\u202e", "~nobody-here/x", "../..", "x" * 300, "x" * 30_000, "CON", "-1",
     "9" * 5000, "1e999", "nan", ".inf", "[" * 3000, "{" * 3000, "((((", "=cmd()", "None", "a/b", "/dev/zero", "PIPE"]
)  # fmt: skip
TEXT = st.text(SIGNS, max_size=12) | ODD
NUMBER = st.integers() | st.floats() | st.sampled_from([10**30, 10**400, -5, 0, 2**63, True])
NAMES = st.sampled_from(
    ["prompt", "text", "caption", "things", "noun", "colour", "count", "attributes", "relations", "first", "second",
     "where", "questions", "choices", "parents", "category", "tag", "include", "class", "position", "prompts",
     "methods", "models", "seeds", "judges", "weights", "limit", "half", "subset", "steps", "height", "seed", "picture",
     "method", "id", "item_id", "annotations", "images", "categories", "image_id", "area", "width", "name", "question",
     "answer"]
)  # fmt: skip
VALUE = st.recursive(
    st.none() | TEXT | NUMBER,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | TEXT, inner, max_size=6),
    max_leaves=12,
)
ROWS = st.lists(st.dictionaries(NAMES, VALUE, max_size=6), max_size=3)


def as_json(value: Any) -> str:
    """With numbers of thousands of digits, which other programs can write."""
    return json.dumps(value).replace('"9999', "9999").replace('9999"', "9999")


def as_yaml(value: Any) -> str:
    try:
        return yaml.safe_dump(value)
    except (ValueError, yaml.YAMLError):
        return "seeds: 0x" + "f" * 6000


def as_table(rows: list[dict[str, Any]], comma: str) -> str:
    heads = [*(rows[0] if rows else {}), "prompt"]
    lines = [comma.join(heads), *(comma.join(as_json(row.get(name)) for name in heads) for row in rows)]
    return "\n".join(lines)


CONTENT = st.one_of(
    st.binary(max_size=60),
    TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")),
    VALUE.map(lambda value: as_json(value).encode()),
    ROWS.map(lambda rows: "\n".join(map(as_json, rows)).encode()),
    ROWS.map(lambda rows: as_table(rows, ",").encode()),
    ROWS.map(lambda rows: as_table(rows, "\t").encode()),
    st.dictionaries(NAMES, ROWS | VALUE, max_size=6).map(lambda value: as_json(value).encode()),
    st.dictionaries(NAMES, VALUE, max_size=4).map(lambda value: as_yaml(value | {"prompts": ["x"]}).encode()),
)


def ends_well(work: Callable[[], Any]) -> None:
    """It works, or is refused in one line that can be printed."""
    try:
        work()
    except AttnregError as error:
        told = str(error)
        assert len(told) < LONGEST + 100
        assert not {"\x1b", "\0", "\u202e"} & set(told)
        told.encode("utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


# Readers

PROMPT_FILES = [*(f"mine{suffix}" for suffix in READERS), *(n for n, row in PROMPT_SETS.items() if row.takes == "file")]


@pytest.mark.parametrize("kind", PROMPT_FILES)
@settings(max_examples=30)
@given(content=CONTENT)
def test_files_of_prompts(kind: str, content: bytes, folder: Path) -> None:
    path = folder / (kind if kind.startswith("mine") else "captions_x.json")
    path.write_bytes(content)
    (folder / "instances_x.json").write_bytes(content)
    name = str(path) if kind.startswith("mine") else f"{kind}:{path}"
    ends_well(lambda: prompt_set(name, limit=3, half="test"))


@settings(max_examples=60)
@given(content=CONTENT)
def test_files_of_runs_and_pictures(content: bytes, folder: Path) -> None:
    (folder / "run.yaml").write_bytes(content)
    ends_well(lambda: read_config(folder / "run.yaml"))
    layout = folder / "layout"
    (layout / "00000" / "samples").mkdir(parents=True, exist_ok=True)
    (layout / "00000" / "samples" / "0.png").touch()
    (layout / "00000" / "metadata.jsonl").write_bytes(content)
    for name in LAYOUTS:
        ends_well(lambda name=name: read_layout(name, layout, "theirs"))  # type: ignore[misc]
    (layout / BESIDE).write_bytes(content)
    ends_well(lambda: read_layout("geneval", layout))
    (layout / BESIDE).unlink()


@settings(max_examples=60)
@given(values=st.dictionaries(st.sampled_from(["prompt", "seed", "model", "method", "settings", "steps"]), VALUE))
def test_recipes(values: dict[str, Any], folder: Path) -> None:
    info = PngInfo()
    for name, value in ({"prompt": "a", "seed": 0, "model": "m", "method": "none"} | values).items():
        info.add_itxt(f"attnreg:{name}", as_json(value))
    Image.new("RGB", (8, 8)).save(folder / "recipe.png", pnginfo=info)
    ends_well(lambda: read_recipe(folder / "recipe.png"))


@settings(max_examples=60)
@given(content=st.binary(max_size=80))
def test_pictures_that_are_none(content: bytes, folder: Path) -> None:
    whole = (folder / "whole.png", folder / "torn.png")
    Image.new("RGB", (8, 8)).save(whole[0])
    whole[1].write_bytes(whole[0].read_bytes()[: len(content)] + content)
    ends_well(lambda: read_recipe(whole[1]))


@settings(max_examples=150)
@given(value=VALUE, text=TEXT | st.lists(TEXT, max_size=4).map("".join))
def test_values_and_texts(value: Any, text: str) -> None:
    for read in (
        lambda: seeds_of(value),
        lambda: seeds_of(text),
        lambda: config_of(value, "here"),
        lambda: config_of({"prompts": "x", "seeds": value, "weights": {"a": value}}, "here"),
        lambda: config_of({"prompts": value, "methods": value, "height": value, "guidance_scale": value}, "here"),
        lambda: read_method(text),
        lambda: read_method(f"attention-balance(gain={text})"),
        lambda: split_methods(text),
        lambda: json_of(text, "here"),
        lambda: yaml_of(text, "here"),
        lambda: path_of(text),
        lambda: layer_patterns("layers", value),
        lambda: layer_patterns("layers", (text,)),
        lambda: number(0.0)("strength", value),
        lambda: whole_number(0, 9)("iterations", value),
    ):
        ends_well(read)


# Commands


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where commands are given: a run, a folder of pictures, files of all kinds, a pipe."""
    top = tmp_path_factory.mktemp("yard")
    run = made_run(2, 2, ("none", "attention-regulation"), side=8)
    cells = {Cell(r.prompt, r.seed, r.method, r.model): r for r in run.records}
    with Ledger(top / "run") as ledger:
        things = {str(p["text"]): p["things"] for p in run.prompts}
        asked = [Prompt(text, tuple(Thing(t["noun"]) for t in told)) for text, told in things.items()]  # type: ignore[attr-defined]
        ledger.ask({}, asked, list(cells), {}, {}, "")
        for cell, record in cells.items():
            ledger.keep(cell, Drawn(run.picture(record.picture) or b"", 1.0))
        shas = tuple(record.picture for record in cells.values())
        scores = [{"all things": 1.0, "distance": 0.1} for _ in cells]
        ledger.keep_verdicts(Batch("pocket", "", tuple(cells), (), shas, (), None, (None,) * len(cells)), scores)
    for name, content in (
        ("mine.txt", "a cat and a dog\n"), ("mine.csv", "prompt\na cat\n"), ("run.yaml", "prompts: mine.txt\n"),
        ("README.md", "all of it\n"), ("bad.json", "[" * 9000), ("evil.txt", "\x1b[2J\n"), ("nul.txt", "a\0b"),
    ):  # fmt: skip
        (top / name).write_text(content)
    Image.new("RGB", (8, 8)).save(top / "one.png")
    (top / "empty").mkdir()
    os.mkfifo(top / "PIPE")
    shutil.copytree(top / "run", top / "damaged")
    (top / "damaged" / "run.sqlite").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    before = os.getcwd()
    os.chdir(top)
    yield top
    os.chdir(before)


WORD = st.sampled_from(
    ["run", "damaged", "empty", "mine.txt", "mine.csv", "run.yaml", "README.md", "bad.json", "evil.txt", "nul.txt",
     "one.png", "PIPE", "/dev/null", "new", "new/deep.csv", "new.jsonl", "new.txt", "similar-subjects", "geneval:PIPE",
     "geneval:mine.txt", "coco:empty", "compbench:empty", "none", "attention-regulation", "attention-balance(gain=",
     "pocket", MODEL, "geneval", "t2i-compbench", "csv", "json", "latex", "parquet", "0", "3", "0-3", "zip://x",
     "file://empty", "pocket=1", "all things", "pocket/distance", "nope", "a cat", "cpu"]
) | TEXT.filter(lambda text: "\0" not in text and not any("\ud800" <= sign <= "\udfff" for sign in text))  # fmt: skip
SETS = (
    st.sampled_from(["similar-subjects", "mine.txt", "mine.csv", "evil.txt", "geneval:PIPE", "cc-500:mine.txt"]) | WORD
)
RUNS = st.sampled_from(["run", "run", "run", "damaged"]) | WORD
OUT = st.sampled_from(["new", "new/deep.csv", "new.jsonl", "new.txt", "README.md", "PIPE", "empty", "/dev/null"]) | WORD
LAYOUT, METHOD = st.sampled_from([*LAYOUTS, "csv"]), st.sampled_from(["none", "attention-regulation"]) | WORD
NUMBERS = st.sampled_from(["0", "1", "3", "-1", "1e9", "nan", "9" * 30]) | WORD
FORMAT = st.sampled_from(["csv", "json", "latex", "parquet", "markdown"])
SCORE = st.sampled_from(["all things", "pocket/distance"]) | WORD
NONE = st.just("")
Takes = dict[str, st.SearchStrategy[str]]
COMMANDS: dict[str, tuple[list[st.SearchStrategy[str]], Takes]] = {
    "prompts list": ([], {}),
    "prompts show": ([SETS], {"--limit": NUMBERS, "--half": st.just("test"), "--seed": NUMBERS, "--known": NONE}),
    "prompts export": ([SETS, OUT], {"--limit": NUMBERS, "--seed": NUMBERS, "--find-things": NONE}),
    "bench run": ([WORD], {
        "--prompts": SETS, "--methods": METHOD, "--seeds": NUMBERS, "--judges": WORD, "--weights": WORD,
        "--limit": NUMBERS, "--half": WORD, "--subset": WORD, "--maps": NUMBERS, "--steps": NUMBERS,
        "--guidance-scale": NUMBERS, "--height": NUMBERS, "--scheduler": WORD, "--dtype": WORD, "--batch": NUMBERS,
    }),
    "bench report": ([RUNS], {
        "--score": SCORE, "--distance": SCORE, "--out": OUT, "--title": WORD, "--prompt": WORD, "--sheets": NUMBERS,
        "--seeds": NUMBERS, "--megabytes": NUMBERS,
    }),
    "bench table": ([RUNS], {
        "--score": SCORE, "--distance": SCORE, "--out": OUT, "--format": FORMAT, "--records": NONE, "--readme": OUT,
    }),
    "bench export": ([RUNS, OUT], {"--layout": LAYOUT, "--method": METHOD, "--model": WORD}),
    "bench import": ([OUT], {
        "--layout": LAYOUT, "--method": METHOD, "--out": OUT, "--model": WORD, "--weights": WORD, "--prompts": SETS,
    }),
    "bench distances": ([RUNS], {
        "--weights": WORD, "--reference": OUT, "--seed": NUMBERS, "--format": FORMAT, "--out": OUT,
    }),
    "rerun": ([OUT], {"--device": st.just("cpu"), "--out": OUT}),
    "methods": ([], {}),
}  # fmt: skip
QUICK = {"bench report": ["--resamples", "100"], "bench table": ["--resamples", "100"]}


@pytest.mark.parametrize("command", COMMANDS)
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_commands(command: str, data: st.DataObject, yard: Path) -> None:
    places, options = COMMANDS[command]
    words = [*command.split(), *QUICK.get(command, []), *(data.draw(place) for place in places)]
    needed = {"bench export": ["--layout", "--method"], "bench import": ["--layout"]}.get(command, [])
    for option in [*needed, *data.draw(st.lists(st.sampled_from([*options]), max_size=3) if options else st.just([]))]:
        words += [word for word in (option, data.draw(options[option])) if word]
    if command == "bench run":  # the folder is new, and no model is opened: it is the words that are tried
        words += ["--out", "new-run", "--models", "no/such-model/anywhere"]
    before = tree(yard)
    done = CliRunner().invoke(cli, words)
    assert done.exception is None or isinstance(done.exception, AttnregError | SystemExit), (words, done.exc_info)
    assert not {"\x1b", "\u202e"} & set(done.output if done.exit_code == 0 else ""), words
    after = tree(yard)
    if done.exit_code:
        assert after == before, words
    else:
        assert {name: after.get(name) for name in before if name not in words} == {
            name: content for name, content in before.items() if name not in words
        }, words
        for name in after.keys() - before.keys():
            place = yard / name
            shutil.rmtree(place, ignore_errors=True) if place.is_dir() else place.unlink(missing_ok=True)
        for name in after.keys() & before.keys():
            if after[name] != before[name]:
                (yard / name).write_bytes(before[name] or b"")
