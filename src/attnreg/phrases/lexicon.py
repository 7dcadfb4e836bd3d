"""Which parts of speech an English word can be: WordNet's answer, with the rules of English inflection.

The file beside this one is made from WordNet 3.0 by `training/lexicon.py`; it is read once, when first asked,
and a word is found in it by halves.
"""

from __future__ import annotations

import functools
import gzip
import importlib.resources
from dataclasses import dataclass, field

DATA = importlib.resources.files(__package__) / "lexicon.tsv.gz"


@dataclass(frozen=True)
class Entry:
    """What a word can be: how common it is as each part of speech, as the bit length of a count (0 to 9)."""

    parts: dict[str, int] = field(default_factory=dict)
    """Keys: `n` noun, `v` verb, `a` adjective, `r` adverb."""
    about: str = ""
    """What the noun's first sense is about if not a lifeless thing: "person", "animal", "time", "attribute", ..."""

    def __contains__(self, part: str) -> bool:
        return part in self.parts

    def often(self, part: str) -> int:
        """How common it is as this part of speech; -1 if it cannot be one."""
        return self.parts.get(part, -1)


_NONE = Entry()


@functools.cache
def _text() -> str:
    """The lexicon: a line of tab-separated columns an entry, sorted by the word, which comes first."""
    return gzip.decompress(DATA.read_bytes()).decode("ascii")


@functools.lru_cache(maxsize=8192)
def _lines_of(word: str) -> tuple[tuple[str, ...], ...]:
    """What stands of a word, without it: found by halves, for to take all lines apart takes longer than a step does."""
    text = _text()
    low, high = 0, len(text)
    while low < high:
        start = max(low, text.rfind("\n", low, (low + high) // 2) + 1)
        if text[start : text.index("\t", start)] < word:
            low = text.index("\n", start) + 1
        else:
            high = start
    found = []
    while text.startswith(f"{word}\t", low):
        end = text.index("\n", low)
        found.append(tuple(text[low:end].split("\t")[1:]))
        low = end + 1
    return tuple(found)


def _irregular(word: str, kind: str) -> str | None:
    """The base of an irregular form of a noun ("=noun") or a verb ("=verb")."""
    bases = [line[1] for line in _lines_of(word) if line[0] == kind]
    return bases[-1] if bases else None


@functools.lru_cache(maxsize=4096)
def entry(word: str) -> Entry:
    """What is known of a word in lower case, as it stands, without inflection; nothing if it is not in WordNet."""
    lines = [line for line in _lines_of(word) if not line[0].startswith("=")]
    if not lines:
        return _NONE
    parts, *about = lines[-1]
    return Entry({parts[i]: int(parts[i + 1]) for i in range(0, len(parts), 2)}, "\t".join(about))


def is_known(word: str) -> bool:
    """Whether a word in lower case is English, in any form."""
    return bool(entry(word).parts) or bool(plural_of(word) or verb_of(word))


def plural_of(word: str) -> str | None:
    """The noun whose plural a word can be: "dogs" -> "dog", "mice" -> "mouse"; `None` if it can be none."""
    irregular = _irregular(word, "=noun")
    if irregular:
        return irregular if irregular != word else None
    endings = (("ies", "y"), ("ves", "f"), ("ves", "fe"), ("es", ""), ("s", ""))
    if word.endswith("men"):
        return _base(word, (("men", "man"),), "n")
    return _base(word, endings, "n") if word.endswith("s") and not word.endswith("ss") else None


def verb_of(word: str) -> tuple[str, str] | None:
    """The verb a form belongs to and the ending: "running" -> ("run", "ing"), "sat" -> ("sit", "ed").

    The endings are "s", "ing" and "ed" (past tense or past participle); a base form has none and is not found here.
    """
    irregular = _irregular(word, "=verb")
    if irregular:
        return irregular, "ing" if word.endswith("ing") else "s" if word.endswith("s") else "ed"
    if word.endswith("ing") and len(word) > 4:
        stem = word[:-3]
        base = _stem(stem)
        return (base, "ing") if base else None
    if word.endswith("ed") and len(word) > 3:
        base = _stem(word[:-2])
        return (base, "ed") if base else None
    if word.endswith("s") and not word.endswith("ss"):
        base = _base(word, (("ies", "y"), ("es", ""), ("s", "")), "v")
        return (base, "s") if base else None
    return None


def _stem(stem: str) -> str | None:
    """The verb behind what is left of "-ing" or "-ed": "runn" -> "run", "rid" -> "ride", "carri" -> "carry"."""
    tries = [stem, stem + "e"]
    if len(stem) > 2 and stem[-1] == stem[-2]:
        tries.insert(0, stem[:-1])
    if stem.endswith("i"):
        tries.append(stem[:-1] + "y")
    found = [base for base in tries if "v" in entry(base)]
    return max(found, key=lambda base: entry(base).often("v")) if found else None


def _base(word: str, endings: tuple[tuple[str, str], ...], part: str) -> str | None:
    for ending, instead in endings:
        base = word[: len(word) - len(ending)] + instead
        if word.endswith(ending) and base and part in entry(base):
            return base
    return None
