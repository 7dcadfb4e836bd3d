"""The fields of the form: what reads each of them, from texts as fields have them or from values of JSON."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from attnreg.app import bounds
from attnreg.errors import AttnregError
from attnreg.limits import MOST_GUIDANCE
from attnreg.methods import DEFAULT
from attnreg.models.load import SCHEDULERS
from attnreg.sampling import configure
from attnreg.seeds import seeds_of
from attnreg.shown import told


def _prompt(value: Any) -> str:
    text = _text(value, bounds.MOST_LETTERS)
    if not text.strip():
        raise AttnregError("expected a prompt, got nothing; write what the picture should show")
    return text


def _text(value: Any, most: int) -> str:
    if value is not None and not isinstance(value, str):
        raise AttnregError(f"expected a text, got {told(value, 60)}")
    text = value or ""
    if len(text) > most:
        raise AttnregError(f"expected at most {most:,} characters, got {len(text):,}; shorten it")
    return text


def _negative(value: Any) -> str | None:
    return _text(value, bounds.MOST_LETTERS) or None


def _targets(value: Any) -> list[str] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise AttnregError(f"expected a list of words, got {told(value, 60)}")
    if not value:
        raise AttnregError(
            "expected at least one word that is switched on, got none; switch one on, or choose the method none"
        )
    if len(value) > bounds.MOST_TARGETS:
        raise AttnregError(f"expected at most {bounds.MOST_TARGETS} words, got {len(value)}; switch some off")
    return [_text(one, bounds.MOST_LETTERS_OF_TARGET) for one in value]


def _yes_or_no(value: Any) -> bool:
    if value is not None and not isinstance(value, bool):
        raise AttnregError(f"expected true or false, got {told(value, 60)}")
    return True if value is None else value


def _method(value: Any) -> str:
    method = _text(value, 400) or DEFAULT
    configure(method)
    return method


def _settings(value: Any) -> dict[str, str]:
    """Texts by name; what is empty is left to the default."""
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise AttnregError(f"expected settings as texts, got {told(value, 60)}")
    return {name: _text(text, 2_000) for name, text in value.items() if text.strip()}


def _seeds(value: Any) -> tuple[int, ...]:
    seeds = seeds_of("0" if value in (None, "") else value)
    if len(seeds) > bounds.MOST_SEEDS:
        raise AttnregError(
            f"expected at most {bounds.MOST_SEEDS} seeds at once, got {len(seeds):,}; draw them in several drawings"
        )
    return seeds


def _whole(least: int, most: int, multiple: int = 1) -> Callable[[Any], int | None]:
    def read(value: Any) -> int | None:
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        number = int(value) if isinstance(value, str) and re.fullmatch(r"\s*\d{1,9}\s*", value, re.ASCII) else value
        of = f" that is a multiple of {multiple}" if multiple > 1 else ""
        if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most or number % multiple:
            raise AttnregError(f"expected a whole number from {least} to {most}{of}, got {told(value, 60)}")
        return number

    return read


def _guidance(value: Any) -> float | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    number = value
    if isinstance(value, str) and re.fullmatch(r"\s*\d{0,9}(\.\d{0,9})?\s*", value, re.ASCII) and value.strip() != ".":
        number = float(value)
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= MOST_GUIDANCE:
        raise AttnregError(
            f"expected a number from 0 to {MOST_GUIDANCE:,.0f}, got {told(value, 60)}; 1 turns guidance off"
        )
    return float(number)


def _scheduler(value: Any) -> str | None:
    name = _text(value, 40) or None
    if name is not None and name not in SCHEDULERS:
        raise AttnregError(f"expected a scheduler of {', '.join(SCHEDULERS)}, got {told(name, 60)}")
    return name


_SIDE = _whole(bounds.LEAST_SIDE, bounds.MOST_SIDE, 8)
FIELDS: dict[str, Callable[[Any], Any]] = {
    "prompt": _prompt,
    "targets": _targets,
    "adjectives": _yes_or_no,
    "method": _method,
    "settings": _settings,
    "seeds": _seeds,
    "steps": _whole(1, bounds.MOST_STEPS),
    "guidance_scale": _guidance,
    "negative_prompt": _negative,
    "height": _SIDE,
    "width": _SIDE,
    "scheduler": _scheduler,
}
"""Field of the form -> what reads it; beside these there are "model" and "page", which page it is."""
