"""Which letters a word can have, before it is asked where it stands (see `letters` for what they mean)."""

from __future__ import annotations

from attnreg.phrases import closed
from attnreg.phrases.lexicon import entry, plural_of, verb_of

_CLOSED = {"a": "A", "an": "A", "with": "W", "without": "W", "and": "C", "or": "C", "&": "C"}
_ADJECTIVAL = (
    "ed", "ful", "ous", "less", "ish", "like", "ing", "able", "shaped", "sized", "style", "old", "free", "colored"
)  # fmt: skip


def closed_letter(text: str, mark: bool) -> str | None:
    """The letter of a word of a closed class, or of punctuation; `None` for any other word."""
    if text in _CLOSED:
        return _CLOSED[text]
    if mark:
        return ","
    if text in closed.AUXILIARIES:
        return "X"
    if text in closed.MODALS:
        return "V"
    if text in closed.DETERMINERS or text in closed.NUMBERS or text.isdigit():
        return "D"
    if text in closed.PREPOSITIONS:
        return "P"
    if text in closed.PRONOUNS:
        return "O"
    return None


def possible_letters(text: str) -> frozenset[str]:
    """The letters that an open-class word can have."""
    known = entry(text)
    letters = {{"n": "N", "v": "V", "a": "J", "r": "R"}[part] for part in known.parts}
    if plural_of(text):
        letters.add("S")
    verb = verb_of(text)
    if verb:
        letters.add({"s": "V", "ing": "G", "ed": "E"}[verb[1]])
    if letters:
        return frozenset(letters)
    return frozenset(_guessed(text))


def _guessed(text: str) -> set[str]:
    """For a word that the lexicon lacks: by its ending, else a noun."""
    if "-" in text:
        last = text.rsplit("-", 1)[-1]
        if last.endswith(_ADJECTIVAL) or (
            "J" in possible_letters(last) and entry(last).often("a") > entry(last).often("n")
        ):
            return {"J"}
        return {"N"}
    if text.endswith("ly"):
        return {"R"}
    if text.endswith("ing") and len(text) > 5:
        return {"G"}
    if text.endswith("ed") and len(text) > 4:
        return {"E", "J"}
    if text.endswith(("less", "ful", "ous", "esque")):
        return {"J"}
    if text.endswith("s") and not text.endswith(("ss", "us", "is")) and len(text) > 3:
        return {"S"}
    return {"N"}
