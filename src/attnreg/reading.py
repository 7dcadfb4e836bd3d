"""The one way in which anything from outside is read: names of files, their bytes, text, JSON and YAML, all bounded.

What is no ordinary file (a pipe, a device) is refused instead of waited for. Sizes, depths, numbers and texts have
bounds, so that nothing that was read can hang, fill the memory or break what it is handed to. Errors name the file.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnreg.errors import AttnregError
from attnreg.limits import LARGEST
from attnreg.shown import told

_HALF = re.compile("[\ud800-\udfff]")
LONGEST_NAME, LONGEST_PATH = 255, 4095
"""Bytes of a file's name, and of a whole path."""


@dataclass(frozen=True)
class Bounds:
    """How much is read of something."""

    bytes: int = 64 << 20
    depth: int = 32
    """Lists and objects inside of one another."""
    letters: int = 20_000
    """Of one text."""
    values: int = 2_000_000
    """Texts, numbers, lists and objects, those that stand in several places counted in each."""
    nul: bool = False
    """Whether a text may hold that letter."""


ORDINARY = Bounds()
CONFIGURATION = Bounds(bytes=256 << 10, values=100_000)
"""Of a file that a person writes by hand. YAML is read at some 100 KiB a second."""
RECIPE = Bounds(letters=1_000_000, nul=True)
"""Of what this package wrote of a picture: whatever could be drawn, can be read."""
COLLECTION = Bounds(bytes=1 << 30, letters=1_000_000, values=200_000_000)
"""Of the annotations of a large collection: COCO's instances are 450 MB."""


def path_of(text: str | Path) -> Path:
    """A path as the user names it, with `~` for the home folder.

    Raises:
        AttnregError: no file can be named so, or there is no such user.
    """
    try:
        path = Path(text).expanduser()
        named = os.fsencode(path)
    except (RuntimeError, ValueError) as error:  # ~nobody; half a character
        raise AttnregError(f"expected a path, got {told(str(text))} ({error}); check the spelling") from error
    if b"\0" in named or len(named) > LONGEST_PATH or any(len(os.fsencode(p)) > LONGEST_NAME for p in path.parts):
        raise AttnregError(
            f"expected a path that a file can have, got {told(str(text))}; names have at most {LONGEST_NAME} bytes, "
            "and none of them is 0"
        )
    return path


def check_file(path: Path, what: str = "a file") -> None:
    """Raises `AttnregError` unless an ordinary file is there: reading a pipe would wait, for ever perhaps."""
    try:
        mode = path_of(path).stat().st_mode
    except FileNotFoundError:
        raise AttnregError(f"expected {what}, got {path}, which does not exist; check the path") from None
    except OSError as error:
        raise AttnregError(f"expected {what} that can be read, got {path}: {error.strerror or error}") from error
    if stat.S_ISDIR(mode):
        raise AttnregError(f"expected {what}, got {path}, which is a folder; name a file in it")
    if not stat.S_ISREG(mode):
        raise AttnregError(f"expected {what}, got {path}, a device or a pipe; save it as a file first")


def bytes_of(path: Path, what: str = "a file", most: int = ORDINARY.bytes) -> bytes:
    """The bytes of a file.

    Args:
        path: which file.
        what: what it should be, for errors: "a file of prompts".
        most: how many bytes are read.

    Raises:
        AttnregError: it is not there, no ordinary file, cannot be read or is larger.
    """
    check_file(path, what)
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise AttnregError(f"expected {what} that can be read, got {path}: {error.strerror or error}") from error
    if len(content) > most:
        raise AttnregError(f"expected {what} of at most {most >> 10:,} KiB, got {path}, which is larger; give a part")
    return content


def text_of(path: Path, what: str = "a file", most: int = ORDINARY.bytes) -> str:
    """The text of a file: UTF-8 with or without a byte-order mark. Else as `bytes_of`; NUL is no part of a text."""
    content = bytes_of(path, what, most)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise AttnregError(f"{path}, line {line}: expected UTF-8, got {error.reason}") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise AttnregError(f"{path}, line {line}: expected text, got a NUL; save it as UTF-8")
    return text


def json_of(text: str, where: str, bounds: Bounds = ORDINARY) -> Any:
    """The value of a JSON text, checked by `check_value`; no name stands twice in an object.

    Args:
        text: the JSON.
        where: where it is from, for errors: a file, perhaps with its line.
        bounds: how much is read.

    Raises:
        AttnregError: it is no such JSON.
    """
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        line = f", line {error.lineno}" if "\n" in text else ""
        raise AttnregError(f"{where}{line}: expected JSON, got {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise AttnregError(f"{where}: expected JSON, got lists nested too deeply") from error
    except ValueError as error:  # of thousands of digits, or one of ours
        reason = str(error) if isinstance(error, AttnregError) else "a number of too many digits"
        raise AttnregError(f"{where}: expected JSON, got {reason}") from error
    check_value(value, where, bounds)
    return value


def yaml_of(text: str, where: str, bounds: Bounds = CONFIGURATION) -> Any:
    """The value of a YAML text: what JSON can tell, too. Else as `json_of`."""
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """Refuses names that stand twice, of which YAML would take the last without a word."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            _object([(str(key.value), None) for key, _ in node.value if isinstance(key, yaml.ScalarNode)])
            return super().construct_mapping(node, deep)

    try:
        value = yaml.load(text, Loader)
    except AttnregError as error:
        raise AttnregError(f"{where}: expected YAML, got {error}") from error
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError) as error:
        # PyYAML lets errors of Python's own through where a number or a date is none.
        raise AttnregError(f"{where}: expected YAML, got {' '.join(told(str(error), 300).split())}") from error
    except RecursionError as error:
        raise AttnregError(f"{where}: expected YAML, got lists nested too deeply") from error
    check_value(value, where, bounds)
    return value


def check_value(value: Any, where: str, bounds: Bounds = ORDINARY) -> None:
    """Checks a value of texts, numbers, lists and objects, as JSON tells it, against bounds.

    Raises:
        AttnregError: it is nested too deeply, holds too many values, a text that is too long or has NUL or half a
            character, a number that is none or too large, or something else (a date of YAML).
    """
    left = bounds.values
    waiting: list[tuple[Any, int]] = [(value, 0)]
    while waiting:
        one, depth = waiting.pop()
        left -= 1
        if left < 0 or depth > bounds.depth:
            reason = "too many values" if left < 0 else "lists nested too deeply"
            raise AttnregError(
                f"{where}: expected at most {bounds.values:,} values and {bounds.depth} levels, got {reason}"
            )
        if isinstance(one, dict):
            waiting.extend((part, depth + 1) for pair in one.items() for part in pair)
        elif isinstance(one, list | tuple):
            waiting.extend((part, depth + 1) for part in one)
        elif fault := _fault(one, bounds):
            raise AttnregError(f"{where}: {fault}")


def _fault(one: Any, bounds: Bounds) -> str:
    """What is wrong with a text or a number; empty if nothing is."""
    if isinstance(one, str):
        if len(one) > bounds.letters:
            return f"expected texts of at most {bounds.letters:,} letters, got {told(one, 60)}"
        if ("\0" in one and not bounds.nul) or _HALF.search(one):
            return f"expected text of whole characters, got {told(one, 60)}"
    elif isinstance(one, float):
        if not math.isfinite(one):
            return f"expected a finite number, got {one}"
    elif isinstance(one, int):
        if abs(one) > LARGEST:
            return f"expected a number of at most 18 digits, got {told(one, 60)}"
    elif one is not None:
        return f"expected texts and numbers, got {told(one, 60)} ({type(one).__name__}); put it in quotes"
    return ""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise AttnregError(f"{told(twice, 60)} twice; keep one of them")
    return made


def _no_number(name: str) -> Any:
    raise AttnregError(f"{name}, which is no number of JSON")
