"""The words of a prompt, where they stand in it, and where a given phrase occurs among them.

Everything works on positions in the prompt as it was written, never on a changed copy of it, so that a word can be laid
over any tokenizer's offsets whatever that tokenizer does to case, accents and spaces.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

_APOSTROPHES = "'’ʼ"
_HYPHENS = "-‐‑"


class Word(NamedTuple):
    """A word or a run of punctuation and the characters `prompt[start:end]` it fills."""

    text: str
    start: int
    end: int
    is_mark: bool = False
    """Punctuation: it separates phrases and never belongs to one."""


def split_words(text: str) -> tuple[Word, ...]:
    """Words and punctuation marks of a text, in order.

    "t-shirt", "jack-o'-lantern" and "don't" are one word, "dog's" is two ("dog", "'s"). Scripts that write no spaces
    between words count every character as a word, and an emoji (with its modifiers) is one.
    """
    found = re.finditer(
        r"(?P<word>w[wk]*(?:(?:'-?|-)w[wk]*)*|h[k]*|sk*(?:jsk*)*)|(?P<mark>[^ ])", "".join(map(_kind, text))
    )
    words = []
    for match in found:
        start, end = match.span()
        word = text[start:end]
        if len(word) > 2 and word[-2] in _APOSTROPHES and word[-1] in "sS":
            words += [Word(word[:-2], start, end - 2), Word(word[-2:], end - 2, end)]
        else:
            words.append(Word(word, start, end, is_mark=match["mark"] is not None))
    return tuple(words)


def _kind(character: str) -> str:
    """One letter for what a character is, so that a regular expression over the letters finds the words."""
    category = unicodedata.category(character)
    if character.isspace():
        return " "
    if character in _APOSTROPHES:
        return "'"
    if character in _HYPHENS:
        return "-"
    if category[0] == "M" or "\U0001f3fb" <= character <= "\U0001f3ff":
        return "k"  # a combining mark, or an emoji's skin tone: part of the character before it
    if character == "\u200d":
        return "j"  # joins emoji into one
    if "\u3040" <= character <= "\u30ff" or "\u3400" <= character <= "\u9fff":
        return "h"  # kana and Han
    if category[0] in "LN" or character == "_":
        return "w"
    return "s" if category == "So" else "m"


def numbered(text: str) -> tuple[str, int]:
    """The phrase that a target's text names, and which of its occurrences: "dog#2" the second dog, "dog" the first."""
    found = re.fullmatch(r"(?P<phrase>.*\S)\s*#(?P<nth>\d+)\s*", text, re.DOTALL)
    return (found["phrase"], int(found["nth"])) if found else (text, 1)


def in_place_of(text: str, other: str, prompt: str) -> str | None:
    """The prompt with the words of one target where another's stood: "a dog and a dog" of "a cat and a dog".

    `text` is the one that goes, `other` the one that stands there then, each as a target is named ("dog#2"). `None` if
    the prompt lacks the first as whole words.
    """
    phrase, nth = numbered(text)
    runs = occurrences(phrase, split_words(prompt))
    if not 1 <= nth <= len(runs):
        return None
    run = runs[nth - 1]
    return prompt[: run[0].start] + numbered(other)[0] + prompt[run[-1].end :]


def occurrences(phrase: str, words: tuple[Word, ...]) -> list[tuple[Word, ...]]:
    """Every run of whole words that reads like the phrase; case, accents' encoding, spacing and hyphens don't matter.

    "cat" is not found in "cattle", "shirt" not in "t-shirt"; "T Shirt" is found in "t-shirt", and "blue umbrella" in
    "Blue\\numbrella".
    """
    spoken = [word for word in words if not word.is_mark]
    hay = [(part, index) for index, word in enumerate(spoken) for part in _parts(word)]
    needle = [part for word in split_words(phrase) if not word.is_mark for part in _parts(word)]
    if not needle:
        return []
    runs = []
    for at in range(len(hay) - len(needle) + 1):
        end = at + len(needle)
        whole = (at == 0 or hay[at - 1][1] != hay[at][1]) and (end == len(hay) or hay[end][1] != hay[end - 1][1])
        if whole and [part for part, _ in hay[at:end]] == needle:
            runs.append(tuple(spoken[hay[at][1] : hay[end - 1][1] + 1]))
    return runs


def _parts(word: Word) -> list[str]:
    plain = unicodedata.normalize("NFKC", word.text).casefold()
    return re.split(f"[{_HYPHENS}]", re.sub(f"[{_APOSTROPHES}]", "'", plain))
