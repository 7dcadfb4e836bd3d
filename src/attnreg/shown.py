"""Text from outside as it may be shown: it commands no terminal, can always be written, and is no longer than told."""

from __future__ import annotations

import re

_UNSHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but for tab and line feed; those that turn the direction of writing; halves of a character."""
MOST = 200
"""Letters of a value in an error."""


def visible(text: str) -> str:
    r"""The text with everything that a terminal might obey spelled out: an escape becomes `\x1b`."""
    return _UNSHOWN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def cut(text: str, most: int = MOST) -> str:
    """The text, or of a longer one its beginning, how much is left out, and its end: at most about `most` letters."""
    if len(text) <= most:
        return text
    end = most // 3
    return f"{text[: most - end]} ... ({len(text) - most:,} letters more) ... {text[-end:]}"


def told(value: object, most: int = MOST) -> str:
    """A value as Python writes it, for an error: whatever it is, this gives a text of bounded length."""
    try:
        return cut(visible(repr(value)), most)
    except (ValueError, RecursionError, MemoryError):  # a number of thousands of digits, a list inside of itself
        return f"{type(value).__name__} that is too large to be written"
