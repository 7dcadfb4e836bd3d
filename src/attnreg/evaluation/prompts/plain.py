"""Prompts in plain files: text, CSV, TSV, JSON lines or JSON, read and written with all that is known of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from attnreg.errors import AttnregError
from attnreg.evaluation.prompts.option_lines import MARK, texts_of
from attnreg.evaluation.prompts.reading import Place, json_entries, json_lines, table, texts
from attnreg.measure.asked import Prompt, Relation, Thing
from attnreg.reading import check_value, json_of
from attnreg.shown import told
from attnreg.spreadsheet import csv_of
from attnreg.writing import write_file

KNOWN = ("things", "relations", "questions", "choices", "parents")
"""What besides text and category can be known of a prompt; in a table each is a column of JSON, or empty."""
TEXT = ("prompt", "text", "caption")
"""What the field or column of the prompt itself may be called."""


def read_text(path: Path) -> tuple[Prompt, ...]:
    """One prompt a line, alone or among options (`option_lines`); blank lines are left out. Nothing else is known."""
    return tuple(Prompt(text) for text in texts_of(texts(path)))


def read_table(path: Path) -> tuple[Prompt, ...]:
    """One prompt a row of a table with a header: a column "prompt" (or "text", "caption").

    There may be columns "category" and those of `KNOWN`; others are not read. Raises `AttnregError` with file and line.
    """
    made = []
    for place, row in table(path, "\t" if path.suffix.lower() == ".tsv" else ","):
        known = {}
        for name in KNOWN:
            if row.get(name, "").strip():
                known[name] = json_of(row[name], f"{place}, column {name!r}")
        text = place.text(row, *TEXT)
        made.append(_prompt(place, {**known, "prompt": text, "category": row.get("category", "")}))
    return _some(path, made)


def read_json(path: Path) -> tuple[Prompt, ...]:
    """One prompt a line (.jsonl) or an entry of a list (.json): a text, or an object with "prompt" and what is known.

    {"prompt": "a red car and two dogs", "category": "...", "things": [{"noun": "car", "colour": "red"},
    {"noun": "dog", "count": 2}], "relations": [{"first": 0, "where": "left of", "second": 1}],
    "questions": [["is there a car?", "yes"]]}. Other fields are not read. Raises `AttnregError` with file and line.
    """
    rows = json_lines(path) if path.suffix.lower() == ".jsonl" else json_entries(path)
    return _some(path, [_prompt(place, {"prompt": row} if isinstance(row, str) else row) for place, row in rows])


def _some(path: Path, made: list[Prompt]) -> tuple[Prompt, ...]:
    if not made:
        raise Place(path).fault("at least one prompt", "none")
    return tuple(made)


def _prompt(place: Place, row: Any) -> Prompt:
    text = place.text(row, *TEXT)
    if "include" in row and "tag" in row:
        raise place.fault("prompts in the package's own fields", f"GenEval's; write geneval:{place.path}")
    things = tuple(_thing(place, one) for one in _list(place, row, "things"))
    relations = tuple(_relation(place, one, len(things)) for one in _list(place, row, "relations"))
    questions = [tuple(one) if isinstance(one, list) else one for one in _list(place, row, "questions")]
    for one in questions:
        fits = isinstance(one, tuple) and len(one) == 2 and all(isinstance(part, str) for part in one)
        place.wants(fits, "a pair of question and answer", one)
    extra = {}
    for name, inner in (("choices", str), ("parents", int)):
        listed = _list(place, row, name)
        fits = all(isinstance(one, list) and all(isinstance(part, inner) for part in one) for one in listed)
        place.wants(fits, f"a list of lists as {name!r}", listed)
        place.wants(len(listed) in (0, len(questions)), f"as many {name} as questions ({len(questions)})", len(listed))
        extra[name] = tuple(map(tuple, listed))
    place.wants(all(0 <= i < len(questions) for one in extra["parents"] for i in one), "parents that exist", listed)
    category = row.get("category") or ""
    place.wants(isinstance(category, str), "a text as 'category'", category)
    return Prompt(text, things, relations, category, tuple(questions), **extra)


def _list(place: Place, row: dict[str, Any], name: str) -> list[Any]:
    listed = row.get(name)
    place.wants(listed is None or isinstance(listed, list), f"a list as {name!r}", listed)
    return listed or []


def _thing(place: Place, told: Any) -> Thing:
    told = {"noun": told} if isinstance(told, str) else told
    noun = place.text(told, "noun")
    unknown = set(told) - {"noun", "colour", "attributes", "count"}
    place.wants(not unknown, "a thing of noun, colour, attributes and count", ", ".join(sorted(map(str, unknown))))
    colour, attributes, count = told.get("colour"), told.get("attributes") or [], told.get("count", 1)
    place.wants(colour is None or isinstance(colour, str), "a text as 'colour'", colour)
    fits = isinstance(attributes, list) and all(isinstance(one, str) for one in attributes)
    place.wants(fits, "a list of texts as 'attributes'", attributes)
    place.wants(type(count) is int and count > 0, "a whole number above 0 as 'count'", count)
    return Thing(noun, colour or None, tuple(attributes), count)


def _relation(place: Place, told: Any, things: int) -> Relation:
    where = place.text(told, "where")
    ends = told.get("first"), told.get("second")
    fits = all(type(end) is int and 0 <= end < things for end in ends) and ends[0] != ends[1]
    place.wants(fits, f"two different indices of the {things} things as 'first' and 'second'", ends)
    return Relation(ends[0], where, ends[1])


def write(prompts: Sequence[Prompt], path: Path) -> None:
    """Write prompts so that reading the file gives them back; the format is the suffix: .txt, .csv, .jsonl.

    A .txt holds the texts alone. Raises `AttnregError` for another suffix, for a text that a line cannot hold, and if
    the file cannot be written.
    """
    formats: dict[str, Callable[[Sequence[Prompt]], str]] = {".txt": _text, ".csv": _table, ".jsonl": _json}
    if path.suffix.lower() not in formats:
        raise AttnregError(f"expected a file name that ends in {', '.join(formats)}, got {path}; choose one of them")
    for prompt in prompts:
        check_value(list(asdict(prompt).values()), told(prompt.text, 60))
    write_file(path, formats[path.suffix.lower()](prompts))


def _text(prompts: Sequence[Prompt]) -> str:
    for prompt in prompts:
        if prompt.text != prompt.text.strip() or "\n" in prompt.text or prompt.text[:1] in ("", "\ufeff"):
            raise AttnregError(f"expected prompts that are one line, got {prompt.text!r}; write .csv or .jsonl")
        if prompt.text.startswith(MARK):
            raise AttnregError(
                f"expected prompts that do not look like options, got {prompt.text!r}; write .csv or .jsonl"
            )
    return "".join(f"{prompt.text}\n" for prompt in prompts)


def _table(prompts: Sequence[Prompt]) -> str:
    rows = [_row(prompt) for prompt in prompts]
    filled = [name for name in KNOWN if any(row.get(name) for row in rows)]
    cells = [
        [
            row["prompt"],
            row.get("category", ""),
            *(json.dumps(row[name], ensure_ascii=False) if name in row else "" for name in filled),
        ]
        for row in rows
    ]
    return csv_of(["prompt", "category", *filled], cells, quote_all=True)


def _json(prompts: Sequence[Prompt]) -> str:
    return "".join(f"{json.dumps(_row(prompt), ensure_ascii=False)}\n" for prompt in prompts)


def _row(prompt: Prompt) -> dict[str, Any]:
    """The fields that are not empty, the text first; of a thing, what is not the default."""
    fields = asdict(prompt)
    defaults = asdict(Thing(""))
    fields["things"] = [
        {key: value for key, value in one.items() if key == "noun" or value != defaults[key]}
        for one in fields["things"]
    ]
    return {"prompt": fields.pop("text"), **{key: value for key, value in fields.items() if value}}
