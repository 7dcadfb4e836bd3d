"""Read a file that the user names, so that every fault is told with its file and line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnreg.errors import AttnregError
from attnreg.reading import ORDINARY, Bounds, check_value, json_of, text_of
from attnreg.shown import told
from attnreg.spreadsheet import restored

MOST_PROMPTS = 1_000_000
"""Lines or rows of a file."""


@dataclass(frozen=True)
class Place:
    """Where in which file something stands, for errors about it."""

    path: Path
    at: str = ""
    """ "line 3" or "entry 3"; empty for the file as a whole."""

    def fault(self, expected: str, got: object) -> AttnregError:
        """The error to raise: what was expected here, what came."""
        shown = str(got)
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        return AttnregError(f"{self}: expected {expected}, got {shown}")

    def __str__(self) -> str:
        return f"{self.path}{f', {self.at}' if self.at else ''}"

    def text(self, row: Any, *names: str) -> str:
        """The text of a field that must be there and not blank, by the first of its names that the row has."""
        if not isinstance(row, dict):
            raise self.fault(f"an object with the field {names[0]!r}", told(row))
        name = next((name for name in names if row.get(name) is not None), None)
        if name is None:
            raise self.fault(f"the field {' or '.join(map(repr, names))}", f"the fields {', '.join(map(str, row))}")
        if not isinstance(row[name], str) or not row[name].strip():
            raise self.fault(f"a text as {name!r}", told(row[name]))
        check_value(row[name], str(self))
        return str(row[name])

    def wants(self, fits: bool, expected: str, got: object) -> None:
        """Raises the fault unless it fits."""
        if not fits:
            raise self.fault(expected, told(got))


def content(path: Path, bounds: Bounds = ORDINARY) -> str:
    """The text of a file, UTF-8 with or without a byte-order mark. Raises `AttnregError` if there is none to read."""
    return text_of(path, "a file of prompts", bounds.bytes)


def lines(path: Path) -> Iterator[tuple[Place, str]]:
    """Every line that is not blank, without the white space around it. Raises `AttnregError` if there is none."""
    count = 0
    for number, line in enumerate(content(path).split("\n"), start=1):
        if line.strip():
            count += 1
            _check_count(path, count)
            yield Place(path, f"line {number}"), line.strip()
    if not count:
        raise Place(path).fault("at least one line", "none")


def texts(path: Path) -> Iterator[tuple[Place, str]]:
    """The lines of a file of which each is a prompt."""
    for place, line in lines(path):
        yield place, place.text({"prompt": line}, "prompt")


def json_lines(path: Path) -> Iterator[tuple[Place, Any]]:
    """The JSON value of every line that is not blank."""
    for place, line in lines(path):
        yield place, json_of(line, str(place))


def json_entries(path: Path, *keys: str, bounds: Bounds = ORDINARY) -> Iterator[tuple[Place, dict[str, Any]]]:
    """The objects of a JSON list, or of the list under a key of a JSON object (each key, one after the other)."""
    whole = json_of(content(path, bounds), str(path), bounds)
    for key in keys or [""]:
        if key and not (isinstance(whole, dict) and key in whole):
            raise Place(path).fault(f"an object with the key {key!r}", _kind(whole))
        listed = whole[key] if key else whole
        if not isinstance(listed, list):
            raise Place(path).fault("a list" + (f" as {key!r}" if key else ""), _kind(listed))
        for number, entry in enumerate(listed, start=1):
            at = Place(path, f"entry {number}" + (f" of {key!r}" if key else ""))
            at.wants(isinstance(entry, dict), "an object", entry)
            yield at, entry


def table(path: Path, delimiter: str = ",", *, quoted: bool = True) -> Iterator[tuple[Place, dict[str, str]]]:
    """The rows of a table with a header line, by lower-case column name; rows without any text are left out."""
    text = content(path)
    rows = io.StringIO(text, newline="")  # only \n and \r end a line; str.splitlines would also break at a form feed
    if quoted:
        reader = csv.reader(rows, delimiter=delimiter, strict=True)
    else:
        reader = csv.reader(rows, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    header: list[str] | None = None
    begins, count = 1, 0
    try:
        for row in reader:
            place = Place(path, f"line {begins}")
            begins = reader.line_num + 1
            if not any(cell.strip() for cell in row):
                continue
            if header is None:
                header = [cell.strip().lower() for cell in row]
                place.wants(len(set(header)) == len(header), "a header whose columns differ", row)
                continue
            if len(row) != len(header):
                raise place.fault(f"{len(header)} cells, as in the header", len(row))
            count += 1
            _check_count(path, count)
            check_value(row, str(place), Bounds(letters=csv.field_size_limit()))
            yield place, dict(zip(header, map(restored, row) if quoted else row, strict=True))
    except csv.Error as error:
        raise Place(path, f"line {begins}").fault("a table with its quotes closed", error) from error
    if header is None:
        raise Place(path).fault("a header line with the names of the columns", "an empty file")


def _check_count(path: Path, count: int) -> None:
    if count > MOST_PROMPTS:
        raise Place(path).fault(f"at most {MOST_PROMPTS:,} prompts", "more")


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return f"an object with the keys {', '.join(map(repr, value)) or 'none'}"
    return "a list" if isinstance(value, list) else told(value)
