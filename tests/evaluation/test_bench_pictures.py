"""Real pipelines, real files, the real command: tiny models, two steps."""

from __future__ import annotations

import io
import json
import shutil
import signal
from contextlib import closing
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image
from sittings import Sittings, outcome

import tiny
from attnreg.cli import cli
from attnreg.errors import AttnregError
from attnreg.evaluation import Config, Store, read_config, run
from attnreg.evaluation.checks import fingerprint
from attnreg.evaluation.config import config_of, seeds_of
from attnreg.models.about import ABOUT, POCKET
from attnreg.models.load import load_pipeline
from attnreg.regulation.config import AttentionRegulation
from attnreg.sampling import generate

SMALL: dict[str, Any] = {"steps": 2, "height": 64, "width": 64, "guidance_scale": 3}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "tiny"
    tiny.stable_diffusion().save_pretrained(folder)
    return folder


def test_pictures_are_those_that_generate_draws(model: Path, tmp_path: Path) -> None:
    regulated = "attention-regulation(strength=2.0, window=(0.0, 1.0), iterations=3)"
    config = Config(prompts=("given",), methods=("none", regulated), models=(str(model),), seeds=(3,), **SMALL)
    done = run(config, tmp_path / "run", prompts=fakes.prompts(1), device="cpu")
    assert (done.drawn, done.failures) == (2, ())
    store = Store(tmp_path / "run")
    pipe = load_pipeline(str(model), device="cpu")
    pipe.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 2, "height": 64, "width": 64, "guidance_scale": 3.0}
    edit = AttentionRegulation(strength=2.0, iterations=3, window=(0.0, 1.0))
    for record, alone in zip(store.records(), (None, edit), strict=True):
        drawn = generate(pipe, "a cat and a dog", alone, seed=3, **options)
        content = store.picture(record.picture)
        assert content
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), np.asarray(drawn.picture))
        assert record.seconds > 0
        assert record.peak_bytes is None or record.peak_bytes > 10_000_000, "this process has torch in memory"
    ((cell, told),) = store.attention().items()
    assert cell.method == store.records()[1].method == regulated
    assert told.keys() == {"cat", "dog"}
    assert store.facts().keys() == {"drawing", f"weights of {model}"}


def test_a_killed_pipeline_goes_on(model: Path, tmp_path: Path) -> None:
    config = {"models": str(model), "seeds": "0-1", "judges": ["colour"], **SMALL, "steps": 1}
    told: dict[str, Any] = {"count": 2, "config": config, "pipeline": True}
    log = tmp_path / "log"
    with closing(Sittings("StableDiffusionPipeline", "CLIPTextModel", "CLIPTokenizer")) as sittings:
        for moment in ((0, 200_000), (2, 20_000)):
            sittings.start(moment, folder=str(tmp_path / "run"), log=str(log), **told)
            assert sittings.ended() == signal.SIGKILL
        for folder in ("run", "undisturbed"):
            sittings.start(folder=str(tmp_path / folder), log=str(tmp_path / f"log of {folder}"), **told)
            assert sittings.ended() == 0
    assert outcome(tmp_path / "run") == outcome(tmp_path / "undisturbed")
    assert len(Store(tmp_path / "run").records()) == 8
    kept = fakes.noted(log, "progress") + fakes.noted(tmp_path / "log of run", "progress")
    assert len([line for (line,) in kept if line.startswith("drawn")]) <= 8, "what is kept is not drawn again"


def test_another_models_weights_are_refused(model: Path, tmp_path: Path) -> None:
    config = Config(prompts=("given",), methods=("none",), models=(str(model),), **SMALL)
    run(config, tmp_path / "run", prompts=fakes.prompts(1), device="cpu")
    weights = next((model / "unet").glob("*.safetensors"))
    content = weights.read_bytes()
    try:
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(AttnregError, match="weights of"):
            run(config, tmp_path / "run", prompts=fakes.prompts(1), device="cpu")
    finally:
        weights.write_bytes(content)


def test_a_fingerprint_is_of_what_decides_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(POCKET, folder)
    before = fingerprint(folder)
    (folder / "README.md").write_text("other words")
    account = json.loads((folder / ABOUT).read_text())
    account["sha256"]["README.md"] = "other"
    (folder / ABOUT).write_text(json.dumps(account))
    assert fingerprint(folder) == before
    account["model"]["steps"] += 1
    (folder / ABOUT).write_text(json.dumps(account))
    assert fingerprint(folder) != before


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"models": ("/nowhere",)}, "expected pocket or pocket-joint, a directory"),
        ({"scheduler": "magic"}, "expected a scheduler"),
        ({"prompts": ("nonesuch",)}, "expected the name of a prompt set"),
        ({"judges": ("nobody",)}, "expected a judge of"),
    ],
)
def test_errors_come_before_any_model_is_loaded(
    model: Path, tmp_path: Path, changes: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a model is loaded")

    monkeypatch.setattr("attnreg.evaluation.drawing.load_pipeline", never)
    (tmp_path / "prompts.txt").write_text("a cat and a dog\n")
    config: dict[str, Any] = {"prompts": (str(tmp_path / "prompts.txt"),), "models": (str(model),)} | SMALL
    with pytest.raises(AttnregError, match=says):
        run(Config(**(config | changes)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_word_that_the_model_was_never_taught_is_named(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a cat and a locomotive\n")
    with pytest.raises(AttnregError, match="does not know 'locomotive'"):
        run(Config(prompts=(str(tmp_path / "prompts.txt"),)), tmp_path / "run")


def test_the_command(model: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a cat and a dog\na bird and a car\na lion and a crown\n")
    out = str(tmp_path / "run")
    small = ["--steps", "1", "--height", "64", "--width", "64", "--device", "cpu", "--out", out]

    def bench(*words: str) -> str:
        done = CliRunner().invoke(cli, ["bench", "run", *words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    config = {
        "prompts": str(tmp_path / "prompts.txt"),
        "methods": ["none"],
        "models": str(model),
        "seeds": "0",
        "steps": 1,
        "height": 64,
        "width": 64,
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    assert "3 pictures, 3 of them to be drawn" in bench(str(tmp_path / "run.yaml"), "--device", "cpu", "--out", out)
    assert "3 pictures, 0 of them to be drawn" in bench(*small)
    more = bench(*small, "--methods", "attention-scaling(shift=2)", "--subset", "attention-scaling=1", "--seeds", "0,2")
    assert "8 pictures, 5 of them to be drawn" in more
    records = Store(out).records()
    assert {(record.seed, record.method) for record in records} == {
        (seed, method) for seed in (0, 2) for method in ("none", "attention-scaling(shift=2.0)")
    }
    assert Store(out).sittings()[-1].config["subset"] == {"attention-scaling": 1}


def test_the_command_needs_prompts_or_a_run(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["bench", "run", "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert "expected CONFIG or --prompts" in done.output
    done = CliRunner().invoke(cli, ["bench", "run", "--subset", "none"])
    assert done.exit_code == 2


def test_a_configuration_comes_back_from_json_and_yaml(tmp_path: Path) -> None:
    config = Config(
        prompts=("a",), methods=("none", "b(x=1, y=2),c"), seeds=(0, 1, 2, 9), subset={"c": 3}, weights={"j": "/p"},
        judges=("j",), half="test", limit=4, guidance_scale=3.0, maps=2,
    )  # fmt: skip
    assert config.methods == ("none", "b(x=1, y=2)", "c")
    assert config.seeds == (0, 1, 2, 9)
    assert config_of(json.loads(json.dumps(config.as_json())), "here") == config
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config.as_json()))
    assert read_config(tmp_path / "run.yaml") == config
    more = config.with_more(methods=("d",), seeds="9,11", limit=5, subset={"d": 1})
    assert (more.methods, more.seeds, more.limit) == ((*config.methods, "d"), (0, 1, 2, 9, 11), 5)
    assert more.subset == {"c": 3, "d": 1}


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({}, "expected a configuration with prompts"),
        ([], "expected a configuration with prompts"),
        ({"prompts": "a", "colour": 1}, "got 'colour'"),
        ({"prompts": []}, "prompts: expected at least one"),
        ({"prompts": "a", "methods": [1]}, "methods: expected a name"),
        ({"prompts": "a", "seeds": "3-1"}, "seeds: expected for example"),
        ({"prompts": "a", "seeds": [-1]}, "seeds: expected whole numbers"),
        ({"prompts": "a", "seeds": True}, "seeds: expected whole numbers"),
        ({"prompts": "a", "height": 100}, "height: expected a multiple of 8 pixels, got 100; try 96"),
        ({"prompts": "a", "steps": 2.5}, "steps: expected a whole number"),
        ({"prompts": "a", "guidance_scale": "high"}, "guidance_scale: expected a number"),
        ({"prompts": "a", "half": "third"}, "half: expected development or test"),
        ({"prompts": "a", "maps": -1}, "maps: expected a whole number of at least 0"),
        ({"prompts": "a", "maps": True}, "maps: expected a whole number of at least 0"),
        ({"prompts": "a", "subset": 3}, "subset: expected names with values"),
        ({"prompts": "a", "subset": {"b": 0}}, "subset: b: expected a whole number of at least 1"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(told: object, says: str) -> None:
    with pytest.raises(AttnregError, match=says):
        config_of(told, "here")


def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path) -> None:
    for content in (b"prompts: [", b"\xff\xfe\x00", b"just words"):
        (tmp_path / "run.yaml").write_bytes(content)
        with pytest.raises(AttnregError, match=r"run\.yaml"):
            read_config(tmp_path / "run.yaml")


def test_seeds() -> None:
    assert seeds_of("0-3, 7") == (0, 1, 2, 3, 7)
    assert seeds_of([1, "5-6", 1]) == (1, 5, 6)
