"""`attnreg explain`: pictures that are the method's to the bit, a figure, a JSON; and what bad input gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import attnreg.studio
import tiny
from attnreg.cli import cli
from attnreg.explain import explain, saving
from attnreg.models.load import load_pipeline
from attnreg.plot.curves import ticks
from attnreg.plot.explained import Panel, chosen, figure
from attnreg.plot.heat import heat_alone
from attnreg.recipe import read_recipe
from attnreg.sampling import configure, generate
from attnreg.studio import Session
from attnreg.types import AttnregError

PROMPT = "a cat and a dog"
SMALL: dict[str, Any] = {"height": 64, "width": 80, "num_inference_steps": 3}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    folder = tmp_path_factory.mktemp("explain") / "tiny"
    tiny.stable_diffusion().save_pretrained(folder)
    return str(folder), load_pipeline(str(folder), device="cpu")


@pytest.fixture
def model(loaded: tuple[str, Any], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(attnreg.studio, "load_pipeline", lambda *_, **__: loaded[1])
    return loaded[0]


@pytest.mark.parametrize("method", ["none", "attention-scaling", "best-start"])
def test_pictures_are_the_methods_own(loaded: tuple[str, Any], method: str) -> None:
    _, pipe = loaded
    pipe.set_progress_bar_config(disable=True)
    edit = configure(method)
    found = explain(pipe, PROMPT, edit, method=method, seed=1, **SMALL)
    own = [generate(pipe, PROMPT, one, seed=1, **SMALL).picture for one in (None, edit)]
    assert np.array_equal(found.without.picture, own[0])
    assert (found.regulated is None) == (method == "none")
    assert found.regulated is None or np.array_equal(found.regulated.picture, own[1])
    told = json.loads(json.dumps(found.told()))
    assert [word["text"] for word in told["words"]] == ["cat", "dog"]
    sides = ["unmodified"] + ["regulated"] * (method != "none")
    for number, word in enumerate(told["words"]):
        for side in sides:
            seen = found.seen(regulated=side == "regulated")
            np.testing.assert_allclose(word[side]["share"], seen.shares()[:, number], rtol=1e-3)
            np.testing.assert_allclose(word[side]["maps"], seen.after[word[side]["steps"], number], rtol=1e-3)
            assert word[side]["neglect"] == pytest.approx(list(seen.neglected().values())[number], abs=1e-4)
    assert len(told["did"]["initial_noises"]) == (method == "best-start")
    assert bool(told["did"]["layers"]) == (method == "attention-scaling")
    assert found.figure().mode == "RGBA"
    assert set(found.missing()) <= {"cat", "dog"}


def test_a_prompt_that_names_no_thing(loaded: tuple[str, Any]) -> None:
    with pytest.warns(UserWarning, match="no noun"), pytest.raises(AttnregError, match="names a thing"):
        explain(loaded[1], "and", configure("auto"), **SMALL)


def test_a_saved_picture_is_drawn_again_and_explained(model: str, tmp_path: Path) -> None:
    session = Session.open(
        PROMPT, model=model, method="attention-scaling", settings={"shift": 2.0}, steps=2, height=64, width=64,
        device="cpu",
    )  # fmt: skip
    said: list[str] = []
    paths = list(saving.save(saving.explain_session(session, 4), session.recipe, tmp_path, said.append))
    assert [path.name.removeprefix("a-cat-and-a-dog-seed4-explained") for path in paths] == [
        "-none.png", "-attention-scaling.png", "-figure.png", ".json",
    ]  # fmt: skip
    assert said[0].startswith("cat: neglect 0.")
    assert read_recipe(paths[1]).seed == 4
    assert read_recipe(paths[0]).method == "none"
    before = {path: path.read_bytes() for path in paths}
    for picture in paths[:2]:
        again: list[str] = []
        list(saving.explain_picture(picture, "cpu", tmp_path / "again", again.append))
        assert again[0] == "drawn again: the same, bit for bit"
    with pytest.raises(AttnregError, match="a sheet of several"):
        list(saving.explain_picture(paths[2], "cpu", tmp_path))
    assert {path: path.read_bytes() for path in paths} == before


def test_bad_input_gets_one_line(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    (tmp_path / "text.png").write_text("no picture")
    for name in ("plain.png", "text.png", "missing.png"):
        found = CliRunner().invoke(cli, ["explain", str(tmp_path / name), "--out", str(tmp_path / "out")])
        assert isinstance(found.exception, AttnregError), found.output
        assert "\n" not in str(found.exception)
    used = CliRunner().invoke(cli, ["explain", str(tmp_path / "plain.png"), "--seed", "3"])
    assert used.exit_code == 2
    assert "--seed goes with a prompt" in used.output
    for wrong in (["--seed", "-1"], ["--method", "nothing"], ["--set", "gain"]):
        assert CliRunner().invoke(cli, ["explain", PROMPT, *wrong]).exit_code == 2


def test_help_is_short() -> None:
    found = CliRunner().invoke(cli, ["explain", "--help"])
    assert found.exit_code == 0
    assert len(found.output.splitlines()) <= 40


def test_the_figure_grows_with_its_words_and_keeps_one_scale_a_word() -> None:
    maps = np.zeros((6, 2, 4, 4), np.float32)
    maps[:, :, 1, 1] = 0.5
    one = Panel("", None, ("frog", "crown"), tuple(range(6)), 6, maps)
    half = Panel("", None, ("frog", "crown"), tuple(range(6)), 6, maps / 2)
    assert figure([one, half]).height > figure([one]).height
    assert chosen(one.steps) == [0, 1, 2, 4, 5]
    assert chosen((3,)) == [0]
    hot = np.asarray(heat_alone(maps[0, 0].tolist(), 0.5, (4, 4)))
    cool = np.asarray(heat_alone((maps[0, 0] / 2).tolist(), 0.5, (4, 4)))
    assert hot[1, 1].tolist() == [240, 249, 33]
    assert cool[1, 1].tolist() != hot[1, 1].tolist()
    assert hot[3, 3].tolist() == cool[3, 3].tolist()


@pytest.mark.parametrize("highest", [1e-6, 0.0437, 0.5, 0.999, 1.0])
def test_ticks_are_round_and_within(highest: float) -> None:
    found = ticks(highest)
    assert found[0] == 0.0
    assert 2 <= len(found) <= 6
    assert found[-1] <= highest * (1 + 1e-9)


def test_no_state_is_left_on_the_model(loaded: tuple[str, Any]) -> None:
    _, pipe = loaded
    before = [sorted(vars(module)) for module in pipe.unet.modules()]
    explain(pipe, PROMPT, None, **SMALL)
    assert before == [sorted(vars(module)) for module in pipe.unet.modules()]
    assert torch.is_grad_enabled()
