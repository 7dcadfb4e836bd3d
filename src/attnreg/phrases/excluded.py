"""What a prompt says shall not be there: "without a hat", "no leash", "rather than a zebra", "not wearing a hat".

A diffusion model hears the hat all the same; a target must not make it louder.
"""

from __future__ import annotations

from collections.abc import Sequence

from attnreg.phrases.closed import word_set

_NEGATORS = word_set(
    """without no not never neither nor isn't aren't wasn't weren't hasn't haven't hadn't doesn't don't didn't can't
    cannot won't isnt arent doesnt dont lacking lacks excluding minus except sans omitting missing"""
)
_PAIRS = {
    ("rather", "than"), ("instead", "of"), ("free", "of"), ("free", "from"), ("devoid", "of"), ("absence", "of"),
    ("lack", "of"), ("other", "than"), ("apart", "from"), ("empty", "of"), ("bare", "of"), ("stripped", "of"),
}  # fmt: skip
_NOT_EXCLUDING = {
    ("not", "only"),
    ("not", "just"),
    ("no", "longer"),
    ("no", "one"),
    ("nothing", "but"),
    ("no", "doubt"),
}
_STARTS_AGAIN = word_set("but while then just instead whereas although though yet only except")


def excluded_places(texts: Sequence[str], letters: str) -> frozenset[int]:
    """The places of the words that a negation covers.

    It reaches over its verb and the noun phrases of its list, and ends at punctuation, "but", a new preposition after
    a noun ("no vehicles on the street") or "and" before an article ("without a hat and a dog").
    """
    covered: set[int] = set()
    i = 0
    while i < len(texts):
        length = _negation(texts, i)
        if not length:
            i += 1
            continue
        i = _reach(texts, letters, i, i + length, covered)
    return frozenset(covered)


def _negation(texts: Sequence[str], i: int) -> int:
    """How many words of a negation begin here."""
    pair = tuple(texts[i : i + 2])
    if pair in _NOT_EXCLUDING:
        return 0
    if pair in _PAIRS:
        return 2
    return int(texts[i] in _NEGATORS)


def _reach(texts: Sequence[str], letters: str, start: int, i: int, covered: set[int]) -> int:
    """Add the places that the negation from `start` on covers; the place where it ends."""
    nouns = False
    while i < len(texts):
        text, letter = texts[i], letters[i]
        if text in _STARTS_AGAIN and (nouns or text != "only"):
            return i + 1  # "no furniture except a piano", "no scarf but a hat": what follows is there
        if _negation(texts, i) and text not in ("nor",):
            return i
        if letter == "," or (text in ("who", "which", "that", "while", "where") and nouns):
            return i
        if nouns and letter in "PW" and text not in ("of", "or"):
            return i
        if nouns and text == "and" and letters[i + 1 : i + 2] in ("A", "D") and texts[start] != "neither":
            return i
        if nouns and letter in "GVX" and text not in ("or", "nor"):
            return i
        nouns = nouns or letter in "NS"
        covered.add(i)
        i += 1
    return i
