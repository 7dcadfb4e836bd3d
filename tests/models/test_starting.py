"""A command loads what its model needs and no more; a program that uses attnreg has all that is installed."""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from PIL import Image

from attnreg.commands.libraries import OURS, load_libraries
from attnreg.models import quiet, starting
from attnreg.models.about import POCKET
from attnreg.models.starting import ADAPTER, OPTIONAL, SCHEDULER, not_found, unneeded

DRAWN = """
import sys
from attnreg.cli import main
try:
    main()
except SystemExit as left:
    assert not left.code, left.code
import attnreg.models.starting as starting
assert not [name for name, module in sys.modules.items() if module is None], "a mark was left behind"
print(*(name for name in starting.OPTIONAL if name in sys.modules))
import peft, scipy
"""
WORDS = ("--method", "attention-balance", "--steps", "1", "--alone", "--device", "cpu")


def test_a_command_draws_the_picture_of_a_program_without_the_optional_packages(tmp_path: Path) -> None:
    """In a process of its own; afterwards the packages are found again."""
    from attnreg import configure, generate, load_pipeline
    from attnreg.models.about import about

    asked = [sys.executable, "-W", "ignore", "-c", DRAWN, "generate", "a cat and a dog", *WORDS, "--out", str(tmp_path)]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == ""
    (path,) = tmp_path.glob("*.png")
    told = about(POCKET)
    assert told
    guidance = {"guidance_scale": told.guidance_scale, "num_inference_steps": 1}
    drawn = generate(load_pipeline(device="cpu"), "a cat and a dog", configure("attention-balance"), seed=0, **guidance)
    with Image.open(path) as picture:
        assert np.array_equal(np.asarray(picture.convert("RGB")), np.asarray(drawn.picture.convert("RGB")))


def written(folder: Path, files: dict[str, Any]) -> Path:
    """A directory of JSON files."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


PLAIN = {
    "model_index.json": {"_class_name": "StableDiffusionPipeline"},
    f"scheduler/{SCHEDULER}": {"_class_name": "EulerDiscreteScheduler", "use_beta_sigmas": False},
    "unet/config.json": {"_class_name": "UNet2DConditionModel"},
}


@pytest.mark.parametrize(
    ("more", "needed"),
    [
        ({}, set()),
        ({f"unet/{ADAPTER}": {"peft_type": "LORA"}}, {"peft"}),
        ({f"scheduler/{SCHEDULER}": {"_class_name": "EulerDiscreteScheduler", "use_beta_sigmas": True}}, {"scipy"}),
        ({f"scheduler/{SCHEDULER}": {"_class_name": "LMSDiscreteScheduler"}}, {"scipy"}),
        ({f"prior/scheduler/{SCHEDULER}": {"_class_name": "OfAnotherRelease"}}, {"scipy"}),
        ({"transformer/config.json": {"quantization_config": {"quant_method": "torchao"}}}, set(OPTIONAL)),
        ({"text_encoder/config.json": {"text_config": {"quantization_config": {}}}}, set(OPTIONAL)),
        ({"unet/config.json": "{"}, set(OPTIONAL)),
        ({"unet/config.json": "[]"}, set(OPTIONAL)),
        ({"unet/config.json": json.dumps({"long": "a" * (1 << 20)})}, set(OPTIONAL)),
    ],
)
def test_what_a_directory_asks_for_is_there(more: dict[str, Any], needed: set[str], tmp_path: Path) -> None:
    assert set(OPTIONAL) - set(unneeded(written(tmp_path, PLAIN | more))) == needed


def test_of_what_is_no_directory_nothing_is_known(tmp_path: Path) -> None:
    checkpoint = tmp_path / "model.safetensors"
    checkpoint.touch()
    assert [unneeded(place) for place in (checkpoint, tmp_path, tmp_path / "org" / "name")] == [()] * 3


def _look_for_wave() -> None:
    assert importlib.util.find_spec("wave") is None
    assert sys.modules["json"] is json
    importlib.import_module("wave")


def test_packages_are_not_found_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even their spec is; those loaded already stay, and an error puts all back, too."""
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    before = dict(sys.modules)
    with pytest.raises(ModuleNotFoundError, match="wave"), not_found(["wave", "json"]):
        _look_for_wave()
    assert sys.modules == before
    assert importlib.import_module("wave").__name__ == "wave"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """Which models libraries were loaded for; "any" where all that is installed was."""
    found: list[str | None] = []
    monkeypatch.setattr(starting, "libraries_for", found.append)
    monkeypatch.setattr(quiet, "quiet_libraries", lambda: found.append("any"))
    return found


def test_only_a_process_of_ours_does_without(asked: list[str | None]) -> None:
    load_libraries("pocket")
    for owner in (None, OURS):
        with click.Context(click.Command("draw"), obj=owner):
            load_libraries("pocket")
            load_libraries()
    assert asked == ["any", "any", "any", "pocket", None]


def test_where_a_library_is_loaded_all_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own process or not: flags that diffusers set long ago are not to be contradicted."""
    import diffusers

    monkeypatch.setattr(starting, "quiet_libraries", lambda: None)
    monkeypatch.setattr(starting, "not_found", lambda _: pytest.fail("packages were hidden"))
    starting.libraries_for("pocket")
    assert diffusers.__name__ in sys.modules
