"""A target's noun and its modifiers: of "blue balloon", which token columns name the thing and which describe it."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from attnreg.phrases import find_phrases
from attnreg.types import Target
from attnreg.words import Word, numbered, occurrences, split_words


@dataclass(frozen=True)
class Parts:
    """The token columns of one target, told apart."""

    noun: tuple[int, ...]
    """Every piece of the noun, or of the nouns of a compound ("fire hydrant")."""
    modifiers: tuple[tuple[int, ...], ...] = ()
    """The pieces of each adjective, one entry a word."""


def parts_of(target: Target, prompt: str = "") -> Parts:
    """The noun and the modifiers of a target, by the parse of the prompt (of the target alone if there is none).

    Of a target with several nouns ("cat on a mat") the first phrase counts; determiners and conjunctions are neither.
    Where the parse finds no noun, or the pieces do not spell the words, all of the target is its noun: it is then one
    thing without modifiers.
    """
    return _parsed(target, prompt)[0]


def bare_text(target: Target, prompt: str = "") -> str:
    """A target as it is written without its modifiers and what joins them: "cat" of "black and white cat".

    By the same parse as `parts_of`: of a target without modifiers it is the text itself.
    """
    return _parsed(target, prompt)[1]


@functools.lru_cache(maxsize=256)  # asked in every look at the same prompt, and a parse takes milliseconds
def _parsed(target: Target, prompt: str) -> tuple[Parts, str]:
    text, nth = numbered(target.text)
    whole = Parts(target.tokens), text
    for told in dict.fromkeys((prompt, text)):
        runs = occurrences(text, split_words(told))
        if nth > len(runs):
            nth = 1
            continue
        columns = _columns_of_words(runs[nth - 1], target)
        for phrase in find_phrases(told):
            noun = tuple(column for word in phrase.nouns for column in columns.get(word, ()))
            if noun:
                modifiers = [word for word in phrase.adjectives if word in columns]
                parts = Parts(noun, tuple(columns[word] for word in modifiers))
                written = told[runs[nth - 1][0].start : runs[nth - 1][-1].end]
                if modifiers:
                    first, last = (one.start - runs[nth - 1][0].start for one in (modifiers[0], phrase.nouns[0]))
                    written = written[:first] + written[last:]
                return parts, written
        return whole
    return whole


def _columns_of_words(words: Sequence[Word], target: Target) -> dict[Word, tuple[int, ...]]:
    """The columns of those of the words that the target's pieces spell, in order; none if pieces are left over.

    Two encoders, each with columns of its own, spell them once more.
    CLIP ends a word with `</w>`, T5 and byte-level tokenizers begin one with a sign, WordPiece goes on with `##`: what
    is left are letters, and the words themselves say where one ends. ("t-shirt" is three words to CLIP.)
    """
    found: dict[Word, tuple[int, ...]] = {}
    spelled = [_plain(re.sub(r"^(##|[▁Ġ])|</w>$", "", piece)) for piece in target.pieces]
    at, before = 0, -1
    while before < at < len(spelled):
        before = at
        for word in words:
            wanted, end, letters = _plain(word.text), at, ""
            while letters != wanted and end < len(spelled) and wanted.startswith(letters + spelled[end]):
                letters += spelled[end]
                end += 1
            if letters == wanted:
                found[word] = found.get(word, ()) + target.tokens[at:end]
                at = end
    return found if at == len(target.tokens) else {}


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
