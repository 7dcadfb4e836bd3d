"""Pictures written as other judges read them, and read back; folders as those judges' authors make them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from made_run import made_run
from PIL import Image

from attnreg.errors import AttnregError
from attnreg.report.layouts import BESIDE, LAYOUTS, export_layout, file_name, folder_name, read_layout
from attnreg.report.run import Run

METHODS = ("none", "attention-regulation")


@pytest.fixture(scope="module")
def run() -> Run:
    return made_run(4, 3, METHODS, side=32)


@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("beside", [True, False])
def test_what_is_written_can_be_read(run: Run, layout: str, beside: bool, tmp_path: Path) -> None:
    written = export_layout(run, layout, tmp_path / "out", "attention-regulation")
    if not beside:
        (tmp_path / "out" / BESIDE).unlink()
    found = read_layout(layout, tmp_path / "out", None if beside else "attention-regulation")
    assert sorted(found) == sorted(written)
    assert len(found) == 12
    shas = {(r.prompt, r.seed): r.picture for r in run.records if r.method == "attention-regulation"}
    assert all(one.picture.read_bytes() == run.picture(shas[one.prompt, one.seed]) for one in found)


def test_geneval_is_told_what_to_look_for(run: Run, tmp_path: Path) -> None:
    first = dict(run.prompts[0])
    first["things"] = [
        {"noun": "cat", "colour": "red", "count": 2},
        {"noun": "dog", "colour": None, "count": 1},
    ]
    first["relations"] = [{"first": 1, "where": "left of", "second": 0}]
    first["category"] = "position"
    export_layout(replace(run, prompts=[first, *run.prompts[1:]]), "geneval", tmp_path, "none")
    assert json.loads((tmp_path / "00000" / "metadata.jsonl").read_text()) == {
        "tag": "position",
        "include": [
            {"class": "cat", "count": 2, "color": "red"},
            {"class": "dog", "count": 1, "position": ["left of", 0]},
        ],
        "exclude": [{"class": "cat", "count": 3}],
        "prompt": first["text"],
    }
    with Image.open(tmp_path / "00000" / "grid.png") as grid:
        assert grid.size == (96, 32)
    assert sorted(path.name for path in (tmp_path / "00003" / "samples").iterdir()) == [
        "0000.png",
        "0001.png",
        "0002.png",
    ]


def test_compbench_numbers_run_through(run: Run, tmp_path: Path) -> None:
    export_layout(run, "t2i-compbench", tmp_path, "none")
    names = sorted(path.name for path in (tmp_path / "samples").iterdir())
    assert sorted(int(name[-10:-4]) for name in names) == list(range(12))
    assert f"{run.prompts[1]['text']}_000003.png" in names


def test_geneval_needs_to_know_the_things(run: Run, tmp_path: Path) -> None:
    with pytest.raises(AttnregError, match="expected to know the things of every prompt"):
        export_layout(replace(run, prompts=()), "geneval", tmp_path / "out", "none")
    assert not (tmp_path / "out").exists(), "nothing is written before everything is known to be right"


@pytest.mark.parametrize("layout", ["attend-and-excite", "t2i-compbench"])
def test_no_prompt_leaves_the_folder(run: Run, layout: str, tmp_path: Path) -> None:
    evil = ["../../up", "a/b: c?", "..", "/etc/passwd"]
    texts = list(dict.fromkeys(record.prompt for record in run.records))
    renamed = [replace(record, prompt=evil[texts.index(record.prompt)]) for record in run.records]
    out = tmp_path / "out"
    export_layout(replace(run, records=renamed), layout, out, "none")
    made = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(made) == 13
    assert all(path.is_relative_to(out) for path in made)
    assert sorted({one.prompt for one in read_layout(layout, out)}) == sorted(evil)


def test_names_of_files() -> None:
    assert file_name("a cat / a dog?") == "a cat - a dog-"
    assert file_name("..") == "prompt.."
    assert file_name("a cat") == "a cat"


@pytest.mark.parametrize(
    ("prompt", "name"),
    [("CON", "prompt-CON"), ("nul.txt", "prompt-nul.txt"), ("com1", "prompt-com1"), ("a cat.", "a cat-"),
     ("a cat. .", "a cat---"), ("a con", "a con"), ("contact", "contact"), ("a. cat", "a. cat"), ("..", "prompt--")],
)  # fmt: skip
def test_folders_that_windows_can_hold(prompt: str, name: str) -> None:
    assert folder_name(prompt) == name


def test_prompts_that_would_share_a_name_are_refused(run: Run, tmp_path: Path) -> None:
    texts = list(dict.fromkeys(record.prompt for record in run.records))
    new = dict(zip(texts, ["A cat", "a cat", "x", "y"], strict=True))
    renamed = [replace(record, prompt=new[record.prompt]) for record in run.records]
    with pytest.raises(AttnregError, match="file names of their own, got 'A cat' and 'a cat'"):
        export_layout(replace(run, records=renamed), "attend-and-excite", tmp_path / "out", "none")


def test_a_prompt_too_long_for_a_file_is_refused(run: Run, tmp_path: Path) -> None:
    renamed = [replace(record, prompt=record.prompt + "!" * 300) for record in run.records]
    with pytest.raises(AttnregError, match="255 bytes"):
        export_layout(replace(run, records=renamed), "t2i-compbench", tmp_path / "out", "none")


def test_export_says_what_is_missing(run: Run, tmp_path: Path) -> None:
    with pytest.raises(AttnregError, match="it has none, attention-regulation"):
        export_layout(run, "geneval", tmp_path / "a", "syngen")
    with pytest.raises(AttnregError, match="draws what is lost"):
        export_layout(replace(run, picture=lambda _: None), "attend-and-excite", tmp_path / "b", "none")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "old.png").touch()
    with pytest.raises(AttnregError, match="new or empty folder"):
        export_layout(run, "geneval", tmp_path / "c", "none")
    two = replace(run, records=[*run.records, *(replace(record, model="other") for record in run.records)])
    with pytest.raises(AttnregError, match="--model"):
        export_layout(two, "attend-and-excite", tmp_path / "d", "none")
    assert len(export_layout(two, "attend-and-excite", tmp_path / "d", "none", "other")) == 12


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / name)


def test_folders_that_others_made(tmp_path: Path) -> None:
    """As their own scripts leave them: with grids and files of other kinds in between."""
    ae = tmp_path / "ae"
    make(ae, "a cat and a dog/0.png", "a cat and a dog/10.png", "a cat and a dog/9.png", "a cat and a dog.png")
    (ae / "a cat and a dog" / "notes.txt").touch()
    assert [(one.prompt, one.seed) for one in read_layout("attend-and-excite", ae, "theirs")] == [
        ("a cat and a dog", 0), ("a cat and a dog", 9), ("a cat and a dog", 10),
    ]  # fmt: skip
    comp = tmp_path / "comp"
    make(comp, "samples/a red_ish car_000007.png", "samples/a red_ish car_000003.png", "samples/a bowl_000004.png")
    found = read_layout("t2i-compbench", comp, "theirs")
    assert [(one.prompt, one.seed, one.picture.name[-10:]) for one in found] == [
        ("a red_ish car", 0, "000003.png"), ("a bowl", 0, "000004.png"), ("a red_ish car", 1, "000007.png"),
    ]  # fmt: skip
    gen = tmp_path / "gen"
    make(gen, "00012/samples/00001.png", "00012/grid.png", "00012/samples/preview.png")
    (gen / "00012" / "metadata.jsonl").write_text('{"tag": "colors", "prompt": "a photo of a red bus"}')
    (gen / "results").mkdir()
    assert read_layout("geneval", gen, "theirs") == [
        ("a photo of a red bus", 1, gen / "00012" / "samples" / "00001.png", "theirs")
    ]


def test_reading_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(AttnregError, match="check the path"):
        read_layout("geneval", tmp_path / "nowhere", "theirs")
    with pytest.raises(AttnregError, match="--method NAME"):
        read_layout("geneval", tmp_path)
    with pytest.raises(AttnregError, match=r"PROMPT/SEED\.png, got none"):
        read_layout("attend-and-excite", tmp_path, "theirs")
    make(tmp_path, "00000/samples/0000.png")
    with pytest.raises(AttnregError, match=r"metadata\.jsonl"):
        read_layout("geneval", tmp_path, "theirs")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("nonsense", "line 1"),
        ('{"prompt": "a", "seed": 0, "method": "m"}', "line 1"),
        ('{"prompt": "a", "seed": 0, "method": "m", "picture": "../secret.png"}', "inside"),
        ('{"prompt": "a", "seed": 0, "method": "m", "picture": "lost.png"}', "inside"),
        ('{"prompt": "a", "seed": -5, "method": "m", "picture": "in.png"}', "whole numbers from 0, got -5"),
        ('{"prompt": "a", "seed": 1.5, "method": "m", "picture": "in.png"}', "whole numbers from 0, got 1.5"),
        ('{"prompt": "a", "seed": ' + "9" * 25 + ', "method": "m", "picture": "in.png"}', "at most 18 digits"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_list_that_cannot_be_followed(line: str, told: str, tmp_path: Path) -> None:
    make(tmp_path, "secret.png")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / BESIDE).write_text(line + "\n")
    with pytest.raises(AttnregError, match=told):
        read_layout("geneval", tmp_path / "in")
