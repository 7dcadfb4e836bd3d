"""The words of a prompt and what can be told of each by looking at it and ahead of it."""

from __future__ import annotations

from collections.abc import Sequence

from attnreg.phrases import closed
from attnreg.phrases.lexicon import entry, is_known, plural_of, verb_of
from attnreg.phrases.possible import closed_letter, possible_letters

_TAGS = {"NNS": "S", "NNPS": "S", "NN": "N", "NNP": "N", "VBG": "G", "VBN": "E", "VBD": "E", "MD": "V", "VB": "V",
    "VBP": "V", "VBZ": "V", "JJ": "J", "JJR": "J", "JJS": "J", "RB": "R", "RBR": "R", "RBS": "R"}  # fmt: skip
_OBJECTS = closed.word_set("it him them her me us you himself herself itself themselves")


class Sentence:
    """Words with the letters each can have (see `letters`).

    texts: the words in lower case; marks: which are punctuation; tags: Penn Treebank tags of a tagger, or `None`;
    nouns: the places of words that are nouns for certain; names: those that go on with a name.
    """

    def __init__(
        self,
        texts: Sequence[str],
        marks: Sequence[bool],
        tags: Sequence[str] | None,
        nouns: frozenset[int],
        names: frozenset[int],
    ) -> None:
        self.texts, self.marks, self.tags, self.names = texts, marks, tags, names
        self.fixed = [
            "N" if i in nouns else closed_letter(text, mark)
            for i, (text, mark) in enumerate(zip(texts, marks, strict=True))
        ]
        self.can = [
            frozenset("N") if letter else possible_letters(text) for text, letter in zip(texts, self.fixed, strict=True)
        ]
        for i, text in enumerate(texts):
            verb = self.hint(i) == "V" and "-" not in text and not is_known(text)
            if verb and not self.fixed[i]:
                self.can[i] = frozenset("V")  # the lexicon cannot tell, the tagger can: "a splork wugs cats"

    def hint(self, i: int) -> str | None:
        """What the tagger holds a word for, as a letter; `None` without a tagger."""
        return _TAGS.get(self.tags[i]) if self.tags else None

    def noun(self, i: int) -> str | None:
        """`N` or `S` if a word can be a noun, else `None`."""
        can = self.can[i]
        if "S" in can and not ("N" in can and self.hint(i) == "N"):
            return "S"
        return "N" if "N" in can else None

    def is_pair(self, i: int) -> bool:
        """Whether an -ing form and the word after it are one entry of the lexicon: "washing machine"."""
        if i + 1 >= len(self.texts):
            return False
        after = self.texts[i + 1]
        return "n" in entry(f"{self.texts[i]}_{plural_of(after) or after}") or "n" in entry(f"{self.texts[i]}_{after}")

    def is_likeness(self, i: int) -> bool:
        """Whether a word belongs to a likeness before a noun: both words of "heart shaped" in "a heart shaped box"."""
        return any(
            j < len(self.texts)
            and self.texts[j] in closed.LIKENESS
            and j > 0
            and self.fixed[j - 1] is None
            and bool(self.can[j - 1] & {"N", "J"})
            and self.noun_follows(j)
            for j in (i, i + 1)
        )

    def is_named(self, i: int) -> bool:
        """Whether an -ing form is the name of a thing ("a painting", "a building") rather than of a deed."""
        known, verb = entry(self.texts[i]), verb_of(self.texts[i])
        rare = verb is not None and known.often("n") < entry(verb[0]).often("v") - 2
        return "n" in known and known.about in ("", "time") and not rare

    def is_shade(self, i: int) -> bool:
        """ "light blue shirt", "navy blue suit": what stands right before a colour."""
        return (
            i + 1 < len(self.texts)
            and self.texts[i + 1] in closed.COLOURS
            and self.noun_follows(i + 1)
            and not self.marks[i]
        )

    def noun_follows(self, i: int) -> bool:
        """Whether the words right after this one go on to a noun of the same phrase."""
        j = i + 1
        while j < len(self.texts):
            letter = self.fixed[j]
            if letter in ("C", ",") and j + 1 < len(self.texts) and not self.fixed[j + 1]:
                # "black and white cat", "small, red car": a conjunction only before an adjective.
                here = self.can[j - 1] if j - 1 > i else self.can[i]
                if (
                    "J" in here
                    and "J" in self.can[j + 1]
                    and self.mostly_adjective(j + 1)
                    and self.mostly_adjective(j - 1)
                ):
                    j += 1
                    continue
                return False
            if letter:
                return letter == "N" and not self.marks[j]
            text = self.texts[j]
            if text in closed.WHERE and (self.texts[j + 1 : j + 2] in (["of"], ["to"])):
                return False
            can = self.can[j]
            if self.is_deed(j) or (j == i + 1 and self.is_finite(i, j)):
                return False
            if can & {"N", "S"} and not (text in closed.COLOURS and text not in closed.COLOURED_THINGS):
                return True
            if not can & {"J", "R", "E", "G"}:
                return j > i + 1 or ("V" in can and "N" in can)
            j += 1
        return False

    def mostly_adjective(self, i: int) -> bool:
        """Whether a word is an adjective at least as often as a noun."""
        known = entry(self.texts[i])
        return self.texts[i] in closed.COLOURS or known.often("a") >= known.often("n")

    def is_deed(self, j: int) -> bool:
        """Whether an -ing form right here governs what follows it: "riding a horse", "reading to her son"."""
        if "G" not in self.can[j] and not (self.tags and self.tags[j] == "VBG"):
            return False
        after = self.fixed[j + 1] if j + 1 < len(self.texts) else None
        if after == "O":
            return self.texts[j + 1] in _OBJECTS
        return after in ("A", "D", "W") or (after == "P" and not self.is_named(j))

    def is_finite(self, i: int, j: int) -> bool:
        """Whether the word after a word that can be a noun is its verb: "fish swim in", "dog barks at"."""
        if not self.can[i] & {"N", "S"} or "V" not in self.can[j]:
            return False
        known = entry(self.texts[j])
        if not self.texts[j].endswith("s") and entry(self.texts[i]).often("a") > entry(self.texts[i]).often("n"):
            return False
        if self.tags is not None:
            return _TAGS.get(self.tags[j]) == "V" and not (known.often("n") > known.often("v"))
        return "N" not in self.can[j] and "S" not in self.can[j]
