"""Which method works on which model family, as Markdown: `python -m benchmarks.families`.

Nothing is listed by hand. A method's config tells the parts of a model that it edits, a family's adapter tells those
that can be edited there, and the line of the library that refuses the others is asked.
"""

from __future__ import annotations

from attnreg.attention.families import FAMILIES
from attnreg.catalogue import works
from attnreg.methods import METHODS

WORKS, REFUSED = "yes", "–"


def table() -> str:
    """A row a family; a column for all methods that work on the same families."""
    columns: dict[tuple[str, ...], list[str]] = {}
    for method in METHODS:
        cells = tuple(WORKS if works(method, family) else REFUSED for family in FAMILIES)
        columns.setdefault(cells, []).append(f"`{method}`")
    rows = [["family", *map(", ".join, columns.values())], ["---", *(":---:" for _ in columns)]]
    rows += [[family.name, *cells] for family, *cells in zip(FAMILIES, *columns, strict=True)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    print(table())
