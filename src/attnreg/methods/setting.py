"""One setting of a method as a person reads and writes it: "gain=3.0", "window=0,0.5", "layers=mid_block"."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from attnreg.errors import AttnregError

TRUTHS = {"true": True, "false": False}


@dataclass(frozen=True)
class Setting:
    """A field of a method's dataclass."""

    name: str
    kind: Any
    """Its type, as the dataclass annotates it."""
    default: Any
    help: str

    @property
    def written(self) -> str:
        """The default as `read` takes it: "3.0", "0.0,0.5"."""
        return written(self.default)

    def read(self, text: str) -> Any:
        """The value that a text stands for: "0.5", "true", "0,0.5", "mid_block,up_blocks.1".

        Several values are separated by commas; in brackets they are written as in Python, where they hold commas of
        their own. Raises `AttnregError` if the text is of another type; ranges are the dataclass's to check.
        """
        try:
            return _read(text.strip(), self.kind)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
            raise AttnregError(
                f"{self.name}: expected {_called(self.kind)}, got {text!r}; write it as in {self.name}={self.written}"
            ) from error


def written(value: Any) -> str:
    """A setting's value as `Setting.read` takes it: True is "true", (0.0, 0.5) is "0.0,0.5". Lists count as tuples."""
    value = _as_tuple(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        plain = value and not any(isinstance(one, tuple) or "," in str(one) for one in value)
        return ",".join(map(written, value)) if plain else repr(value)
    return str(value)


def _read(text: str, kind: Any) -> Any:
    """A text as a value of a type. What Python raises, if it is none."""
    if get_origin(kind) is tuple:
        if text.startswith(("(", "[")):
            return _as_tuple(ast.literal_eval(text))
        inner = get_args(kind)
        parts = [part.strip() for part in text.split(",")] if text else []
        if inner[-1] is not Ellipsis and len(parts) != len(inner):
            raise ValueError(f"expected {len(inner)} values")
        return tuple(_read(part, inner[0]) for part in parts)
    if kind is bool:
        if text.lower() not in TRUTHS:
            raise ValueError(text)
        return TRUTHS[text.lower()]
    if kind in (int, float, str):
        return kind(text)
    return ast.literal_eval(text)


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list | tuple) else value


def _called(kind: Any) -> str:
    """A type in words."""
    if get_origin(kind) is tuple:
        inner = get_args(kind)
        of = "values in brackets" if get_origin(inner[0]) else f"{_called(inner[0]).split(' ', 1)[1]}s"
        return f"{'' if inner[-1] is Ellipsis else f'{len(inner)} '}{of} separated by commas"
    return {float: "a number", int: "a whole number", bool: "true or false", str: "a text"}.get(kind, "a value")
