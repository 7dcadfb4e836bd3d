"""A recipe goes into a PNG and comes out the same; pictures are saved all or none."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import stat
import struct
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import attnreg.recipe
from attnreg.recipe import Recipe, read_recipe, save_pictures, versions
from attnreg.types import AttnregError
from attnreg.writing import check_writable

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 12, 3), np.uint8))
RECIPE = Recipe(prompt="a cat", seed=3, model="pocket", method="none")


def text_chunks(png: bytes) -> dict[str, str]:
    """The international text chunks of a PNG, taken apart by its specification (11.3.3.4), not by Pillow."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    found, at = {}, 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kind, body = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        assert struct.unpack(">I", png[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + body)
        if kind == b"iTXt":
            key, rest = body.split(b"\0", 1)
            assert rest[:2] == b"\0\0", "not compressed"
            _, _, text = rest[2:].split(b"\0", 2)
            found[key.decode("latin-1")] = text.decode("utf-8")
        at += 12 + length
    return found


simple = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
# As dictionaries: the type checks of a test run draw random numbers, which no strategy may.
values = st.fixed_dictionaries(
    {
        "prompt": st.text(),
        "seed": st.integers(0, 2**63 - 1),
        "model": st.text(),
        "method": st.text(),
        "settings": st.dictionaries(st.text(), simple | st.lists(simple, max_size=3), max_size=4),
        "targets": st.none() | st.lists(st.text() | st.integers(0, 99) | st.lists(st.integers(0, 99)), max_size=4),
        "adjectives": st.booleans(),
        "steps": st.none() | st.integers(1, 1000),
        "guidance_scale": st.none() | st.floats(0, 30),
        "negative_prompt": st.none() | st.text(),
        "height": st.none() | st.integers(8, 4096),
        "width": st.none() | st.integers(8, 4096),
        "scheduler": st.none() | st.text(),
        "dtype": st.text(),
        "chosen": st.lists(st.text(), max_size=4),
        "versions": st.dictionaries(st.text(), st.text(), max_size=4),
    }
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recipes")


@given(values=values)
@example(values={"prompt": 'een "kat"\nund ein Käfer\t猫 🐈\0\\', "seed": 0, "model": "a/b", "method": "x"})
def test_there_and_back(folder: Path, values: dict[str, Any]) -> None:
    recipe = Recipe(**values)
    (path,) = save_pictures(folder, [("one.png", PICTURE, recipe)])
    assert read_recipe(path) == recipe
    with Image.open(path) as saved:
        assert np.array_equal(np.asarray(saved), np.asarray(PICTURE))


def test_every_field_is_a_chunk_of_its_own(tmp_path: Path) -> None:
    (path,) = save_pictures(tmp_path, [("one.png", PICTURE, RECIPE)])
    chunks = text_chunks(path.read_bytes())
    assert set(chunks) == {f"attnreg:{name}" for name in asdict(RECIPE)}
    assert (chunks["attnreg:prompt"], chunks["attnreg:seed"], chunks["attnreg:steps"]) == ('"a cat"', "3", "null")


def test_a_later_release_may_add_fields(tmp_path: Path) -> None:
    """An unknown chunk is skipped, and the text of other programs is left alone."""
    info = PngInfo()
    for key, value in {"prompt": '"a cat"', "seed": "3", "model": '"pocket"', "method": '"none"', "mood": "7"}.items():
        info.add_itxt(f"attnreg:{key}", value)
    info.add_text("Software", "another")
    PICTURE.save(tmp_path / "later.png", pnginfo=info)
    assert read_recipe(tmp_path / "later.png") == RECIPE


def png_with(**texts: str) -> bytes:
    info = PngInfo()
    for key, value in texts.items():
        info.add_itxt(f"attnreg:{key}", value)
    file = io.BytesIO()
    PICTURE.save(file, "PNG", pnginfo=info)
    return file.getvalue()


def damaged_png() -> bytes:
    """A picture that breaks off in the middle of its pixels."""
    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(file, "PNG")
    return file.getvalue()[:1000]


BAD: dict[str, bytes] = {
    "text.png": b"this is no picture",
    "empty.png": b"",
    "plain.png": png_with(),
    "half.png": png_with(prompt='"a cat"'),
    "garbled.png": png_with(prompt='"a cat', seed="3", model='"pocket"', method='"none"'),
    "damaged.png": damaged_png(),
    "header.png": png_with()[:20],
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_ours_is_told(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(BAD[name])
    with pytest.raises(AttnregError, match=name) as told:
        read_recipe(tmp_path / name)
    assert "expected a PNG" in str(told.value)


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(AttnregError, match="does not exist"):
        read_recipe(tmp_path / "none.png")
    with pytest.raises(AttnregError, match="expected a PNG"):
        read_recipe(tmp_path)
    PICTURE.save(tmp_path / "one.jpg")
    with pytest.raises(AttnregError, match="expected a PNG"):
        read_recipe(tmp_path / "one.jpg")


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        (path,) = save_pictures(tmp_path / "a" / "b", [("one.png", PICTURE, RECIPE)])
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.umask(before) == before, "the mask is left as it was"


def fail_at(monkeypatch: pytest.MonkeyPatch, nth: int, error: BaseException) -> None:
    """Saving the nth picture breaks off after some bytes."""
    count, save = 0, Image.Image.save

    def breaking(self: Image.Image, file: Any, *args: Any, **kwargs: Any) -> None:
        nonlocal count
        count += 1
        if count == nth:
            file.write(b"\x89PNG half of a")
            raise error
        save(self, file, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "save", breaking)


THREE = [(f"{i}.png", PICTURE, RECIPE) for i in range(3)]


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_full_disk_leaves_nothing(nth: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "0.png").write_bytes(b"an earlier run's")
    fail_at(monkeypatch, nth, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    with pytest.raises(AttnregError, match=r"No space left on device.*--out"):
        save_pictures(tmp_path, THREE)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"0.png": b"an earlier run's"}


def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at(monkeypatch, 2, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        save_pictures(tmp_path, THREE)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_way_of_a_picture(tmp_path: Path) -> None:
    (tmp_path / "1.png").mkdir()
    with pytest.raises(AttnregError, match="expected to write 3 pictures"):
        save_pictures(tmp_path, THREE)
    assert [path.name for path in tmp_path.iterdir()] == ["1.png"]


def test_saving_replaces_the_last_run(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"old")
    assert save_pictures(tmp_path, THREE) == [tmp_path / f"{i}.png" for i in range(3)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.png", "1.png", "2.png"]
    assert read_recipe(tmp_path / "1.png") == RECIPE


def test_writable_folders_are_told_from_others(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "er")
    assert list((tmp_path / "new" / "er").iterdir()) == []
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(AttnregError, match="--out"):
            check_writable(folder)
        with pytest.raises(AttnregError, match="--out"):
            save_pictures(folder, THREE)


def test_versions_are_those_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    import diffusers
    import torch

    found = versions()
    assert found["diffusers"] == diffusers.__version__
    assert found["torch"] == torch.__version__
    assert "attnreg" in found
    monkeypatch.setattr(attnreg.recipe, "LIBRARIES", ("torch", "no-such-library"))
    assert list(versions()) == ["torch"]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("seed", "three", "int"), ("seed", True, "int"), ("steps", 2.5, "int | None"), ("prompt", None, "str"),
        ("targets", "a cat", "list"), ("settings", [], "dict"), ("adjectives", 1, "bool"),
        ("guidance_scale", "7", "float"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_refused(tmp_path: Path, name: str, value: Any, expected: str) -> None:
    """Said at once and by name: not a fault somewhere in the drawing."""
    info = PngInfo()
    for key, right in (asdict(RECIPE) | {name: value}).items():
        info.add_itxt(f"attnreg:{key}", json.dumps(right))
    PICTURE.save(tmp_path / "a.png", pnginfo=info)
    with pytest.raises(
        AttnregError,
        match=rf"expected a recipe whose {name} is .*{re.escape(expected)}.*, got {re.escape(repr(value))}",
    ):
        read_recipe(tmp_path / "a.png")


def test_whole_numbers_are_read_as_floats(tmp_path: Path) -> None:
    info = PngInfo()
    for key, right in (asdict(RECIPE) | {"guidance_scale": 2}).items():
        info.add_itxt(f"attnreg:{key}", json.dumps(right))
    PICTURE.save(tmp_path / "a.png", pnginfo=info)
    assert read_recipe(tmp_path / "a.png").guidance_scale == 2


@pytest.mark.parametrize(("name", "value"), [("seed", -1), ("seed", 2**70), ("steps", 0), ("steps", 2000)])
def test_recipes_of_what_cannot_be_drawn(name: str, value: int, tmp_path: Path) -> None:
    odd = Recipe(**{"prompt": "a cat", "seed": 0, "model": "pocket", "method": "none"} | {name: value})
    (path,) = save_pictures(tmp_path, [("odd.png", Image.new("RGB", (8, 8)), odd)])
    with pytest.raises(AttnregError, match=rf"{name}.*, got {value}"):
        read_recipe(path)
