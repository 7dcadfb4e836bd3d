"""Presets: settings chosen for one model, by name or from a file; what is not there is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from attnreg import presets
from attnreg.cli import cli
from attnreg.errors import AttnregError
from attnreg.methods import METHODS
from attnreg.presets import bundled, presets_of, settings_of_preset
from attnreg.recipe import read_recipe
from attnreg.sampling import configure
from attnreg.studio import draw_again

TUNED = {"attend-and-excite": {"tuned": {"settings": {"step_size": 5.0, "window": [0.0, 0.25]}}}}


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(presets, "HERE", tmp_path)
    (tmp_path / "pocket.json").write_text(json.dumps(TUNED))
    return tmp_path


@pytest.mark.parametrize("model", bundled())
def test_every_bundled_preset_is_one_that_its_method_takes(model: str) -> None:
    for method in METHODS:
        for settings in presets_of(method, model).values():
            configure(method, settings)


def test_by_name_and_from_a_file(shelf: Path) -> None:
    told = {"step_size": 5.0, "window": (0.0, 0.25)}
    assert settings_of_preset("tuned", "attend-and-excite", "pocket") == told
    assert settings_of_preset(str(shelf / "pocket.json"), "attend-and-excite", "some/model") == told


@pytest.mark.parametrize(
    ("preset", "method", "model", "told"),
    [
        ("tuend", "attend-and-excite", "pocket", "did you mean tuned"),
        ("tuned", "syngen", "pocket", "for which there is none; leave it out"),
        ("tuned", "attend-and-excite", "some/model", "bench tune attend-and-excite --model some/model"),
        ("tuned", "attend-and-excite", "../pocket", "there is none"),
        ("nowhere.json", "attend-and-excite", "pocket", "does not exist"),
    ],
)
def test_what_is_not_there_is_said(shelf: Path, preset: str, method: str, model: str, told: str) -> None:
    with pytest.raises(AttnregError, match=told):
        settings_of_preset(preset, method, model)


def test_a_file_of_something_else_is_refused(shelf: Path) -> None:
    for content in ("[]", '{"syngen": 1}', '{"syngen": {"tuned": {}}}', '{"conform": {}}'):
        (shelf / "odd.json").write_text(content)
        with pytest.raises(AttnregError, match="expected"):
            settings_of_preset(str(shelf / "odd.json"), "syngen", "pocket")


def test_a_picture_tells_its_preset_and_is_drawn_again_without_it(shelf: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["generate", "a cat and a dog", "--method", "attend-and-excite", "--preset", "tuned", "--steps", "2"]
    done = CliRunner().invoke(cli, [*command, "--set", "refinements=0", "--out", str(out)])
    assert done.exit_code == 0, done.output
    picture = next(out.glob("*attend-and-excite.png"))
    recipe = read_recipe(picture)
    assert recipe.preset == "tuned"
    assert recipe.settings == {"step_size": 5.0, "window": [0.0, 0.25], "refinements": 0}
    assert read_recipe(next(out.glob("*none.png"))).preset == ""
    (shelf / "pocket.json").write_text("{}")
    _, same, _ = draw_again(picture, "cpu", out)
    assert same
