"""Whether a prompt looks English: the words of other languages name things too, but not to this grammar."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from attnreg.phrases.closed import word_set
from attnreg.phrases.lexicon import is_known
from attnreg.words import Word

# The commonest articles, prepositions and conjunctions: few words, but every sentence has some.
_ENGLISH = word_set(
    """a an the of and with on in at by to for from is are near next under over behind beside into his her its their
    this that two three no without wearing holding"""
)
_FOREIGN = word_set(
    """der das die den dem des ein eine einen einem einer und mit auf von vom im ist zwei un une le la les du des et
    avec sur dans de deux el los las una unos unas y con en del sobre dos il lo gli uno di della nel su um uma o os
    as e com em do da na no dois duas een het op met van och ett på med og på i z na ve bir"""
)
_PARTICLES = word_set("da de del della den der di du el la le van von")


def looks_english(words: Sequence[Word]) -> bool:
    """Whether the words are English as far as their script, their small words and the lexicon tell.

    Names and invented words do not make a prompt foreign: only small words of another language do, together with
    content words that the lexicon lacks, or a script that is not Latin.
    """
    spoken = [word.text.lower() for word in words if not word.is_mark]
    letters = [letter for text in spoken for letter in text if letter.isalpha()]
    if sum(not unicodedata.name(letter, "LATIN").startswith("LATIN") for letter in letters) * 2 > len(letters):
        return False
    small = [word.text.lower() for word in words if not word.is_mark and not _in_a_name(words, word)]
    foreign, english = (sum(text in known for text in small) for known in (_FOREIGN - _ENGLISH, _ENGLISH))
    if foreign <= english:
        return True
    content = [text for text in spoken if text.isalpha() and text not in _FOREIGN | _ENGLISH]
    unknown = sum(not is_known(text) for text in content)
    return unknown * 2 < len(content) and (english > 0 or foreign * 3 < len(spoken))


def _in_a_name(words: Sequence[Word], word: Word) -> bool:
    """Whether a small word joins two capitalised ones: "Leonardo da Vinci"."""
    at = words.index(word)
    return word.text in _PARTICLES and all(
        other and other[0].text[:1].isupper() for other in (words[max(0, at - 1) : at], words[at + 1 : at + 2])
    )
