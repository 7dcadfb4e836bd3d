"""Set distances of a run's folder: which pictures are compared with which, the command, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
from click.testing import CliRunner, Result

from attnreg.cli import cli
from attnreg.errors import AttnregError
from attnreg.evaluation.ledger import Ledger
from attnreg.evaluation.pictures import png_of
from attnreg.evaluation.run_distances import distances_of_run
from attnreg.evaluation.store import Cell, Store
from attnreg.evaluation.tasks import Drawn
from attnreg.measure.distributions import frechet_distance, kernel_distance_of_pairs
from attnreg.measure.features import FEATURES, open_features

PROMPTS = fakes.prompts(5)
SUBSET = PROMPTS[:3]


def cells_of(method: str, prompts: Sequence[Any]) -> list[Cell]:
    return [Cell(prompt.text, seed, method, "pocket") for prompt in prompts for seed in (0, 1)]


def made(folder: Path, cells: Sequence[Cell]) -> Path:
    with Ledger(folder) as ledger:
        ledger.ask({}, PROMPTS, list(cells), {}, {}, "")
        for cell in cells:
            ledger.keep(cell, Drawn(png_of(fakes.picture(cell)), 0.1))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five prompts with two seeds for the unmodified model and one method, three of them for a slow one."""
    cells = [*cells_of("none", PROMPTS), *cells_of("fast", PROMPTS), *cells_of("slow", SUBSET)]
    return made(tmp_path / "run", cells)


def colours(pictures: Sequence[Any]) -> np.ndarray:
    """Mean of each channel."""
    return np.stack([np.asarray(one, dtype=np.float64).mean(axis=(0, 1)) for one in pictures])


def of_cells(cells: Sequence[Cell]) -> np.ndarray:
    return colours([fakes.picture(cell) for cell in cells])


def test_each_method_is_compared_on_its_own_prompts_and_seeds(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*.png")}
    fast, slow = distances_of_run(Store(folder), colours, ("frechet", "kernel"), resamples=20)
    assert (fast.method, fast.pictures, fast.prompts, fast.reference, fast.channels) == ("fast", 10, 5, 10, 3)
    assert (slow.method, slow.pictures, slow.prompts, slow.reference) == ("slow", 6, 3, 6)
    for row, prompts in ((fast, PROMPTS), (slow, SUBSET)):
        ours, theirs = of_cells(cells_of(row.method, prompts)), of_cells(cells_of("none", prompts))
        assert row.distances["frechet"].value == pytest.approx(frechet_distance(ours, theirs))
        assert row.distances["kernel"].value == pytest.approx(kernel_distance_of_pairs(ours, theirs))
    assert fast.floors != slow.floors, "the floor is that of the pictures compared with"
    assert {path: path.read_bytes() for path in folder.rglob("*.png")} == before


def test_what_has_no_unmodified_picture_is_left_out_and_counted(tmp_path: Path) -> None:
    folder = made(tmp_path / "run", [*cells_of("none", SUBSET), *cells_of("fast", PROMPTS)])
    (row,) = distances_of_run(Store(folder), colours, ("frechet",), resamples=20)
    assert (row.pictures, row.left_out) == (6, 4)
    expected = frechet_distance(of_cells(cells_of("fast", SUBSET)), of_cells(cells_of("none", SUBSET)))
    assert row.distances["frechet"].value == pytest.approx(expected)


def test_a_folder_is_a_reference_for_all_methods(folder: Path, tmp_path: Path) -> None:
    """Here of the pictures of "fast", so that those lie nowhere from it; the unmodified model has a row of its own."""
    outside = tmp_path / "outside" / "deep"
    outside.mkdir(parents=True)
    for i, cell in enumerate(cells_of("fast", PROMPTS)):
        fakes.picture(cell).save(outside / f"{i}.png")
    rows = {row.method: row for row in distances_of_run(Store(folder), colours, ("frechet",), outside.parent)}
    assert list(rows) == ["none", "fast", "slow"]
    assert [row.reference for row in rows.values()] == [10, 10, 10]
    assert [row.pictures for row in rows.values()] == [10, 10, 6]
    assert rows["fast"].distances["frechet"].value == pytest.approx(0, abs=1e-6)
    expected = frechet_distance(of_cells(cells_of("slow", SUBSET)), of_cells(cells_of("fast", PROMPTS)))
    assert rows["slow"].distances["frechet"].value == pytest.approx(expected)
    (outside / "0.png").write_bytes(b"nothing")
    with pytest.raises(AttnregError, match=r"expected a picture, got .*0\.png"):
        distances_of_run(Store(folder), colours, ("frechet",), outside)


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (cells_of("fast", PROMPTS), "at least 4 pictures of fast on pocket with an unmodified one .* got 0 of 10"),
        ([*cells_of("none", PROMPTS), *cells_of("fast", PROMPTS[:1])], "at least 4 pictures of fast .* got 2 of 2"),
        (cells_of("none", PROMPTS), "got none alone; add a method"),
    ],
)
def test_too_few_pictures(tmp_path: Path, cells: list[Cell], told: str) -> None:
    with pytest.raises(AttnregError, match=told):
        distances_of_run(Store(made(tmp_path / "run", cells)), colours, ("frechet",))


def test_methods_with_too_few_pictures_are_named_and_left_out(tmp_path: Path) -> None:
    cells = [*cells_of("none", PROMPTS), *cells_of("fast", PROMPTS), *cells_of("slow", PROMPTS[:1])]
    folder = made(tmp_path / "run", cells)
    told: list[AttnregError] = []
    (row,) = distances_of_run(Store(folder), colours, ("frechet",), skip=told.append)
    assert row.method == "fast"
    (error,) = told
    assert "at least 4 pictures of slow" in str(error)
    with pytest.raises(AttnregError, match="pictures of slow"):
        distances_of_run(Store(folder), colours, ("frechet",))
    said = call(folder)
    assert said.exit_code == 0
    assert "left out: expected at least 4 pictures of slow" in said.stderr
    assert "| fast" in said.stdout
    few = made(tmp_path / "few", [*cells_of("none", PROMPTS), *cells_of("slow", PROMPTS[:1])])
    with pytest.raises(AttnregError, match="pictures of slow"):
        distances_of_run(Store(few), colours, ("frechet",), skip=told.append)


def test_a_lost_or_damaged_picture(folder: Path) -> None:
    store = Store(folder)
    sha = next(record.picture for record in store.records() if record.method == "slow")
    path = Path(store.pictures.path(sha))
    path.write_bytes(path.read_bytes() + b"!")
    with pytest.raises(AttnregError, match=r"\(slow, seed 0, 'a cat and a dog'\) as it was drawn, got it damaged"):
        distances_of_run(store, colours, ("frechet",))
    path.unlink()
    with pytest.raises(AttnregError, match="damaged or lost; attnreg bench run --out"):
        distances_of_run(store, colours, ("frechet",))


def test_features_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(AttnregError, match="features of pocket, clip, got 'inception'"):
        open_features("inception")
    with pytest.raises(AttnregError, match="weights of a CLIP model for the features clip, got none"):
        open_features("clip")
    with pytest.raises(AttnregError, match="nothing there"):
        open_features("clip", str(tmp_path / "nothing"))
    with pytest.raises(AttnregError, match="no weights for the features pocket"):
        open_features("pocket", "here")


def call(*words: object) -> Result:
    return CliRunner().invoke(cli, ["bench", "distances", *map(str, words), "--resamples", "20"])


def test_the_command(folder: Path, tmp_path: Path) -> None:
    """With the features of the bundled judge, in every format."""
    told = call(folder)
    assert told.exit_code == 0, told.output
    lines = told.output.splitlines()
    assert lines[0].startswith("Distance to the unmodified model's pictures of the same prompts on pocket; features")
    assert lines[2] == "| method | pictures | Fréchet distance (95 % interval) | kernel distance (95 % interval) |"
    assert [line.split(" | ")[:2] for line in lines[4:6]] == [["| fast", "10"], ["| slow", "6"]]
    assert "Floor (for fast): between random halves of 10 pictures of the reference: Fréchet distance" in told.output
    assert "Floor (for slow): between random halves of 6 pictures" in told.output
    assert "No more pictures than channels: fast, slow." in told.output

    out = tmp_path / "new" / "distances.csv"
    assert call(folder, "--format", "csv", "--out", out).output == f"saved {out}\n"
    rows = list(csv.DictReader(io.StringIO(out.read_text(encoding="utf-8"))))
    objects = json.loads(call(folder, "--format", "json").output)
    assert [row["method"] for row in rows] == [each["method"] for each in objects] == ["fast", "slow"]
    for row, each in zip(rows, objects, strict=True):
        assert float(row["frechet"]) == each["frechet"]
        assert each["frechet_low"] < each["frechet"] < each["frechet_high"]
        assert each["frechet_floor_low"] < each["frechet_floor"] < each["frechet_floor_high"]
        assert "cmmd" not in each, "CMMD is CLIP's"


def test_the_command_on_clips_features(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FEATURES, "clip", lambda weights, device, download: colours)  # type: ignore[arg-type]
    (fast, _) = json.loads(call(folder, "--features", "clip", "--weights", "x", "--format", "json").output)
    assert fast["channels"] == 3
    assert fast["cmmd"] > 0


def test_the_command_refuses_in_one_line(folder: Path, tmp_path: Path) -> None:
    assert "'inception' is not one of" in call(folder, "--features", "inception").output
    assert "weights of a CLIP model" in str(call(folder, "--features", "clip").exception)
    assert "expected a run's folder" in str(call(tmp_path).exception)
    (tmp_path / "empty").mkdir()
    assert "at least 4 pictures" in str(call(folder, "--reference", tmp_path / "empty").exception)
