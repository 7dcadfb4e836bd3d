"""The benchmark of whole denoisers, on a tiny one: what is measured is kept, and nothing is measured twice."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny
from attnreg.regulation.balance import AttentionBalance
from benchmarks.cost import operations
from benchmarks.denoisers import DENOISERS, Denoiser
from benchmarks.overhead import Asked, Row, Sitting, measure, read
from benchmarks.overhead_told import plot, table

METHODS = ("attention-balance", "attend-and-excite(refinements=0)", "taca")


def around(unet: torch.nn.Module) -> Any:
    pipe = tiny.stable_diffusion()
    pipe.unet = unet
    return pipe


TINY = Denoiser(lambda blocks: tiny.unet(layers_per_block=blocks), around, 64, (2, 1))


def asked(rounds: int, methods: tuple[str, ...] = METHODS) -> Asked:
    return Asked(methods, rounds, 2, 0.5, "cpu", "float32")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every call of the pipeline: by which edit."""
    calls, draw = [], Sitting.draw

    def noted(sitting: Sitting, edit: Any) -> None:
        calls.append(edit)
        draw(sitting, edit)

    monkeypatch.setattr(Sitting, "draw", noted)
    return calls


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    found: list[Row] = []
    refused = measure("tiny", TINY, 1, asked(2), found, lambda: None)
    assert len(refused) == 1
    assert refused[0].startswith("tiny, taca: expected a method that works on Stable Diffusion")
    return found


def test_a_row_tells_what_a_method_adds(rows: list[Row]) -> None:
    balance, moved = rows
    for row in rows:
        assert len(row.clock) == len(row.processor) == len(row.plain_seconds) == 2
        assert row.held > 0 < row.peak[0]
        assert not row.whole
    plain, regulated = balance.launches
    layers = 2 * 3 + 1 + 3 * 2  # one a block downwards but the last, the middle, and two a block upwards but the first
    each = operations(AttentionBalance())
    assert each <= (regulated - plain) / layers < each + 4, "one of two steps, and what is only done once a picture"
    assert moved.launches[1] > 1.5 * plain, "a forward pass and one back"


def test_what_is_there_is_not_measured_again(rows: list[Row], tmp_path: Path, drawn: list[Any]) -> None:
    path = tmp_path / "overhead.json"
    path.write_text(json.dumps([asdict(row) for row in rows]))
    again = read(path)
    assert again == rows
    measure("tiny", TINY, 1, asked(2, METHODS[:2]), again, lambda: None)
    assert (drawn, again) == ([], rows)
    saved: list[int] = []
    measure("tiny", TINY, 1, asked(3, METHODS[:1]), again, lambda: saved.append(len(again[0].clock)))
    assert saved == [3]
    assert len(drawn) == 3, "a plain call that pays for what is only done once, then the round"
    assert [len(row.clock) for row in again] == [3, 2]
    measure("tiny", TINY, 2, asked(1, METHODS[:1]), again, lambda: None)
    assert [(row.blocks, row.whole) for row in again] == [(1, False), (1, False), (2, True)]


def test_rows_are_told_and_drawn(rows: list[Row]) -> None:
    lines = table(rows).splitlines()
    assert len(lines) == 2 + len(rows)
    assert lines[2].startswith("| tiny, 1 of its blocks | attention-balance | 2, 0.5 | cpu, float32, ")
    assert np.asarray(plot(rows)).std() > 0
    assert table([]).count("\n") == 1
    assert plot([]).width > 0


def test_fewer_blocks_where_the_whole_does_not_fit() -> None:
    whole, fewer = (TINY.weights(blocks) for blocks in TINY.blocks)
    assert whole > fewer
    assert [TINY.largest(numbers) for numbers in (whole, whole - 1, fewer, 0)] == [2, 1, 1, 1]


SIZES = {"SD 1.5": 0.860, "SD 2.1": 0.866, "SDXL": 2.567, "SD 3": 2.028, "PixArt": 0.611, "FLUX": 11.901}
"""Of the published models, in billions of weights."""


@pytest.mark.parametrize("name", SIZES)
def test_denoisers_are_as_large_as_the_published_ones(name: str) -> None:
    denoiser = DENOISERS[name]
    assert denoiser.weights(denoiser.blocks[0]) == pytest.approx(SIZES[name] * 1e9, rel=1e-3)
