"""What comes from outside has bounds, is never waited for, and is told with the file that it is from."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from attnreg.errors import LONGEST, AttnregError
from attnreg.reading import Bounds, bytes_of, json_of, path_of, text_of, yaml_of
from attnreg.shown import cut, told, visible

DEEP = 100_000


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * DEEP, "nested too deeply"),
        ("[" * 40 + "]" * 40, "nested too deeply"),
        ('{"a":' * 900 + "1" + "}" * 900, "nested too deeply"),
        ("9" * 5000, "too many digits"),
        ("9" * 30, "at most 18 digits"),
        ("-" + "9" * 30, "at most 18 digits"),
        ("1e999", "a finite number"),
        ("NaN", "no number of JSON"),
        ("[-Infinity]", "no number of JSON"),
        (r'"\ud800"', "whole characters"),
        (r'{"\udfff": 1}', "whole characters"),
        (r'"\u0000"', "whole characters"),
        ('"' + "x" * 30_000 + '"', "at most 20,000 letters"),
        ('{"a": 1, "a": 2}', "'a' twice"),
        ("{", "expected JSON, got"),
    ],
    ids=range(15),
)
def test_json_that_cannot_be(text: str, says: str) -> None:
    with pytest.raises(AttnregError, match=rf"^here: .*{says}") as error:
        json_of(text, "here")
    assert len(str(error.value)) < 500


def test_json_that_can_be() -> None:
    value: Any = {"a": [1, 2.5, None, True, "zwölf\n"], "b": {"c": [[], {}]}, "n": -(2**63) + 1}
    text = '{"a": [1, 2.5, null, true, "zwölf\\n"], "b": {"c": [[], {}]}, "n": -9223372036854775807}'
    assert json_of(text, "here") == value
    assert json_of(r'"\ud83d\ude00"', "here") == "😀", "both halves of one character"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * DEEP, "nested too deeply"),
        ("- " * DEEP, "nested too deeply"),
        ("a: " + "9" * 5000, "expected YAML"),
        ("a: 0x" + "f" * 5000, "at most 18 digits"),
        ("a: .inf", "a finite number"),
        ("a: 2024-13-45", "month must be"),
        ("a: 2024-01-05", "date"),
        ("a: !!python/object:os.system x", "expected YAML"),
        ("a: !!timestamp x", "expected YAML"),
        ("a: !!int ''", "expected YAML"),
        ("a: 1\na: 2", "'a' twice"),
        ("? [b]\n: 2", "expected YAML"),
        ("a: &b [*b]", "nested too deeply"),
        ("a: &a [x, x]\nb: &b [" + ", ".join(["*a"] * 50) + "]\nc: &c [" + ", ".join(["*b"] * 50)
         + "]\nd: &d [" + ", ".join(["*c"] * 50) + "]", "too many values"),
        ("a: \x1b[31m", "expected YAML"),
    ],
    ids=range(15),
)  # fmt: skip
def test_yaml_that_cannot_be(text: str, says: str) -> None:
    with pytest.raises(AttnregError, match=rf"^here: .*{says}") as error:
        yaml_of(text, "here")
    assert len(str(error.value)) < 500
    assert "\x1b" not in str(error.value)


def test_yaml_that_can_be() -> None:
    text = "a: &seeds [1, 2]\nb: *seeds\nc: {d: 0.5, e: null, f: yes}\n"
    assert yaml_of(text, "here") == {"a": [1, 2], "b": [1, 2], "c": {"d": 0.5, "e": None, "f": True}}


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, says in (
        (tmp_path / "pipe", "a device or a pipe"),
        (Path("/dev/zero"), "a device or a pipe"),
        (tmp_path, "which is a folder"),
        (tmp_path / "none", "does not exist"),
        (tmp_path / ("x" * 300), "a file can have"),
    ):
        with pytest.raises(AttnregError, match=f"expected a .*{says}"):
            bytes_of(path)


def test_files_have_bounds_and_are_text(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 2000)
    with pytest.raises(AttnregError, match=r"at most 1 KiB, got .*file, which is larger"):
        bytes_of(path, most=1024)
    for content, says in ((b"a\nb\xff", "line 2: expected UTF-8"), (b"a\n\nb\0", "line 3: expected text, got a NUL")):
        path.write_bytes(content)
        with pytest.raises(AttnregError, match=says):
            text_of(path)
    path.write_bytes("\ufeffKäfer".encode())
    assert text_of(path) == "Käfer"


@pytest.mark.parametrize("name", ["~no-such-user/x", "a\0b", "a\ud800", "x" * 256, "x/" * 2100])
def test_names_that_no_file_can_have(name: str) -> None:
    with pytest.raises(AttnregError, match="expected a path"):
        path_of(name)


def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert path_of("~/a") == Path("/home/someone/a")
    assert path_of("x" * 255) == Path("x" * 255)
    assert path_of(os.fsdecode(b"a\xffb")) == Path("a\udcffb"), "a name of Linux that is no UTF-8"


def test_errors_are_short_and_command_no_terminal() -> None:
    error = str(AttnregError(f"expected a cat, got {'dog' * 50_000}\x1b[2J\ud800\u202e; write cat"))
    assert len(error) < LONGEST + 100
    assert error.startswith("expected a cat, got dogdog")
    assert error.endswith(r"\x1b[2J\ud800\u202e; write cat")
    error.encode("utf-8")


def test_values_of_any_kind_can_be_told() -> None:
    inside: list[Any] = []
    for _ in range(DEEP):
        inside = [inside]
    for value in (10**6000, inside, "x" * DEEP, {"a": "\x9b"}, b"\xff"):
        assert len(told(value)) < 300
    assert told({"a": "\x9b"}) == r"{'a': '\x9b'}"
    while inside:  # taken apart by hand: Python's own way is as deep as the list
        inside = inside[0]


def test_visible_keeps_what_is_text() -> None:
    plain = "Käfer\t猫 🐈‍⬛ مرحبا\n"
    assert visible(plain) == plain
    assert visible("\x1b]0;x\x07\r\x7f\x9b") == r"\x1b]0;x\x07\r\x7f\x9b"
    text = "".join(random.Random(0).choices(plain, k=1000))
    assert cut(text, 1000) == text
    assert len(cut(text, 90)) < 150


def test_bounds_are_the_readers() -> None:
    assert json_of('"' + "x" * 30_000 + '"', "here", Bounds(letters=40_000)) == "x" * 30_000
