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
from click.testing import CliRunner
from PIL import Image

import attnreg.doctor
import attnreg.studio
import tiny
from attnreg.attention.regulate import Installation
from attnreg.cli import cli, main, setting_options
from attnreg.evaluation.config import Config
from attnreg.methods import DEFAULT, METHODS
from attnreg.methods.method import Method
from attnreg.models.about import ABOUT, checksums
from attnreg.regulation.balance import AttentionBalance
from test_recipe import fail_at, text_chunks

PROMPT = "a cat and a blue balloon"
SLUG = "a-cat-and-a-blue-balloon"
SMALL = ("--steps", "2", "--height", "64", "--width", "64", "--device", "cpu")
REGULATED, PLAIN, SHEET = (f"{SLUG}-{end}.png" for end in ("seed0-attention-balance", "seed0-none", "sheet"))


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
    ran = run("generate", PROMPT, "--model", model, *SMALL, "--out", tmp_path / "out")
    assert (ran.code, ran.err) == (0, [])
    assert files(tmp_path / "out") == [REGULATED, PLAIN, SHEET]
    lines = ran.out.splitlines()
    assert [line for line in lines if line.startswith("target:")] == [
        "target: cat (tokens 2)",
        "target: blue balloon (tokens 5, 6)",
    ]
    assert {line.removeprefix("saved ") for line in lines if line.startswith("saved ")} == {
        str(tmp_path / "out" / name) for name in (REGULATED, PLAIN, SHEET)
    }
    assert any(line.startswith("seed 0: mean attention cat 0.") for line in lines)
    by_hand = tiny.stable_diffusion()(
        PROMPT, height=64, width=64, num_inference_steps=2, generator=torch.Generator().manual_seed(0)
    )
    assert np.array_equal(pixels(tmp_path / "out" / PLAIN), np.asarray(by_hand.images[0]))
    assert not np.array_equal(pixels(tmp_path / "out" / PLAIN), pixels(tmp_path / "out" / REGULATED))
    assert pixels(tmp_path / "out" / SHEET).shape[1] > 2 * 256
    assert_one_line(run("rerun", tmp_path / "out" / SHEET, "--out", tmp_path), "a sheet of several")


def test_a_sheet_is_of_its_seeds(once: Any, model: Path, run: Callable[..., Ran], tmp_path: Path) -> None:
    """Fewer of them make another sheet; the same ones take up the files that are there."""
    for seeds, count in (("0-1", 5), ("0", 8), ("0-1", 8)):
        for words in ((), ("--window", "0.0", "0.6")):  # a pair of numbers is the same pair when it is read again
            assert (
                run("generate", PROMPT, "--model", model, *SMALL, "--out", tmp_path, "--seeds", seeds, *words).code == 0
            )
        assert len(files(tmp_path)) == 2 * count


def test_one_picture_a_seed(once: Any, model: Path, run: Callable[..., Ran], tmp_path: Path) -> None:
    ran = run("generate", PROMPT, "--model", model, *SMALL, "--out", tmp_path, "--seeds", "0-1,5", "--alone")
    assert ran.code == 0
    names = [f"{SLUG}-seed{seed}-attention-balance.png" for seed in (0, 1, 5)]
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
    settings = ("--window", "0.0", "1.0", "--layers", "down_blocks", "--layers", "mid_block", "--gain", "2.5")
    more = ("--strength", "2", "--scheduler", "euler", "--dtype", "float32")
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
        "settings": {"strength": 2.0, "window": [0, 1], "layers": ["down_blocks", "mid_block"], "gain": 2.5},
        "targets": ["balloon", "cat"],
        "adjectives": True,
        "steps": 2,
        "guidance_scale": 4.5,
        "negative_prompt": "dog",
        "height": 64,
        "width": 64,
        "scheduler": "euler",
        "dtype": "float32",
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
    assert run("generate", PROMPT, "--model", model, *SMALL, "--alone", "--out", tmp_path).code == 0
    assert run("rerun", tmp_path / REGULATED, "--device", "cpu", "--out", tmp_path).code == 0
    again = tmp_path / REGULATED.replace(".png", "-again.png")
    before = again.read_bytes()
    assert run("rerun", again, "--device", "cpu", "--out", tmp_path).code == 0
    assert again.read_bytes() == before
    more = ("--method", "attention-balance", "--gain", "9")
    assert run("generate", PROMPT, "--model", model, *SMALL, "--alone", *more, "--out", tmp_path / "other").code == 0
    assert run("rerun", tmp_path / "other" / REGULATED, "--device", "cpu", "--out", tmp_path).code == 0
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


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.config])
def test_every_setting_is_an_option_with_its_default(name: str) -> None:
    """Each field of each config: a flag of its type, whose help ends in the config's own default."""
    options = options_of(cli.commands["generate"])
    # Under the group, as it is called: click keeps what the first context says about --help.
    group = cli.make_context("attnreg", ["generate"])
    left_open = cli.commands["generate"].make_context("generate", [PROMPT], parent=group).params
    config = METHODS[name].config
    assert config
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        option = options[f"--{field.name.replace('_', '-')}"]
        assert left_open[str(option.name)] in (None, ()), "the config's own default holds"
        shown = " ".join(map(str, field.default)) if isinstance(field.default, tuple) else str(field.default)
        help = option.help or ""
        assert f"[{shown}" in help or f"{name}: {shown}" in help, f"--{field.name} says {help!r}"
        if option.nargs == 1:
            first = field.default[0] if isinstance(field.default, tuple) and field.default else field.default
            assert type(option.type.convert("1", None, None)) is type(first)


def test_a_new_method_brings_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line in the dict; and a setting that other methods have too is one option for all of them."""

    @dataclasses.dataclass(frozen=True)
    class Loud:
        strength: float = dataclasses.field(default=1.0, metadata={"help": "factor"})
        echo_times: int = dataclasses.field(default=4, metadata={"help": "how often"})

    monkeypatch.setitem(METHODS, "loud", Method(Loud, "a toy", ""))  # type: ignore[arg-type]

    @click.command()
    @setting_options
    def command(**options: Any) -> None:
        click.echo(json.dumps(options["set_echo_times"]))

    assert "--echo-times" in options_of(command)
    assert options_of(command)["--echo-times"].help == "how often (loud) [4]"
    assert sum(one.name == "set_strength" for one in command.params) == 1
    assert CliRunner().invoke(command, ["--echo-times", "7"]).output == "7\n"


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
        ["--strength", "much"], ["--window", "0.5"], ["--no-such-option"], ["another prompt"],
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
    "a setting of another method": ([PROMPT, "--shift", "2"], "expected settings of attention-balance"),
    "a setting out of range": ([PROMPT, "--gain", "0"], "gain: expected"),
    "a window turned round": ([PROMPT, "--window", "0.6", "0.5"], "window: expected start <= end"),
    "a layer it has not": ([PROMPT, "--layers", "up_blocks.7"], "expected layers that the model has"),
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
        ("nowhere.png", "No such file"),
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
    """A stand-in for the bundled model: two files and their list."""
    folder = tmp_path / "pocket"
    (folder / "unet").mkdir(parents=True)
    (folder / "unet" / "weights.safetensors").write_bytes(b"weights")
    (folder / "model_index.json").write_text("{}")
    (folder / ABOUT).write_text(json.dumps({"model": {}, "sha256": checksums(folder)}))
    monkeypatch.setattr(attnreg.doctor, "POCKET", folder)
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


def test_what_only_prints_does_not_wait_for_diffusers() -> None:
    """In a process of its own: the list of methods needs none of the libraries that take seconds to load."""
    code = (
        "import sys\nfrom attnreg.cli import main\nsys.argv = ['attnreg', 'methods']\n"
        "try:\n    main()\nfinally:\n"
        "    sys.stderr.write(' '.join(m for m in ('diffusers', 'transformers', 'PIL') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0].startswith("none")


def test_the_regulated_config_is_the_documented_one() -> None:
    """The default method of the command line is the library's default, and that of a run of many pictures."""
    option = options_of(cli.commands["generate"])["--method"]
    assert option.default == DEFAULT
    assert METHODS[DEFAULT].config is AttentionBalance
    assert Config(prompts=("attend-and-excite",)).methods == ("none", DEFAULT)
    pipe = tiny.stable_diffusion()
    assert Installation(pipe, None, None).run.edits.logits == AttentionBalance()
