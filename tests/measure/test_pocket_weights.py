"""The bundled judge's weights are those that were trained, and one line tells where they are not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from attnreg.measure.pocket import PocketJudge
from attnreg.measure.pocket_weights import WEIGHTS, damage, read
from attnreg.types import AttnregError


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    for path in (WEIGHTS, WEIGHTS.with_suffix(".sha256")):
        shutil.copy(path, tmp_path)
    return tmp_path / WEIGHTS.name


def test_the_bundled_ones_are_whole(weights: Path) -> None:
    assert (damage(), damage(weights)) == ("", "")
    told, state = read(weights)
    assert len(told["nouns"]) > len(told["colours"]) > 1
    assert all(value.isfinite().all() for value in state.values())


@pytest.mark.parametrize("at", [0, 9, 100, 1_000_000, -1])
def test_one_flipped_bit_is_found(at: int, weights: Path) -> None:
    content = bytearray(weights.read_bytes())
    content[at] ^= 1
    weights.write_bytes(content)
    assert damage(weights) == "damaged (pocket-judge.safetensors)"


def test_no_list_and_an_empty_one(weights: Path) -> None:
    weights.with_suffix(".sha256").write_text("")
    assert "damaged" in damage(weights)
    weights.with_suffix(".sha256").write_bytes(b"\xff")
    assert "cannot be read" in damage(weights)
    weights.with_suffix(".sha256").unlink()
    assert "cannot be read" in damage(weights)


def test_opening_damaged_ones_is_refused_in_one_line(weights: Path) -> None:
    content = weights.read_bytes()
    for damaged in (b"", content[:1000], content[:-1], b"\xff" * 100, b"\0" * 8, content[:8] + b"!" + content[9:]):
        weights.write_bytes(damaged)
        with pytest.raises(AttnregError, match=r"the judge's weights at .*damaged.*; install attnreg anew") as told:
            PocketJudge(weights)
        assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "told", [None, {"nouns": '["cat"]'}, {"nouns": "[", "colours": "[]"}, {"nouns": "1", "colours": "[]"}]
)
def test_weights_that_name_no_words(told: dict[str, str] | None, weights: Path) -> None:
    save_file({"a": torch.zeros(1)}, weights, told)
    with pytest.raises(AttnregError, match="damaged"):
        PocketJudge(weights)


def test_weights_of_another_network(weights: Path) -> None:
    save_file({"a": torch.zeros(1)}, weights, {"nouns": '["cat"]', "colours": '["red"]'})
    with pytest.raises(AttnregError, match=r"got others; install attnreg anew") as told:
        PocketJudge(weights)
    assert "\n" not in str(told.value)
