"""How a method with settings is written: "attention-regulation(strength=0.5)", "syngen+attention-regulation"."""

from __future__ import annotations

import ast
import re
from dataclasses import fields, is_dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from attnreg.errors import AttnregError
from attnreg.limits import MOST_NAMES
from attnreg.shown import told

LONGEST = 2_000
"""Letters of a method with all its settings."""


class Spelled(NamedTuple):
    """One part of a method as it is written."""

    name: str
    settings: dict[str, Any]


def read_method(text: str) -> list[Spelled]:
    """The parts of a method, joined by "+", each a name with settings in parentheses if it has any.

    Values are written as in Python; a bare word is a text: "layers=(auto,)", "strength=0.5". Nothing is evaluated.

    Raises `AttnregError` if it is written otherwise.
    """
    if len(text) > LONGEST:
        raise _misspelt(text)
    parts, rest = [], text.strip()
    while True:
        found = re.match(r"[A-Za-z0-9][\w:.-]*", rest)
        if not found:
            raise _misspelt(text)
        rest = rest[found.end() :].lstrip()
        settings: dict[str, Any] = {}
        if rest.startswith("("):
            settings, rest = _settings(rest, text)
        parts.append(Spelled(found[0], settings))
        if not rest:
            return parts
        if not rest.startswith("+"):
            raise _misspelt(text)
        rest = rest[1:].lstrip()


def split_methods(text: str) -> list[str]:
    """Several methods in one text, separated by commas: those inside parentheses separate nothing.

    Raises `AttnregError` for more than `MOST_NAMES`.
    """
    ends, depth = [-1], 0
    for found in re.finditer(r"[(),]", text):
        if found[0] != ",":
            depth += 1 if found[0] == "(" else -1
        elif depth <= 0:
            ends.append(found.start())
    parts = [text[start + 1 : end].strip() for start, end in pairwise([*ends, len(text)])]
    named = [part for part in parts if part]
    if len(named) > MOST_NAMES:
        raise AttnregError(f"methods: expected at most {MOST_NAMES:,}, got {len(named):,}; name fewer")
    return named


def write_method(parts: list[Spelled]) -> str:
    """The one way to write a method: what `read_method` reads, without blanks but after commas."""
    return "+".join(
        part.name
        + (f"({', '.join(f'{name}={value!r}' for name, value in part.settings.items())})" if part.settings else "")
        for part in parts
    )


def tidy(text: str) -> str:
    """A method in the one way to write it, settings in the order of its config and without those at their defaults.

    Raises `AttnregError` for a method that there is not, or a setting or value that it does not take.
    """
    from attnreg.sampling import configure

    parts = []
    for part in read_method(text):
        edit, plain = configure(part.name, part.settings), configure(part.name)
        settings = dict(part.settings)
        if edit is not None and is_dataclass(edit):
            settings = {
                one.name: getattr(edit, one.name)
                for one in fields(edit)
                if one.name in part.settings and getattr(edit, one.name) != getattr(plain, one.name)
            }
        parts.append(Spelled(part.name, settings))
    edit_of(text)
    return write_method(parts)


def edit_of(text: str) -> Any:
    """What a method as it is written does to a model: as `attnreg.sampling.configure`, each part with its own settings.

    Raises `AttnregError` for a method or setting that there is not, and for parts that do not go together.
    """
    from attnreg.attention.calls.edits import edits_of
    from attnreg.regulation.kinds import Composed
    from attnreg.sampling import configure

    edits = [edit for part in read_method(text) if (edit := configure(part.name, part.settings)) is not None]
    if len(edits) < 2:
        return edits[0] if edits else None
    composed = Composed(tuple(edits))
    edits_of(composed)
    return composed


def _settings(rest: str, text: str) -> tuple[dict[str, Any], str]:
    """The settings in the parentheses with which `rest` begins, and what stands after them."""
    for end in (index for index, sign in enumerate(rest, start=1) if sign == ")"):
        try:  # the first closing one that leaves a whole expression: others are inside tuples or texts
            call = ast.parse(f"method{rest[:end]}", mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last two: parentheses without end
            continue
        if not isinstance(call, ast.Call) or call.args or any(keyword.arg is None for keyword in call.keywords):
            break
        names = [str(keyword.arg) for keyword in call.keywords]
        if twice := [name for name in names if names.count(name) > 1]:
            raise AttnregError(f"expected every setting once, got {twice[0]} twice in {told(text)}; keep one of them")
        return {str(keyword.arg): _value(keyword.value, text) for keyword in call.keywords}, rest[end:].lstrip()
    raise _misspelt(text)


def _value(node: ast.expr, text: str) -> Any:
    if isinstance(node, ast.Name):
        return {"true": True, "false": False}.get(node.id, node.id)
    if isinstance(node, ast.Tuple | ast.List):
        return tuple(_value(one, text) for one in node.elts)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError):
        raise _misspelt(text) from None


def _misspelt(text: str) -> AttnregError:
    return AttnregError(
        f"expected a method such as attention-regulation, attention-regulation(strength=0.5) or a+b, got {told(text)}; "
        "write it so"
    )
