"""What a small model knows, and whether its files are whole."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from attnreg.models.about import ABOUT, About, about, checksums, damaged
from attnreg.types import AttnregError

TOLD: dict[str, Any] = {
    "name": "pocket",
    "things": ["cat", "dog", "balloon"],
    "colours": ["red", "blue"],
    "other": ["a", "and", ","],
    "steps": 25,
    "guidance_scale": 3.0,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model directory of two files and a list of them."""
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "weights.safetensors").write_bytes(b"\0\1\2")
    (tmp_path / "model_index.json").write_text("{}")
    sha256 = {
        "unet/weights.safetensors": hashlib.sha256(b"\0\1\2").hexdigest(),
        "model_index.json": hashlib.sha256(b"{}").hexdigest(),
    }
    (tmp_path / ABOUT).write_text(json.dumps({"model": TOLD, "sha256": sha256}))
    return tmp_path


def test_reads_what_is_told(folder: Path) -> None:
    assert about(folder) == About("pocket", ("cat", "dog", "balloon"), ("red", "blue"), ("a", "and", ","), 25, 3.0)


def _tell(folder: Path, **more: Any) -> None:
    (folder / ABOUT).write_text(json.dumps({"model": {**TOLD, **more}}))


def test_reads_the_pairs_held_out(folder: Path) -> None:
    _tell(folder, held_out_pairs=[["balloon", "cat"], ["cat", "dog"]])
    told = about(folder)
    assert told
    assert told.held_out_pairs == (("balloon", "cat"), ("cat", "dog"))
    hash(told)


@pytest.mark.parametrize(
    "pairs", [[["cat"]], [["cat", "dog", "balloon"]], [["cat", "zebra"]], [["cat", "cat"]], ["cat"], 3, None]
)
def test_a_pair_that_is_none_is_told(pairs: Any, folder: Path) -> None:
    _tell(folder, held_out_pairs=pairs)
    with pytest.raises(AttnregError, match=ABOUT):
        about(folder)


def test_most_models_tell_nothing(tmp_path: Path) -> None:
    assert about(tmp_path) is None
    assert about(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", -3), ("steps", 0), ("steps", True), ("steps", 2.5), ("steps", "25"), ("steps", None),
        ("steps", 10**9), ("guidance_scale", -1), ("guidance_scale", "3"), ("guidance_scale", float("nan")),
        ("guidance_scale", None),
        ("guidance_scale", float("inf")), ("guidance_scale", True), ("things", "cat"), ("things", [1, 2]),
        ("things", {"cat": 1}), ("colours", [None]), ("other", [""]), ("name", 7), ("name", ""), ("name", ["a"]),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_be_is_refused(name: str, value: Any, folder: Path) -> None:
    """Accepted, they would end in a fault of the scheduler, or in pictures of noise."""
    _tell(folder, **{name: value})
    with pytest.raises(AttnregError, match=name) as told:
        about(folder)
    assert ABOUT in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", "{}", '{"model": {"name": "pocket"}}', '{"model": 3}', "\udcff", "[" * 100_000,
        '{"model": ' + "9" * 5000 + "}", " " * 2_000_000 + "{}",
    ],
)  # fmt: skip
def test_a_broken_account_is_told(text: str, folder: Path) -> None:
    (folder / ABOUT).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(AttnregError, match=ABOUT):
        about(folder)


@pytest.mark.parametrize("prompt", ["a cat", "A Red CAT, a dog and a blue balloon", "cat,dog", "", "  a\ncat "])
def test_known_words_pass(prompt: str, folder: Path) -> None:
    told = about(folder)
    assert told
    told.check_words(prompt)


@pytest.mark.parametrize(
    ("prompt", "word", "suggestion"),
    [
        ("a zebra and a dinosaur", "zebra", None),
        ("a baloon", "baloon", "balloon"),
        ("a cat!", "!", None),
        ("cats", "cats", "cat"),
        ("a red-blue cat", "red-blue", None),
        ("a Käfer", "käfer", None),
        ("a 猫", "猫", None),
        ("a cat 🐈", "🐈", None),
    ],
)
def test_unknown_words_are_named(prompt: str, word: str, suggestion: str | None, folder: Path) -> None:
    told = about(folder)
    assert told
    with pytest.raises(AttnregError) as refused:
        told.check_words(prompt)
    message = str(refused.value)
    assert f"the model pocket does not know {word!r}" in message
    assert "it knows 3 things (cat, dog, balloon), 2 colours (" in message
    assert "cat, dog, balloon" in message
    assert "red, blue" in message
    if suggestion:
        assert f"did you mean {suggestion!r}?" in message
    assert "\n" not in message


def test_checksums_are_of_every_other_file(folder: Path) -> None:
    assert checksums(folder) == json.loads((folder / ABOUT).read_text())["sha256"]
    assert damaged(folder) == []
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "x.pyc").write_bytes(b"")
    assert damaged(folder) == [], "what Python leaves behind is no damage"


def test_changed_missing_and_extra_files_are_found(folder: Path) -> None:
    (folder / "unet" / "weights.safetensors").write_bytes(b"\0\1\3")
    assert damaged(folder) == ["unet/weights.safetensors"]
    (folder / "model_index.json").unlink()
    (folder / "unet" / "more.py").write_text("")
    assert damaged(folder) == ["model_index.json", "unet/more.py", "unet/weights.safetensors"]


def test_an_account_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ABOUT)
    with pytest.raises(AttnregError, match="not a file"):
        about(tmp_path)
    with pytest.raises(AttnregError, match="not a file"):
        damaged(tmp_path)


def test_without_a_list_nothing_can_be_said(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=ABOUT):
        damaged(tmp_path)
