"""Settings that explain and check themselves: a dataclass field with a help text and a test of its value.

A check takes the setting's name and what came; it returns the value in its proper type or raises `AttnregError` saying
what was expected, what came and what to do.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from attnreg.shown import told
from attnreg.types import AttnregError

_PATTERN = re.compile(r"[\w.\-*?\[\]!]{1,200}")
MOST_PATTERNS = 100
MOST = 1e18
"""Nothing here is counted in larger numbers."""
Check = Callable[[str, object], object]


def setting(default: object, check: Check, help: str) -> Any:
    """A dataclass field that explains and checks itself.

    Args:
        default: its value where none is given.
        check: takes the field's name and what came; returns the value in its proper type, or raises `AttnregError`.
        help: what it means, in one line, for the command line and the reference.

    Returns:
        The field.
    """
    return field(default=default, metadata={"help": help, "check": check})


def check_settings(config: Any) -> None:
    """Checks every field of the frozen dataclass `config` made by `setting`; to be called in its `__post_init__`."""
    for one in fields(config):
        if "check" in one.metadata:
            object.__setattr__(config, one.name, one.metadata["check"](one.name, getattr(config, one.name)))


def number(low: float = -math.inf, high: float = math.inf, *, above_low: bool = False) -> Check:
    """Accepts finite numbers; `True` and `False` are none.

    Args:
        low: the least.
        high: the largest.
        above_low: whether the least itself is refused.

    Returns:
        A check for `setting`.
    """
    span = f"{'above' if above_low else 'of at least'} {low:g}" + ("" if math.isinf(high) else f" and at most {high:g}")

    def check(name: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise AttnregError(
                f"{name}: expected a number {span}, got {told(value)} ({type(value).__name__}); give one"
            )
        if not -MOST <= value <= MOST or not low <= value <= high or (above_low and value == low):
            raise AttnregError(f"{name}: expected a finite number {span}, got {told(value)}; choose one in that range")
        return float(value)

    return check


def whole_number(low: int, high: int) -> Check:
    """Accepts integers; 20.0 is refused, since 20.5 would have to be.

    Args:
        low: the least.
        high: the largest.

    Returns:
        A check for `setting`.
    """

    def check(name: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            kind = type(value).__name__
            raise AttnregError(f"{name}: expected a whole number, got {told(value)} ({kind}); write it without a point")
        if not low <= value <= high:
            raise AttnregError(
                f"{name}: expected a whole number from {low} to {high}, got {told(value)}; choose one there"
            )
        return value

    return check


def yes_or_no(name: str, value: object) -> bool:
    """A check for `setting` that accepts `True` and `False`.

    Args:
        name: the setting's.
        value: what came.

    Returns:
        The value.

    Raises:
        AttnregError: it is something else.
    """
    if not isinstance(value, bool):
        raise AttnregError(
            f"{name}: expected true or false, got {told(value)} ({type(value).__name__}); write one of them"
        )
    return value


def numbers(low: float = -math.inf, high: float = math.inf) -> Check:
    """Accepts a sequence of finite numbers, or none at all.

    Args:
        low: the least that each may be.
        high: the largest.

    Returns:
        A check for `setting`.
    """
    one = number(low, high)

    def check(name: str, value: object) -> tuple[float, ...]:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise AttnregError(f"{name}: expected several numbers, got {told(value)}; write for example (0.05, 0.5)")
        for part in value:
            one(name, part)
        return tuple(map(float, value))

    return check


def window_of_steps(name: str, value: object) -> tuple[float, float]:
    """Accepts `(start, end)`, fractions of the denoising steps with `0 <= start <= end <= 1`."""
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        raise AttnregError(
            f"{name}: expected two fractions (start, end), got {told(value)}; write for example (0.0, 0.5)"
        )
    fraction = number(0.0, 1.0)
    for part in value:
        fraction(name, part)
    if value[0] > value[1]:
        raise AttnregError(f"{name}: expected start <= end, got {told(value)}; swap the two")
    return float(value[0]), float(value[1])


def layer_patterns(name: str, value: object) -> tuple[str, ...]:
    """Accepts one or more names of layers, in which `*`, `?` and `[...]` stand for letters, as in a shell.

    Regular expressions are refused: whoever sends a picture whose recipe holds one could let it search for ever.
    """
    if isinstance(value, str) or not isinstance(value, Sequence) or not value or len(value) > MOST_PATTERNS:
        raise AttnregError(
            f'{name}: expected a tuple of names, one to {MOST_PATTERNS}, got {told(value)}; write for example ("auto",)'
        )
    for pattern in value:
        if not isinstance(pattern, str) or not _PATTERN.fullmatch(pattern):
            raise AttnregError(
                f"{name}: expected names of layers in which *, ? and [...] may stand for letters, got {told(pattern)}; "
                "write for example up_blocks.1 or up_blocks.*.attentions.0, with no signs of regular expressions"
            )
    return tuple(value)


def in_window(start: float, end: float) -> Any:
    """The setting of the steps in which an edit acts.

    Args:
        start: its default beginning, a fraction of the steps.
        end: its default end.

    Returns:
        The field.
    """
    help = "regulate from the first to the second fraction of the steps, half-open"
    return setting((start, end), window_of_steps, help)


def in_layers(pattern: str) -> Any:
    """The setting of the layers in which an edit acts.

    Args:
        pattern: its default: a name or pattern, "auto" or "all".

    Returns:
        The field.
    """
    help = "layers by name, such as up_blocks.1 or up_blocks.*; auto: the model family's own choice, all: every one"
    return setting((pattern,), layer_patterns, help)


class CheckedSettings:
    """A dataclass whose fields check themselves. A value out of its range raises `AttnregError`."""

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class GatedSettings(CheckedSettings):
    """What nearly every edit can be told: how strongly and when."""

    strength: float = setting(1.0, number(0.0), "factor of the edit; 0 draws the unmodified picture")
    window: tuple[float, float] = in_window(0.0, 0.5)


@dataclass(frozen=True, kw_only=True)
class EditSettings(GatedSettings):
    """What every edit of attention can be told: how strongly, when and where. A value out of range: `AttnregError`."""

    layers: tuple[str, ...] = in_layers("auto")


def padding_competes() -> Any:
    """The setting of a method of the latents that says whether padding takes part in the softmax over words.

    Returns:
        The field.
    """
    help = "whether end-of-text and padding compete with the words in the maps; in transformers they never do"
    return setting(True, yes_or_no, help)
