"""How often the things found in a prompt are exactly those that a person names: `python -m benchmarks.targets`.

Reads lists of prompts (`prompt<TAB>head|head`, as in `tests/data`), finds the heads with each parser that is
installed, and prints the share that is exactly right, the failures, and the time a prompt.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attnreg.phrases import find, taggers

LISTS = Path(__file__).parents[1] / "tests" / "data"


def listed(path: Path) -> list[tuple[str, tuple[str, ...]]]:
    """The prompts of a list, each with the heads that a person named, sorted."""
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    return [(prompt, tuple(sorted(filter(None, heads.split("|"))))) for prompt, heads in rows]


def heads(prompt: str) -> tuple[str, ...]:
    """The head nouns that are found, in lower case, sorted."""
    return tuple(sorted(phrase.nouns[-1].text.lower() for phrase in find.find_phrases(prompt)))


@contextmanager
def parser(name: str) -> Iterator[None]:
    """Finds phrases with spaCy ("spacy") or as if it were not installed ("lexicon")."""
    original = taggers.spacy_english
    find.read.cache_clear()
    if name == "lexicon":
        taggers.spacy_english = lambda: None  # type: ignore[assignment]
    try:
        yield
    finally:
        taggers.spacy_english = original
        find.read.cache_clear()


def main(paths: list[str]) -> None:
    """Prints the score of each parser on each list, and the failures."""
    files = [Path(path) for path in paths] or sorted(LISTS.glob("*.tsv"))
    parsers = ["lexicon", *(["spacy"] if taggers.spacy_model() else [])]
    for name in parsers:
        with parser(name):
            heads("a cat")  # loads
            for path in files:
                rows = listed(path)
                began = time.perf_counter()
                found = [heads(prompt) for prompt, _ in rows]
                pace = (time.perf_counter() - began) / len(rows) * 1000
                wrong = [(row, got) for row, got in zip(rows, found, strict=True) if row[1] != got]
                right = len(rows) - len(wrong)
                print(f"{name}: {path.name}: {right} of {len(rows)} = {right / len(rows):.1%}, {pace:.1f} ms a prompt")
                for (prompt, wanted), got in wrong:
                    print(f"  {prompt}\n    wanted {'|'.join(wanted)}\n    found  {'|'.join(got)}")


if __name__ == "__main__":
    main(sys.argv[1:])
