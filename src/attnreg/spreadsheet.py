"""CSV as a spreadsheet may open it: no text is taken for a formula.

A text that begins with =, +, -, @, a tab or a carriage return is written with an apostrophe before it, and so is one
that already begins with an apostrophe and such a sign; reading takes it off again. Numbers stay numbers.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")


def escaped(cell: object) -> object:
    """A cell as it is written."""
    if isinstance(cell, str) and _FORMULA.match(cell) and not _NUMBER.fullmatch(cell):
        return f"'{cell}"
    return cell


def restored(cell: str) -> str:
    """A cell as it was before it was written."""
    return cell[1:] if cell[:1] == "'" and _FORMULA.match(cell) else cell


def csv_of(heads: Sequence[str], rows: Iterable[Sequence[object]], *, quote_all: bool = False) -> str:
    """A table as comma-separated text, with its head; nothing is written for `None`."""
    out = io.StringIO(newline="")
    plain = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
    careful = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in (heads, *rows):
        # Python leaves a carriage return without quotes, and would read it as the end of the row.
        returns = any(isinstance(cell, str) and "\r" in cell for cell in row)
        (careful if quote_all or returns else plain).writerow([escaped(cell) for cell in row])
    return out.getvalue()
