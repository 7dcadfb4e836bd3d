"""PNGs that nobody of good will made: each is one line, soon, and takes no memory to speak of."""

from __future__ import annotations

import os
import resource
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import attnreg.png
from attnreg.png import read_png
from attnreg.recipe import Recipe, Sheet, is_of, read_recipe, save_pictures
from attnreg.studio import draw_again
from attnreg.types import AttnregError

RECIPE = Recipe(prompt="a cat", seed=3, model="pocket", method="none")
NEEDED = {"prompt": '"a cat"', "seed": "3", "model": '"pocket"', "method": '"none"'}


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*extra: bytes, width: int = 2, height: int = 2, pixels: bytes | None = None) -> bytes:
    """A grey picture by the specification, with other chunks before its pixels."""
    rows = zlib.compress(bytes((width + 1) * height)) if pixels is None else pixels
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def told(**texts: str) -> list[bytes]:
    return [chunk(b"iTXt", f"attnreg:{name}".encode() + b"\0\0\0\0\0" + text.encode()) for name, text in texts.items()]


def bomb(size: int) -> bytes:
    return zlib.compress(b" " * size, 9)


def named(**texts: str) -> bytes:
    return png(*told(**(NEEDED | texts)))


DEEP = "[" * 100_000 + "]" * 100_000
VILLAINS: dict[str, tuple[bytes, str]] = {
    "wide": (png(width=2**31 - 1, height=2**31 - 1, pixels=b""), "pixels"),
    "bomb": (png(width=9000, height=9000, pixels=bomb(1000)), "more than 67,108,864"),
    "text bomb": (png(chunk(b"zTXt", b"attnreg:prompt\0\0" + bomb(1 << 24))), "too large"),
    "packed text bomb": (png(chunk(b"iTXt", b"attnreg:prompt\0\1\0\0\0" + bomb(1 << 24))), "too large"),
    "many texts": (png(*[chunk(b"zTXt", b"%d\0\0" % i + bomb(1 << 20)) for i in range(70)]), "[Tt]oo much memory"),
    "profile bomb": (png(chunk(b"iCCP", b"a\0\0" + bomb(1 << 24))), "PNG"),
    "cut": (named()[:-30], "PNG"),
    "cut header": (named()[:20], "PNG"),
    "cut text": (named()[:70], "PNG"),
    "no pixels": (png(pixels=b""), "PNG"),
    "no recipe": (png(), "without a readable one"),
    "animation": (png(chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)), *told(**NEEDED)), "animation|PNG"),
    "deep": (named(settings=DEEP), "without a readable one"),
    "digits": (named(seed="9" * 5000), "without a readable one"),
    "infinite": (named(guidance_scale="Infinity"), "guidance_scale"),
    "no number": (named(guidance_scale="NaN"), "guidance_scale"),
    "no JSON": (named(settings="{"), "without a readable one"),
    "large": (named(height="80000000", width="80000000"), "height"),
    "large number": (named(height="9" * 400), "height"),
}


@pytest.mark.parametrize("name", VILLAINS)
def test_one_line_and_soon(name: str, tmp_path: Path) -> None:
    content, expected = VILLAINS[name]
    path = tmp_path / "a.png"
    path.write_bytes(content)
    began = time.monotonic()
    with pytest.raises(AttnregError, match=expected) as error:
        draw_again(path, "cpu", tmp_path / "out")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000
    assert time.monotonic() - began < 20
    assert list((tmp_path / "out").glob("*")) == []


@pytest.mark.parametrize("name", VILLAINS)
def test_a_villain_in_the_place_of_a_picture_is_not_ours(name: str, tmp_path: Path) -> None:
    """Nothing is written over it, and nothing breaks."""
    (tmp_path / "a.png").write_bytes(VILLAINS[name][0])
    assert not is_of(tmp_path / "a.png", RECIPE)
    assert not is_of(tmp_path / "a.png", Sheet((RECIPE,), (0,)))


def test_a_sheet_whose_text_is_nested_deeply(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(chunk(b"iTXt", b"attnreg-sheet\0\0\0\0\0" + DEEP.encode())))
    assert not is_of(tmp_path / "a.png", Sheet((RECIPE,), (0,)))


@pytest.mark.parametrize("kind", ["pipe", "zero", "folder", "nothing"])
def test_what_is_no_ordinary_file_is_not_waited_for(kind: str, tmp_path: Path) -> None:
    """In a process of its own, which is ended if it waits."""
    path = Path("/dev/zero") if kind == "zero" else tmp_path / "a.png"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    code = f"from pathlib import Path\nfrom attnreg.recipe import read_recipe\nread_recipe(Path({str(path)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "AttnregError: expected a PNG that attnreg drew" in done.stderr.splitlines()[-1]


def test_a_bomb_takes_no_memory(tmp_path: Path) -> None:
    """At most what the largest picture takes; 40,000 x 40,000 pixels of one kind would be 1.6 GB."""
    (tmp_path / "a.png").write_bytes(png(width=12_000, height=12_000, pixels=bomb(12_001 * 12_000)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(AttnregError, match="12000 x 12000 pixels"):
        read_png(tmp_path / "a.png")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000, "KiB"


def test_a_file_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(png())
    monkeypatch.setattr(attnreg.png, "MOST_BYTES", 10)
    with pytest.raises(AttnregError, match="more than 10"):
        read_png(tmp_path / "a.png")


@given(at=st.integers(0, 10_000), bits=st.integers(1, 255), cut=st.integers(0, 10_000))
def test_any_damage_is_one_line_or_none(at: int, bits: int, cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    content = bytearray(named())
    content[at % len(content)] ^= bits
    path = tmp_path_factory.getbasetemp() / "damaged.png"
    path.write_bytes(content[: max(1, cut % len(content))] if cut % 3 == 0 else content)
    said = None
    try:
        read_recipe(path)
    except AttnregError as error:
        said = str(error)
    assert said is None or "\n" not in said


def test_what_was_saved_is_read(tmp_path: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 12, 3), np.uint8))
    (path,) = save_pictures(tmp_path, [("one.png", picture, RECIPE)])
    found = read_png(path)
    assert np.array_equal(np.asarray(found.picture), np.asarray(picture))
    assert found.text["attnreg:prompt"] == '"a cat"'
