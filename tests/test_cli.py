"""The command line as its users meet it: what it draws, what it prints, how it refuses."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import attnreg.doctor
import attnreg.studio
import tiny
from attnreg.attention.calls.edits import edits_of
from attnreg.attention.installation import Installation
from attnreg.cli import cli, main
from attnreg.evaluation.config import Config
from attnreg.measure import pocket_weights
from attnreg.methods import DEFAULT, METHODS
from attnreg.methods.method import Method
from attnreg.models.about import ABOUT, checksums
from attnreg.regulation.auto import Auto
from attnreg.regulation.best_start import BestStart
from attnreg.sampling import read_settings
from test_recipe import fail_at, text_chunks

PROMPT = "a cat and a blue balloon"
SLUG = "a-cat-and-a-blue-balloon"
SMALL = ("--steps", "2", "--height", "64", "--width", "64", "--device", "cpu")
REGULATED, PLAIN, SHEET = (f"{SLUG}-{end}.png" for end in ("seed0-auto", "seed0-none", "sheet"))
BALANCE = ("--method", "attention-balance")


class Ran(NamedTuple):
    """How a run ended: its exit code, what it printed, and the lines of its complaints as a terminal shows them."""

    code: int
    out: str
    err: list[str]


def on_screen(line: str) -> str:
    """What a terminal shows of a line in which a progress bar has gone back to the start, and wiped itself at last."""
    shown = ""
    for part in line.split("\r"):
        shown = part + shown[len(part) :]
    return shown.strip()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """`attnreg` with the words given, in this process."""
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "error")

    def go(*words: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["attnreg", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        shown = [on_screen(line) for line in err.split("\n")]
        code = left.value.code
        assert isinstance(code, int)
        return Ran(code, out, [line for line in shown if line])

    return go


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny pipeline, untrained, as a directory."""
    folder = tmp_path_factory.mktemp("cli") / "tiny"
    tiny.stable_diffusion().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def loaded(model: Path) -> Any:
    from attnreg.models.load import load_pipeline

    return load_pipeline(str(model), device="cpu")


@pytest.fixture
def once(loaded: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Hand out the pipeline that is loaded already: most tests are not about loading."""
    monkeypatch.setattr(attnreg.studio, "load_pipeline", lambda *_, **__: loaded)
    scheduler = loaded.scheduler
    yield loaded
    loaded.scheduler = scheduler
    assert "forward" not in vars(loaded.unet), "a regulation was left behind"


def files(folder: Path) -> list[str]:
    """Names of what lies in a folder, hidden files included; nothing if it was never made."""
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def recipe_in(path: Path) -> dict[str, Any]:
    chunks = text_chunks(path.read_bytes())
    return {key.removeprefix("attnreg:"): json.loads(value) for key, value in chunks.items()}


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


# --- generate -----------------------------------------------------------------------------------------------------


def test_generate_draws_both_and_a_sheet(model: Path, run: Callable[..., Ran], tmp_path: Path) -> None:
    """The whole way once, from the directory to the files, against the pipeline called by hand."""
    regulated = REGULATED.replace("auto", "attention-balance")
    ran = run("generate", PROMPT, "--model", model, *SMALL, *BALANCE, "--out", tmp_path / "out")
    assert (ran.code, ran.err) == (0, [])
    assert files(tmp_path / "out") == [regulated, PLAIN, SHEET]
    lines = ran.out.splitlines()
    assert [line for line in lines if line.startswith("target:")] == [
        "target: cat (tokens 2)",
        "target: blue balloon (tokens 5, 6)",
    ]
    assert {line.removeprefix("saved ") for line in lines if line.startswith("saved ")} == {
        str(tmp_path / "out" / name) for name in (regulated, PLAIN, SHEET)
    }
    assert any(line.startswith("seed 0: mean attention cat 0.") for line in lines)
    by_hand = tiny.stable_diffusion()(
        PROMPT, height=64, width=64, num_inference_steps=2, generator=torch.Generator().manual_seed(0)
    )
    assert np.array_equal(pixels(tmp_path / "out" / PLAIN), np.asarray(by_hand.images[0]))
    assert not np.array_equal(pixels(tmp_path / "out" / PLAIN), pixels(tmp_path / "out" / regulated))
    assert pixels(tmp_path / "out" / SHEET).shape[1] > 2 * 256
    assert_one_line(run("rerun", tmp_path / "out" / SHEET, "--out", tmp_path), "a sheet of several")


def test_what_acted_by_default_is_told_and_kept(
    once: Any, model: Path, run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line why, in one line a seed what was read; in the recipe, from which it is drawn again as it was."""
    monkeypatch.setattr(Auto, "start", BestStart(starts=4, enough=1e9, good=1e9))
    ran = run("generate", PROMPT, "--model", model, *SMALL, "--out", tmp_path, "--seeds", "0-1")
    lines = ran.out.splitlines()
    assert [line for line in lines if line.startswith("auto: ")] == [
        "auto: best-start, since the run begins with noise alone, and what it leads to can be foreseen"
    ]
    for seed in (0, 1):
        (line,) = (line for line in lines if line.startswith(f"seed {seed}: "))
        assert line.startswith(f"seed {seed}: the model does not clearly read ")
        assert "in what this seed leads to" in line
        regulated = tmp_path / REGULATED.replace("seed0", f"seed{seed}")
        told = recipe_in(regulated)
        assert (told["method"], told["acted"], told["settings"]) == ("auto", "best-start", {})
        plain = recipe_in(tmp_path / PLAIN.replace("seed0", f"seed{seed}"))
        assert (plain["method"], plain["acted"]) == ("none", "")
    assert run("generate", PROMPT, "--model", model, *SMALL, "--out", tmp_path, "--seeds", "0-1").code == 0
    assert len(files(tmp_path)) == 5, "what acted decides no picture: the same recipe takes its own place"

    named = ("--method", "best-start", "--set", "starts=4", "--set", "enough=1e9", "--set", "good=1e9", "--alone")
    assert run("generate", PROMPT, "--model", model, *SMALL, *named, "--out", tmp_path / "named").code == 0
    assert np.array_equal(pixels(tmp_path / REGULATED), pixels(tmp_path / "named" / f"{SLUG}-seed0-best-start.png"))


def test_the_sheet_marks_what_was_begun_anew(
    once: Any, model: Path, run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And names the method that acted; of a method that leaves the noise alone there is nothing to mark."""
    drawn: list[dict[str, Any]] = []
    sheet = attnreg.studio.sheet

    def noted(rows: Any, columns: Any, labels: Any, **more: Any) -> Image.Image:
        drawn.append({"columns": columns, **more})
        return sheet(rows, columns, labels, **more)

    monkeypatch.setattr(attnreg.studio, "sheet", noted)
    monkeypatch.setattr(Auto, "start", BestStart(starts=1, enough=1e9))
    draw = ("generate", PROMPT, "--model", model, *SMALL, "--out", tmp_path)
    assert run(*draw).code == run(*draw, "--method", "best-start", "--set", "enough=0").code == 0
    assert run(*draw, *BALANCE).code == 0
    by_default, kept, balanced = drawn
    assert by_default["columns"] == ["unmodified", "auto: best-start"]
    ((unmodified, regulated),) = by_default["captions"]
    assert (unmodified.endswith("not clearly read"), regulated) == (True, "no better noise found")
    assert kept["captions"] == [("", "left as it is")]
    assert (balanced["columns"], balanced["captions"]) == (["unmodified", "attention-balance"], ())


def test_what_acted_then_draws_again(
    once: Any, model: Path, run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the default may be something else by now."""
    assert run("generate", PROMPT, "--model", model, *SMALL, "--alone", "--out", tmp_path).code == 0
    monkeypatch.setitem(METHODS, "auto", METHODS["attention-balance"])
    ran = run("rerun", tmp_path / REGULATED, "--device", "cpu", "--out", tmp_path / "again")
    assert "the same, bit for bit" in ran.out
    assert recipe_in(tmp_path / "again" / REGULATED.replace(".png", "-again.png")) == recipe_in(tmp_path / REGULATED)


def test_a_recipe_from_before_there_was_a_default_to_record(
    once: Any, model: Path, run: Callable[..., Ran], tmp_path: Path
) -> None:
    """Pictures of earlier releases say nothing of what acted."""
    balanced = tmp_path / REGULATED.replace("auto", "attention-balance")
    words = (*BALANCE, "--set", "window=0,1", "--set", "layers=mid_block", "--alone")
    assert run("generate", PROMPT, "--model", model, *SMALL, *words, "--out", tmp_path).code == 0
    with Image.open(balanced) as picture:
        kept = PngInfo()
        for key, value in picture.text.items():  # type: ignore[attr-defined]
            if key != "attnreg:acted":
                kept.add_itxt(key, value)
        picture.load()
        picture.save(balanced, pnginfo=kept)
    assert "acted" not in recipe_in(balanced)
    assert "the same, bit for bit" in run("rerun", balanced, "--device", "cpu", "--out", tmp_path / "again").out


def test_a_sheet_is_of_its_seeds(once: Any, model: Path, run: Callable[..., Ran], tmp_path: Path) -> None:
    """Fewer of them make another sheet; the same ones take up the files that are there."""
    for seeds, count in (("0-1", 5), ("0", 8), ("0-1", 8)):
        for words in (
            BALANCE,
            (*BALANCE, "--set", "window=0,0.6"),
        ):  # a pair of numbers is the same pair when it is read again
            assert (
                run("generate", PROMPT, "--model", model, *SMALL, "--out", tmp_path, "--seeds", seeds, *words).code == 0
            )
        assert len(files(tmp_path)) == 2 * count


def test_the_other_bundled_model_draws_by_its_name(once: Any, run: Callable[..., Ran], tmp_path: Path) -> None:
    """With its own steps and guidance; the recipe names it, not where it lies."""
    words = ("a cat and a red car", "--model", "pocket-joint", "--device", "cpu", "--out", tmp_path, "--alone")
    ran = run("generate", *words, "--method", "attention-balance")
    assert ran.code == 0, ran.err
    (picture,) = tmp_path.glob("*.png")
    recipe = recipe_in(picture)
    assert (recipe["model"], recipe["steps"], recipe["guidance_scale"]) == ("pocket-joint", 16, 3.0)
    assert pixels(picture).std() > 20, "a picture, no grey square"


def test_one_picture_a_seed(once: Any, model: Path, run: Callable[..., Ran], tmp_path: Path) -> None:
    ran = run("generate", PROMPT, "--model", model, *SMALL, "--out", tmp_path, "--seeds", "0-1,5", "--alone")
    assert ran.code == 0
    names = [f"{SLUG}-seed{seed}-auto.png" for seed in (0, 1, 5)]
    assert files(tmp_path) == names, "alone: no unmodified pictures, no sheet"
    assert [recipe_in(tmp_path / name)["seed"] for name in names] == [0, 1, 5]
    first, second, third = (pixels(tmp_path / name) for name in names)
    assert not np.array_equal(first, second)
    assert not np.array_equal(second, third)


def test_the_unmodified_model_alone(once: Any, model: Path, run: Callable[..., Ran], tmp_path: Path) -> None:
    """With `--method none` there is nothing to put beside, and a prompt needs no noun."""
    ran = run("generate", "above under", "--model", model, *SMALL, "--method", "none", "--out", tmp_path)
    assert (ran.code, files(tmp_path)) == (0, ["above-under-seed0-none.png"])
    assert "target" not in ran.out


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' own, on numpy 2
def test_pictures_carry_their_recipe_and_are_drawn_again(
    once: Any, model: Path, run: Callable[..., Ran], tmp_path: Path
) -> None:
    words = ("--targets", "balloon", "-t", "cat", "--seeds", "3", "--guidance-scale", "4.5", "--negative-prompt", "dog")
    settings = ("--set", "window=0,1", "--set", "layers=down_blocks,mid_block", "--set", "gain=2.5", *BALANCE)
    more = ("--set", "strength=2", "--scheduler", "euler", "--dtype", "float32")
    ran = run("generate", PROMPT, "--model", model, *SMALL, *words, *settings, *more, "--out", tmp_path)
    assert ran.code == 0
    regulated, plain = (tmp_path / f"{SLUG}-seed3-{method}.png" for method in ("attention-balance", "none"))
    told = recipe_in(regulated)
    assert set(told.pop("versions")) == {"attnreg", "torch", "diffusers", "transformers"}
    assert told == {
        "prompt": PROMPT,
        "seed": 3,
        "model": str(model),
        "method": "attention-balance",
        "settings": {"window": [0, 1], "layers": ["down_blocks", "mid_block"], "gain": 2.5, "strength": 2.0},
        "targets": ["balloon", "cat"],
        "adjectives": True,
        "steps": 2,
        "guidance_scale": 4.5,
        "negative_prompt": "dog",
        "height": 64,
        "width": 64,
        "scheduler": "euler",
        "dtype": "float32",
        "family": None,
        "preset": "",
        "acted": "",
        "chosen": ["balloon", "cat"],
    }
    told = recipe_in(plain)
    assert (told["method"], told["settings"], told["chosen"], told["seed"]) == ("none", {}, [], 3)

    for picture in (regulated, plain):
        ran = run("rerun", picture, "--device", "cpu", "--out", tmp_path / "again")
        assert ran.code == 0
        again = tmp_path / "again" / f"{picture.stem}-again.png"
        assert ran.out.splitlines() == [f"saved {again}", "the same, bit for bit"]
        assert np.array_equal(pixels(again), pixels(picture))
        assert recipe_in(again) == recipe_in(picture)


def test_rerun_writes_over_no_picture(once: Any, model: Path, run: Callable[..., Ran], tmp_path: Path) -> None:
    """Neither over the one it was given, nor over one of another recipe."""
    draw = ("generate", PROMPT, "--model", model, *SMALL, "--alone", *BALANCE, "--out")
    name = REGULATED.replace("auto", "attention-balance")
    assert run(*draw, tmp_path).code == 0
    assert run("rerun", tmp_path / name, "--device", "cpu", "--out", tmp_path).code == 0
    again = tmp_path / name.replace(".png", "-again.png")
    before = again.read_bytes()
    assert run("rerun", again, "--device", "cpu", "--out", tmp_path).code == 0
    assert again.read_bytes() == before
    assert run(*draw, tmp_path / "other", "--set", "gain=9").code == 0
    assert run("rerun", tmp_path / "other" / name, "--device", "cpu", "--out", tmp_path).code == 0
    assert again.read_bytes() == before
    assert len(files(tmp_path)) == 5


def test_rerun_notices_a_difference(once: Any, model: Path, run: Callable[..., Ran], tmp_path: Path) -> None:
    """A picture painted over, saved by another release."""
    run("generate", PROMPT, "--model", model, *SMALL, "--alone", "--out", tmp_path)
    with Image.open(tmp_path / REGULATED) as picture:
        from attnreg.recipe import read_recipe, save_pictures

        recipe = read_recipe(tmp_path / REGULATED)
        picture.load()
    picture.putpixel((5, 5), tuple(255 - part for part in picture.getpixel((5, 5))))
    old = dataclasses.replace(recipe, versions=recipe.versions | {"torch": "1.0"})
    save_pictures(tmp_path, [("other.png", picture, old)])
    ran = run("rerun", tmp_path / "other.png", "--device", "cpu", "--out", tmp_path / "again")
    assert ran.code == 0
    assert "different from the picture given" in ran.out
    assert f"other releases than then: torch 1.0 then, {torch.__version__} now" in ran.out


def test_a_model_that_says_so_sets_its_own_defaults(
    model: Path, run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, once: Any
) -> None:
    taught = with_words(model, tmp_path / "taught")
    sizes = ("--height", "64", "--width", "64", "--device", "cpu", "--alone", "--out", tmp_path / "out")
    assert run("generate", PROMPT, "--model", taught, *sizes).code == 0
    told = recipe_in(tmp_path / "out" / REGULATED)
    assert (told["steps"], told["guidance_scale"]) == (3, 1.5)
    assert run("generate", PROMPT, "--model", taught, *sizes, "--steps", "1", "--guidance-scale", "0").code == 0
    again = tmp_path / "out" / REGULATED.replace(SLUG, f"{SLUG}-2")
    told = recipe_in(again)
    assert (told["steps"], told["guidance_scale"]) == (1, 0.0), "another recipe must not overwrite the first picture"
    assert run("generate", PROMPT, "--model", taught, *sizes).code == 0
    assert files(tmp_path / "out") == sorted([REGULATED, again.name]), "the same recipe takes its own place"


def with_words(model: Path, folder: Path) -> Path:
    """The same model with an account of the words it knows, as the bundled one has it."""
    shutil.copytree(model, folder)
    told = {
        "name": "taught", "things": ["cat", "balloon"], "colours": ["blue"], "other": ["a", "and"],
        "steps": 3, "guidance_scale": 1.5,
    }  # fmt: skip
    (folder / ABOUT).write_text(json.dumps({"model": told, "sha256": checksums(folder)}))
    return folder


# --- what the options are made from -------------------------------------------------------------------------------


def options_of(command: click.Command) -> dict[str, click.Option]:
    return {name: one for one in command.params if isinstance(one, click.Option) for name in one.opts}


@pytest.mark.parametrize("name", METHODS)
def test_every_setting_is_told_with_its_default(name: str, run: Callable[..., Ran]) -> None:
    ran = run("methods", name)
    assert (ran.code, ran.err) == (0, [])
    assert ran.out.startswith(f"{name}: {METHODS[name].summary}\n")
    told = "".join(ran.out.split())
    settings = METHODS[name].settings()
    for one in settings.values():
        assert f"{one.name}={one.written}{one.help}".replace(" ", "") in told
    assert ("ithasnone" in told) == (not settings)


def test_settings_of_methods_that_are_joined(run: Callable[..., Ran]) -> None:
    out = run("methods", "prompt-weighting+attention-balance").out
    assert out.index("prompt-weighting:") < out.index("weight=") < out.index("attention-balance:") < out.index("gain=")


def test_a_new_method_brings_its_settings(monkeypatch: pytest.MonkeyPatch, run: Callable[..., Ran]) -> None:
    """One line in the dict."""

    @dataclasses.dataclass(frozen=True)
    class Loud:
        strength: float = dataclasses.field(default=1.0, metadata={"help": "factor"})
        echo_times: int = dataclasses.field(default=4, metadata={"help": "how often"})

    monkeypatch.setitem(METHODS, "loud", Method(Loud, "a toy", ""))
    out = run("methods", "loud").out
    assert "echo_times=4  how often" in out
    assert read_settings("loud", {"echo_times": "7"}) == {"echo_times": 7}


def test_help_names_every_option(run: Callable[..., Ran]) -> None:
    for words in (["--help"], ["-h"], ["generate", "-h"], ["rerun", "-h"], ["methods", "-h"], ["doctor", "-h"]):
        ran = run(*words)
        assert (ran.code, ran.err) == (0, [])
        assert "Usage:" in ran.out
    out = run("generate", "--help").out
    assert [flag for flag in options_of(cli.commands["generate"]) if flag not in out] == []


def test_methods_lists_them_all(run: Callable[..., Ran]) -> None:
    """A line each, and below it what it changes, needs and costs, and whose it is."""
    *lines, last = run("methods").out.splitlines()
    told: dict[str, list[str]] = {}
    for line in lines:
        if line.startswith(" "):
            told[list(told)[-1]].append(line)
        else:
            told[line] = []
    assert list(told) == [f"{name}: {method.summary}" for name, method in METHODS.items()]
    for below, method in zip(told.values(), METHODS.values(), strict=True):
        for text in (method.edits, method.paper, *method.needs, *([method.passes] if method.passes != "none" else [])):
            assert any(text in line for line in below)
    assert "--method prompt-weighting+attention-balance" in last


def test_several_methods_are_joined_by_a_plus() -> None:
    option = options_of(cli.commands["generate"])["--method"]
    assert option.type.convert("prompt-weighting+attention-regulation", None, None) == (
        "prompt-weighting+attention-regulation"
    )
    with pytest.raises(click.BadParameter, match="did you mean conform"):
        option.type.convert("prompt-weighting+confirm", None, None)


# --- refusals -----------------------------------------------------------------------------------------------------

NO_SEEDS = ["3-1", "x", "-1", "", "0-", "1,,2", "0-99999999", "1.5", "99999999999999999999"]


@pytest.mark.parametrize(
    "words",
    [
        *(["--seeds", text] for text in NO_SEEDS),
        ["--steps", "0"], ["--steps", "1.5"], ["--height", "0"], ["--guidance-scale", "-1"], ["--method", "no-such"],
        ["--method", "auto+conform"], ["--set", "gain"], ["--set", "=2"], ["--set", "gain=1", "--set", "gain=2"],
        ["--strength", "2"], ["--window", "0.0", "0.5"], ["--no-such-option"], ["another prompt"], ["--steps", "1001"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_usage_errors_end_with_2(words: list[str], run: Callable[..., Ran], tmp_path: Path) -> None:
    ran = run("generate", PROMPT, "--out", tmp_path / "out", "--model", tmp_path, *words)
    assert ran.code == 2
    assert any(line.startswith("Error:") for line in ran.err)
    assert not any("Traceback" in line for line in ran.err)
    assert files(tmp_path) == []


def test_no_command_and_an_unknown_one(run: Callable[..., Ran]) -> None:
    assert run("paint").code == run("generate").code == run("rerun").code == 2


REFUSED: dict[str, tuple[list[str], str]] = {
    "height not divisible by 8": (
        [PROMPT, "--height", "65"],
        "height: expected a multiple of 8 pixels, got 65; try 64",
    ),
    "width of 4": ([PROMPT, "--width", "4"], "width: expected a multiple of 8 pixels, got 4; try 8"),
    "no noun": (["above under"], "no noun"),
    "an empty prompt": ([""], "no noun"),
    "a target not in the prompt": ([PROMPT, "-t", "bloon"], "did you mean 'balloon'?"),
    "overlapping targets": ([PROMPT, "-t", "balloon", "-t", "blue balloon"], "share no token"),
    "a setting of the default": ([PROMPT, "--set", "gain=2"], "settings of auto (it has none), got gain"),
    "a setting of another method": (
        [PROMPT, *BALANCE, "--set", "shift=2"],
        "got shift; leave it out, or choose a method that has it, such as attention-scaling",
    ),
    "a setting misspelt": ([PROMPT, *BALANCE, "--set", "gian=2"], "did you mean gain?"),
    "a setting of another type": ([PROMPT, *BALANCE, "--set", "gain=much"], "gain: expected a number, got 'much'"),
    "a setting out of range": ([PROMPT, *BALANCE, "--set", "gain=0"], "gain: expected"),
    "a window turned round": ([PROMPT, *BALANCE, "--set", "window=0.6,0.5"], "window: expected start <= end"),
    "a layer it has not": ([PROMPT, *BALANCE, "--set", "layers=up_blocks.7"], "expected layers that the model has"),
    "no such scheduler": ([PROMPT, "--scheduler", "plms"], "expected a scheduler of ddim"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_drawn(case: str, once: Any, model: Path, run: Callable[..., Ran], tmp_path: Path) -> None:
    words, message = REFUSED[case]
    ran = run("generate", *words[:1], "--model", model, *SMALL, "--out", tmp_path / "out", *words[1:])
    assert_one_line(ran, message)
    assert files(tmp_path / "out") == []


def assert_one_line(ran: Ran, message: str) -> None:
    assert ran.code == 1
    assert len(ran.err) == 1, ran.err
    assert ran.err[0].startswith("attnreg: ")
    assert message in ran.err[0]
    assert "unexpected" not in ran.err[0]
    assert "saved" not in ran.out


def no_pipeline(folder: Path) -> None:
    for part in folder.iterdir():
        shutil.rmtree(part) if part.is_dir() else part.unlink()


def pickles_only(folder: Path) -> None:
    (folder / "unet" / "diffusion_pytorch_model.safetensors").rename(folder / "unet" / "diffusion_pytorch_model.bin")


def own_code(folder: Path) -> None:
    (folder / "unet" / "mine.py").write_text("raise SystemExit('the code was run')")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"unet": ["mine", "Mine"]}))


def own_pipeline(folder: Path) -> None:
    (folder / "mine.py").write_text("raise SystemExit('the code was run')")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": ["mine", "Mine"]}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_pipeline, "expected a diffusers pipeline"),
        (pickles_only, "expected safetensors"),
        (own_code, "code that a model directory brings is not run"),
        (own_pipeline, "pipelines that bring their own code are not run"),
    ],
)
def test_models_that_are_not_opened(
    spoil: Callable[[Path], None], message: str, model: Path, run: Callable[..., Ran], tmp_path: Path
) -> None:
    spoil(Path(shutil.copytree(model, tmp_path / "model")))
    ran = run("generate", PROMPT, "--model", tmp_path / "model", *SMALL, "--out", tmp_path / "out")
    assert_one_line(ran, message)
    assert files(tmp_path) == ["model"]


def test_unknown_models_and_devices(model: Path, run: Callable[..., Ran], tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out")
    assert_one_line(run("generate", PROMPT, "--model", "poket", *out), "got 'poket' (nothing there)")
    assert_one_line(run("generate", PROMPT, "--model", model, "--device", "gpu", *out), "got 'gpu'")
    assert_one_line(run("generate", PROMPT, "--model", model, "--dtype", "half", *out), "got 'half'")
    assert files(tmp_path) == []


def test_a_word_the_model_was_never_taught(once: Any, model: Path, run: Callable[..., Ran], tmp_path: Path) -> None:
    taught = with_words(model, tmp_path / "taught")
    for prompt, message in (("a cat and a zebra", "does not know 'zebra'"), ("a baloon", "did you mean 'balloon'?")):
        ran = run("generate", prompt, "--model", taught, *SMALL, "--out", tmp_path / "out")
        assert_one_line(ran, message)
    assert files(tmp_path) == ["taught"]


def test_a_folder_that_cannot_be_written(once: Any, model: Path, run: Callable[..., Ran], tmp_path: Path) -> None:
    """Told before the first step, not after the last."""
    (tmp_path / "file").write_text("")
    once.scheduler = None
    ran = run("generate", PROMPT, "--model", model, *SMALL, "--out", tmp_path / "file" / "sub")
    assert_one_line(ran, "expected a folder that can be written")
    assert files(tmp_path) == ["file"]


def test_a_full_disk(
    once: Any, model: Path, run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_at(monkeypatch, 2, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    ran = run("generate", PROMPT, "--model", model, *SMALL, "--out", tmp_path)
    assert_one_line(ran, "No space left on device")
    assert files(tmp_path) == []


@pytest.mark.parametrize("denoised", [0, 3], ids=["unmodified", "regulated"])
def test_an_interruption(
    denoised: int, once: Any, model: Path, run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the first or in the second picture: one line, no file, the pipeline as it was."""
    step, count = once.scheduler.step, 0

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count > denoised:
            raise KeyboardInterrupt
        return step(*args, **kwargs)

    monkeypatch.setattr(once.scheduler, "step", interrupted)
    ran = run("generate", PROMPT, "--model", model, *SMALL, "--out", tmp_path)
    assert_one_line(ran, "interrupted: pictures reported as saved are kept")
    assert count == denoised + 1
    assert files(tmp_path) == []


def test_rerun_of_what_cannot_be_drawn_again(run: Callable[..., Ran], tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "foreign.png")
    (tmp_path / "text.png").write_text("no picture")
    for name, message in (
        ("foreign.png", "only pictures that attnreg saved"),
        ("text.png", "expected a PNG that attnreg drew"),
        ("nowhere.png", "does not exist"),
    ):
        assert_one_line(run("rerun", tmp_path / name, "--out", tmp_path / "out"), message)
    assert files(tmp_path) == ["foreign.png", "text.png"]


def test_debug_shows_where(run: Callable[..., Ran], tmp_path: Path) -> None:
    ran = run("--debug", "generate", PROMPT, "--model", tmp_path)
    assert ran.code == 1
    assert ran.err[0] == "Traceback (most recent call last):"
    assert any("check_directory" in line for line in ran.err)
    assert ran.err[-1].startswith("attnreg: expected a diffusers pipeline")


def test_an_error_of_our_own_asks_for_a_report(run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("of two\nlines")

    monkeypatch.setattr(attnreg.studio.Session, "open", broken)
    ran = run("generate", PROMPT)
    assert ran.code == 1
    assert ran.err == [
        "attnreg: unexpected ZeroDivisionError: of two lines (please report it; --debug shows where it happened)"
    ]


# --- doctor -------------------------------------------------------------------------------------------------------


@pytest.fixture
def pocket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the bundled models: two files and their list."""
    folder = tmp_path / "pocket"
    (folder / "unet").mkdir(parents=True)
    (folder / "unet" / "weights.safetensors").write_bytes(b"weights")
    (folder / "model_index.json").write_text("{}")
    (folder / ABOUT).write_text(json.dumps({"model": {}, "sha256": checksums(folder)}))
    monkeypatch.setattr(attnreg.doctor, "BUNDLED", {"pocket": folder})
    return folder


def test_doctor_finds_all_well(pocket: Path, run: Callable[..., Ran]) -> None:
    ran = run("doctor")
    lines = ran.out.splitlines()
    assert (ran.code, ran.err) == (0, [])
    assert all(line.startswith("ok ") for line in lines)
    assert any(line.endswith(f"torch {torch.__version__}") for line in lines)
    assert any("cpu: " in line for line in lines)
    assert any("noun phrases: by " in line for line in lines)
    assert lines[-1].endswith("model pocket: all checksums right")


def test_doctor_finds_damage(pocket: Path, run: Callable[..., Ran]) -> None:
    (pocket / "unet" / "weights.safetensors").write_bytes(b"weighty")
    (pocket / "model_index.json").unlink()
    ran = run("doctor")
    assert ran.code == 1
    (fault,) = (line for line in ran.out.splitlines() if line.startswith("FAULT"))
    assert "damaged (model_index.json, unet/weights.safetensors)" in fault


def test_doctor_finds_a_damaged_judge(
    pocket: Path, run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pocket_weights.WEIGHTS
    damaged = tmp_path / whole.name
    content = bytearray(whole.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    damaged.with_suffix(".sha256").write_bytes(whole.with_suffix(".sha256").read_bytes())
    assert "judge pocket: checksum right" in run("doctor").out
    monkeypatch.setattr(pocket_weights, "WEIGHTS", damaged)
    ran = run("doctor")
    assert ran.code == 1
    assert "FAULT judge pocket: damaged (pocket-judge.safetensors); install attnreg again" in ran.out
    damaged.unlink()
    assert "FAULT judge pocket: cannot be read" in run("doctor").out


@pytest.mark.parametrize("list_of_files", [None, "{", "{}", "[]", "\0"])
def test_doctor_survives_a_broken_list(list_of_files: str | None, pocket: Path, run: Callable[..., Ran]) -> None:
    (pocket / ABOUT).unlink() if list_of_files is None else (pocket / ABOUT).write_text(list_of_files)
    ran = run("doctor")
    assert (ran.code, ran.err) == (1, [])
    assert ran.out.splitlines()[-1].startswith("FAULT model pocket: cannot be read")


def test_doctor_misses_a_library(pocket: Path, run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attnreg.doctor, "LIBRARIES", ("torch", "no-such-library"))
    ran = run("doctor")
    assert ran.code == 1
    assert "FAULT no-such-library is not installed" in ran.out


# --- the installed program ----------------------------------------------------------------------------------------


COMPLETION = {"_ATTNREG_COMPLETE": "bash_complete", "COMP_WORDS": "attnreg generate --method att", "COMP_CWORD": "3"}


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("--help", 0, "Usage: attnreg"),
        ("--version", 0, "attnreg, version"),
        ("generate --help", 0, "--set NAME=VALUE"),
        ("bench run --help", 0, "--prompts"),
        ("methods", 0, "attention-balance: raises"),
        ("generate a-cat --steps 0", 2, ""),
        ("generate a-cat --method no-such", 2, ""),
        ("generate a-cat --strength 2", 2, ""),
        ("methods no-such", 2, ""),
        ("paint", 2, ""),
        ("completion", 0, "plain,attention-regulation"),
    ],
)
def test_what_only_prints_loads_no_torch(words: str, code: int, told: str) -> None:
    """In a process of its own: help, completion and usage errors need no library that takes seconds to load."""
    script = (
        "import sys\nfrom attnreg.cli import main\n"
        "try:\n    main()\nfinally:\n"
        "    heavy = ('torch', 'diffusers', 'transformers', 'PIL', 'scipy', 'textblob')\n"
        "    sys.stderr.write('LOADED ' + ' '.join(one for one in heavy if one in sys.modules))"
    )
    set_out = "import sys; sys.argv = ['attnreg', *sys.argv[1:]]\n"
    asked, more = ([], COMPLETION) if words == "completion" else (words.split(), {})
    done = subprocess.run(
        [sys.executable, "-c", set_out + script, *asked], capture_output=True, text=True, timeout=300,
        env=os.environ | more,
    )  # fmt: skip
    assert (done.returncode, done.stderr.split("LOADED ")[1]) == (code, "")
    assert told in done.stdout


def test_the_package_is_a_command_too() -> None:
    done = subprocess.run([sys.executable, "-m", "attnreg", "methods"], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert "attention-balance: raises" in done.stdout


def test_a_run_in_which_nothing_is_drawn_loads_no_pipeline(model: Path, tmp_path: Path) -> None:
    """Each in a process of its own: what is there already is not drawn again, and wants no diffusers."""
    (tmp_path / "prompts.txt").write_text("a cat and a dog\n")
    words = ["bench", "run", "--prompts", "prompts.txt", "--methods", "none", "--models", str(model), "--steps", "1",
             "--height", "64", "--width", "64", "--judges", "pixels", "--out", "run"]  # fmt: skip
    script = (
        "import sys\nfrom attnreg.cli import main\nsys.argv = ['attnreg', *sys.argv[1:]]\n"
        "try:\n    main()\nfinally:\n"
        "    print('LOADED', *(one for one in ('diffusers', 'transformers') if one in sys.modules))"
    )
    for drawn, loaded in ((1, "LOADED diffusers transformers"), (0, "LOADED")):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script, *words], capture_output=True, text=True, cwd=tmp_path,
            timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert f"1 pictures in run: {drawn} drawn" in done.stdout
        assert done.stdout.splitlines()[-1] == loaded


def test_the_help_of_generate_is_one_screen(run: Callable[..., Ran]) -> None:
    out = run("generate", "--help").out
    assert len(out.splitlines()) <= 40
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(("old", "new"), [("--gain", "--set gain=VALUE"), ("--echo-times", "--set echo_times=VALUE")])
def test_an_old_flag_is_told_the_new_form(old: str, new: str, run: Callable[..., Ran]) -> None:
    """Settings were options of their own once."""
    ran = run("generate", PROMPT, old, "2")
    assert ran.code == 2
    assert f"No such option: {old}." in " ".join(ran.err)
    assert new in " ".join(ran.err)


def test_an_option_misspelt_is_told_the_right_one(run: Callable[..., Ran]) -> None:
    assert "Did you mean --steps?" in " ".join(run("generate", PROMPT, "--stpes", "2").err)


def test_one_default_for_all() -> None:
    """The default method of the command line is the library's default, that of a run of many pictures, and make's."""
    option = options_of(cli.commands["generate"])["--method"]
    assert option.default == DEFAULT == "auto"
    assert METHODS[DEFAULT].config is Auto
    assert Config(prompts=("attend-and-excite",)).methods == ("none", DEFAULT)
    assert Installation(tiny.stable_diffusion(), None, None).run.edits == edits_of(Auto())
    makefile = (Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")
    assert f"METHOD ?= {DEFAULT}\n" in makefile
