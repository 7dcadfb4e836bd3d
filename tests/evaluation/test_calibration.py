"""Thresholds from a model's own scores: counted by hand, read without finishing a picture, kept as a preset."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from fakes import White
from PIL import Image

import attnreg.evaluation.calibration as calibration
from attnreg import AttnregError
from attnreg.cli import main
from attnreg.evaluation import Config, run
from attnreg.evaluation.calibration import Calibration, calibrate, given_score, shares_for, wrong_in
from attnreg.evaluation.pictures import png_of
from attnreg.evaluation.tasks import Drawn
from attnreg.models.load import load_pipeline
from attnreg.passes import counted
from attnreg.presets import settings_of_preset
from attnreg.regulation.best_start import BestStart
from attnreg.sampling import configure, generate
from training.pocket_joint import KEPT as POCKET_JOINT

PROMPT = "a cat and a red car"


@pytest.mark.parametrize("model", ["pocket", POCKET_JOINT])
def test_the_score_is_that_of_the_given_start(model: str) -> None:
    pipe = load_pipeline(str(model))
    pipe.set_progress_bar_config(disable=True)
    before = {name: vars(part).copy() for name, part in pipe.components.items() if hasattr(part, "forward")}
    with counted(pipe) as passes:
        score = given_score(pipe, PROMPT, 3, num_inference_steps=5)
    assert passes.count < 2 * 5, "the picture is not finished"
    assert all(vars(part) == before[name] for name, part in pipe.components.items() if name in before)
    whole = generate(pipe, PROMPT, BestStart(enough=0.0), seed=3, num_inference_steps=5)
    assert whole.trace.starts[0].scores == (score,)


def test_thresholds_are_scores_that_so_many_stay_below() -> None:
    found = Calibration(tuple(number / 100 for number in range(1, 101)), doubted=0.25, good=0.6)
    assert found.settings == pytest.approx({"enough": 0.2575, "good": 0.604}, abs=0.003)
    assert configure("best-start", found.settings) == BestStart(**found.settings)


def test_every_picture_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, told = [], []

    def score(_pipe: Any, prompt: str, seed: int, *_: Any, **options: Any) -> float:
        asked.append((prompt, seed, options))
        return float(seed)

    monkeypatch.setattr(calibration, "given_score", score)
    pictures = [("a cat", seed) for seed in range(20)]
    found = calibrate(None, pictures, say=lambda *one: told.append(one), num_inference_steps=4)
    assert asked == [(*one, {"num_inference_steps": 4}) for one in pictures]
    assert told == [(seed + 1, float(seed)) for seed in range(20)]
    assert found.scores == tuple(map(float, range(20)))


@pytest.mark.parametrize(
    ("pictures", "shares", "expected"),
    [
        (19, {}, "at least 20 pictures, got 19"),
        (20, {"doubted": 0.0}, "0 < doubted < good < 1, got 0 and"),
        (20, {"doubted": 0.5, "good": 0.4}, "got 0.5 and 0.4"),
        (20, {"doubted": 0.5, "good": float("nan")}, "got 0.5 and nan"),
    ],
)
def test_what_cannot_be_calibrated_is_said_at_once(pictures: int, shares: dict[str, float], expected: str) -> None:
    with pytest.raises(AttnregError, match=expected):
        calibrate(None, [("a cat", 0)] * pictures, **shares)


@pytest.mark.parametrize(
    ("wrong", "doubted", "good"), [(0.0, 0.05, 0.2), (0.24, 0.3, 0.45), (0.44, 0.55, 0.7), (0.9, 0.8, 0.95)]
)
def test_shares_follow_how_often_a_model_goes_wrong(wrong: float, doubted: float, good: float) -> None:
    assert shares_for(wrong) == pytest.approx((doubted, good))
    Calibration.check(20, *shares_for(wrong))


def test_how_often_a_model_goes_wrong_is_counted_in_a_run(tmp_path: Path) -> None:
    def models(_name: str) -> Any:
        return lambda cell: Drawn(png_of(Image.new("RGB", (8, 8), "white" if cell.seed else "black")), 0.01)

    config = Config(prompts=("unseen-pairs",), limit=4, methods=("none", "attention-balance"), seeds=(0, 1, 2, 3),
                    models=("pocket",), judges=("pocket",))  # fmt: skip
    run(config, tmp_path, open_model=models, open_judge=lambda name, weights: White())
    assert wrong_in(tmp_path, "pocket") == pytest.approx(0.25)
    with pytest.raises(AttnregError, match=r"expected unmodified pictures of other .* got none; draw some with"):
        wrong_in(tmp_path, "other")
    with pytest.raises(AttnregError, match="score 'colours', got none"):
        wrong_in(tmp_path, "pocket", "colours")


def test_the_command_writes_a_preset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "chosen.json"
    words = ["calibrate", "pocket", "--pictures", "20", "--steps", "4", "--doubted", "0.3", "--good", "0.5"]
    monkeypatch.setattr(sys, "argv", ["attnreg", *words, "--out", str(out)])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0
    settings = settings_of_preset(str(out), "best-start", "pocket")
    preset = json.loads(out.read_text(encoding="utf-8"))["best-start"]["calibrated"]
    assert preset["chosen on"] == "unseen-pairs, development half, 20 given starts"  # no path of this machine
    assert sum(score < settings["enough"] for score in preset["scores"]) in range(5, 8)
    assert sum(score < settings["good"] for score in preset["scores"]) in range(9, 12)
    assert f"enough={settings['enough']:g}, good={settings['good']:g}" in capsys.readouterr().out
    configure("best-start", settings)


def test_a_preset_that_cannot_be_written_is_said_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    words = ["calibrate", str(tmp_path / "no model"), "--out", str(tmp_path / "file" / "chosen.json")]
    monkeypatch.setattr(sys, "argv", ["attnreg", *words])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
    assert "expected a folder that can be written" in capsys.readouterr().err
