"""The protocols of docs/ run from end to end, with tiny random models in the place of the weights."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

import tiny
from attnreg.cli import cli
from attnreg.evaluation import Store
from attnreg.evaluation.config import read_config
from tests.measure.conftest import clip_folder as clip_folder
from tests.measure.conftest import owlv2_folder as owlv2_folder
from tests.measure.test_distances import alexnet, state_of

PROTOCOLS = sorted((Path(__file__).parents[2] / "docs/protocols").glob("*.yaml"))
SMALLER = ["--limit=2", "--seeds=0", "--steps=2", "--height=128", "--width=128", "--dtype=float32"]
"""In the place of what the file says; all else is the file's."""


@pytest.fixture(scope="module")
def weights(owlv2_folder: Path, clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Judge -> its tiny weights."""
    lpips = tmp_path_factory.mktemp("lpips") / "lpips.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = state_of(alexnet(), "alex")
    save_file({key: weight.contiguous() for key, weight in state.items()}, lpips)
    return {"owlv2": owlv2_folder, "clip": clip_folder, "lpips": lpips}


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda path: path.stem)
def test_every_method_is_drawn_and_judged(protocol: Path, weights: dict[str, Path], tmp_path: Path) -> None:
    """By the command that the page tells; nothing fails, and no score is missing."""
    asked = read_config(protocol)
    model = tmp_path / "model"
    tiny.stable_diffusion().save_pretrained(model)
    given = [
        f"--models={model}",
        *(f"--weights={judge}={weights[judge]}" for judge in asked.judges if judge in weights),
    ]
    out = tmp_path / "out"
    done = CliRunner().invoke(cli, ["bench", "run", str(protocol), "--out", str(out), *SMALLER, *given])
    assert done.exit_code == 0, done.output
    assert "could not be drawn" not in done.output
    records = Store(out).records()
    assert len(records) == 2 * len(asked.methods)
    assert {record.method for record in records} == set(asked.methods)
    for record in records:
        judged = {name.partition("/")[0] for name in record.scores}
        # What compares with the unmodified picture says nothing of that picture itself.
        assert judged | ({"lpips", "pixels"} if record.method == "none" else set()) >= set(asked.judges)
        assert all(math.isfinite(value) for value in record.scores.values())
    table = CliRunner().invoke(cli, ["bench", "table", str(out), "--score", "owlv2/all things"])
    assert table.exit_code == 0, table.output
    assert all(method in table.output for method in asked.methods)


def test_the_papers_protocol_has_the_papers_pictures() -> None:
    """276 prompts of 64 seeds, on two models: what docs/protocols.md counts."""
    asked = read_config(next(path for path in PROTOCOLS if path.stem == "paper"))
    pictures = 276 * len(asked.seeds) * len(asked.methods) * len(asked.models)
    assert (len(asked.seeds), len(asked.models), pictures) == (64, 2, 317_952)
    assert f"{pictures:,}" in (PROTOCOLS[0].parents[1] / "protocols.md").read_text(encoding="utf-8")
