"""Which add-on works beside a regulation, as Markdown, by the ids of the tests: `python -m benchmarks.add_ons`.

Nothing is listed by hand: a test `...[ADD-ON-MODEL]` whose name says that it is regulated makes a "yes", one whose name
says that it is refused a "refused", one that there is none a "none". A cell without a test is empty.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1] / "tests" / "attention"
MODULES = ("test_add_ons.py", "test_embeddings_beside.py", "test_missing_add_ons.py")
COLUMNS = {"UNet": "UNet", "cross-attention": "PixArt", "joint attention": "FLUX"}
"""As the table names them -> as the ids name the model that stands for the kind."""
MODELS = {model: kind for kind, model in COLUMNS.items()} | {"Sana": "cross-attention"}
SAYS = {"test_it_is_regulated": "yes", "test_it_is_refused": "refused", "test_there_is_none": "none"}
"""What the name of a test begins with -> what the table says."""


def table(ids: Iterable[str]) -> str:
    """A row an add-on, in the order of the tests; a column a model."""
    found: dict[str, dict[str, str]] = {}
    for one in ids:
        read = re.fullmatch(rf".*::(?P<test>\w+)\[(?P<name>.+)-(?P<model>{'|'.join(MODELS)})\]", one)
        says = [word for start, word in SAYS.items() if read and read["test"].startswith(start)]
        if read and says:
            kind = MODELS[read["model"]]
            other = "" if COLUMNS[kind] == read["model"] else f" ({read['model']})"
            found.setdefault(read["name"], {})[kind] = says[0] + other
    named = [kind if kind == model else f"{kind} ({model})" for kind, model in COLUMNS.items()]
    rows = [["add-on", *named], ["---", *(":---:" for _ in named)]]
    rows += [[name, *(cells.get(kind, "") for kind in COLUMNS)] for name, cells in found.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def collected() -> list[str]:
    """The ids of the tests there are."""
    import pytest

    class Noted:
        ids: list[str]

        def pytest_collection_finish(self, session: Any) -> None:
            self.ids = [item.nodeid for item in session.items]

    noted = Noted()
    pytest.main(["--collect-only", "-qq", "--no-summary", *(str(TESTS / name) for name in MODULES)], plugins=[noted])
    return noted.ids


if __name__ == "__main__":
    made = table(collected())
    print(f"\n{made}")
