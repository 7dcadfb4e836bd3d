"""A recipe as a command and as Python: each, run as it stands, draws the very picture."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import tiny
from attnreg.cli import cli
from attnreg.cli import generate as command
from attnreg.errors import AttnregError
from attnreg.recipe import Recipe
from attnreg.retelling import as_command, as_python
from attnreg.sampling import read_settings
from attnreg.seeds import seeds_of, seeds_text
from attnreg.studio import Session

PROMPT = 'a "cat" and a blue dog, it\'s $5'


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("retold") / "a model"
    tiny.stable_diffusion().save_pretrained(folder)
    return str(folder)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.mark.parametrize(
    "options",
    [
        {"method": "attention-balance", "settings": {"gain": 2.5, "window": (0.0, 1.0)}, "targets": ["cat", "dog"]},
        {"method": "none", "scheduler": "ddim", "negative_prompt": "-x 'y'", "guidance_scale": 3.0},
        {"method": "attention-scaling", "adjectives": False, "settings": {"layers": ("mid_block",), "shift": 3.0}},
    ],
)
def test_each_draws_the_picture(
    model: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session.open(PROMPT, model=model, steps=2, height=64, width=64, device="cpu", **options)
    *_, (sample, recipe) = session.pictures(7, beside_unmodified=False)
    wanted = np.asarray(sample.picture)
    monkeypatch.chdir(tmp_path)
    exec(as_python(recipe, [7]), {})
    assert np.array_equal(pixels(tmp_path / "seed7.png"), wanted)
    words = shlex.split(as_command(recipe, [7]))
    assert words[0] == "attnreg"
    ran = CliRunner().invoke(cli, [words[1], "--alone", *words[2:]])
    assert ran.exit_code == 0, ran.output
    (drawn,) = (tmp_path / "out").glob("*-seed7-*.png")
    assert np.array_equal(pixels(drawn), wanted)


@given(
    prompt=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1),
    targets=st.none()
    | st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), min_size=1),
    seeds=st.lists(st.integers(0, 50), min_size=1, unique=True),
    negative=st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    gain=st.floats(0.1, 100),
)
def test_the_shell_and_click_read_back_what_was_written(
    prompt: str, targets: Any, seeds: list[int], negative: Any, gain: float
) -> None:
    recipe = Recipe(
        prompt=prompt, seed=0, model="pocket", method="attention-balance", targets=targets, negative_prompt=negative,
        settings={"gain": gain, "window": [0.25, 0.5]}, steps=5,
    )  # fmt: skip
    words = shlex.split(as_command(recipe, seeds))
    read = command.make_context("generate", words[2:]).params
    assert (read["prompt"], list(read["targets"]) or None) == (prompt, targets)
    assert (read["seeds"], read["negative_prompt"], read["steps"]) == (seeds, negative, 5)
    assert read_settings("attention-balance", read["settings"]) == {"gain": gain, "window": (0.25, 0.5)}
    compile(as_python(recipe, seeds), "told", "exec")


def test_columns_are_no_words() -> None:
    recipe = Recipe(prompt="a cat", seed=0, model="pocket", method="auto", targets=[2])
    assert "targets=[2]" in as_python(recipe, [0])
    with pytest.raises(AttnregError, match="token columns, Python does"):
        as_command(recipe, [0])


@given(seeds=st.lists(st.integers(0, 60), unique=True, min_size=1))
def test_seeds_are_read_back(seeds: list[int]) -> None:
    assert list(seeds_of(seeds_text(seeds))) == seeds


def test_neighbours_are_joined() -> None:
    assert seeds_text([0, 1, 2, 3, 7, 9, 10]) == "0-3,7,9-10"
