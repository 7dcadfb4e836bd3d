"""One letter a word for its part of speech: a tagger's guess, or the lexicon's, put right by where the word stands.

`A` a or an, `D` another determiner, a number or a possessive, `N` noun, `S` plural noun, `J` adjective, `G` -ing form,
`E` past participle or past tense, `V` another verb, `R` adverb, `P` preposition, `W` with, `C` and, `,` punctuation,
`X` to be or to have, `O` anything else.

The rule that carries most: a noun phrase that has begun must get its noun. After a determiner, an adjective or a
preposition the last word that can be a noun is one, whatever else it could be; only after a noun can a verb stand.
"""

from __future__ import annotations

from collections.abc import Sequence

from attnreg.phrases import closed
from attnreg.phrases.compounds import Compounds
from attnreg.phrases.lexicon import entry
from attnreg.phrases.sentence import Sentence

_SUBJECTS = closed.word_set("i you he she it we they who which that")


def letters_of(
    texts: Sequence[str],
    marks: Sequence[bool],
    tags: Sequence[str] | None = None,
    nouns: frozenset[int] = frozenset(),
    names: frozenset[int] = frozenset(),
) -> str:
    """One letter a word.

    Args:
        texts: the words in lower case.
        marks: which of them are punctuation.
        tags: a tagger's Penn Treebank tags, one a word; without them the lexicon decides alone.
        nouns: the places of words that are nouns for certain.
        names: the places of words that go on with a name: the "Swift" of "Taylor Swift".

    Returns:
        A string as long as `texts`.
    """
    return "".join(_Letters(Sentence(texts, marks, tags, nouns, names)).out)


class _Letters:
    """The letters of one prompt, found from left to right."""

    def __init__(self, sentence: Sentence) -> None:
        self.sentence = sentence
        self.texts, self.fixed, self.can = sentence.texts, sentence.fixed, sentence.can
        self.out: list[str] = []
        self.compounds = Compounds(sentence, self.out)
        for i in range(len(self.texts)):
            self.out.append(self._letter(i))

    def _letter(self, i: int) -> str:
        text = self.texts[i]
        fixed = self.fixed[i]
        if text == "'" and i and self.texts[i - 1].endswith("s"):
            return "D"  # "the kids' toys"
        if text in ("'s", "’s", "ʼs") and self._before(i) not in ("N", "S"):
            return "X"  # "it's raining"
        if text == "to" and self._is_infinitive(i):
            return "O"
        if text == "as" and self._before(i) == "O":
            return "O"
        if text in closed.WHERE:
            return self._place(i)
        if text in closed.NUMBERS and self.texts[i - 1 : i] == ["of"] and not self.sentence.noun_follows(i):
            return "O"  # "a family of four posing"
        if text.isdigit() and self._before(i) in ("N", "S") and not self.sentence.noun_follows(i):
            return "O"  # "a Porsche 911 coming around a curve"
        if fixed:
            return fixed
        if self.sentence.is_likeness(i):
            return "J"
        before = self._before(i)
        if before in "NS" and before:
            return "N" if i in self.sentence.names else self.compounds.letter(i)
        if before == "O" and self.texts[i - 1] in _SUBJECTS and self.can[i] & {"V", "E"}:
            return "E" if "V" not in self.can[i] else "V"
        if self.texts[i - 1 : i] == ["to"] and self.out[-1] == "O":
            return "V"
        return self._in_phrase(i, before)

    def _before(self, i: int) -> str:
        return self.out[i - 1] if i else ","

    def _place(self, i: int) -> str:
        """ "in front of", "on the left" say where; "a store front", "a front door" are words like others."""
        after = self.texts[i + 1] if i + 1 < len(self.texts) else ""
        before = self._before(i)
        if after in ("of", "to", "up") or (before == "P" and self.texts[i - 1] not in ("of", "with")):
            return "O"
        if before in "AD" and i > 1 and self.out[i - 2] == "P" and not self.sentence.noun_follows(i):
            return "O"
        if before in "NS" and before:
            return "N" if before == "N" and self.texts[i] not in ("left", "right", "next", "close") else "O"
        return "J" if self.sentence.noun_follows(i) else "N" if before in "AJ" else "O"

    def _is_infinitive(self, i: int) -> bool:
        """Whether "to" stands before a verb: "to eat leaves", unlike "next to leaves"."""
        if i + 1 >= len(self.texts) or "V" not in self.can[i + 1] or self.fixed[i + 1]:
            return False
        if i and self.texts[i - 1] in ("next", "close", "left", "right", "due", "similar", "attached", "tied"):
            return False
        known = entry(self.texts[i + 1])
        return known.often("v") >= known.often("n")

    def _in_phrase(self, i: int, before: str) -> str:
        text, can, hint = self.texts[i], self.can[i], self.sentence.hint(i)
        known = entry(text)
        follows = self.sentence.noun_follows(i)
        done = before == "E" and i > 1 and self.out[i - 2] in "NSX"  # "an egg cracked open"
        begun = (before in "ADJEPW" and not done) or (before == "R" and "J" in can)
        if done and not follows and "J" in can and known.often("a") > known.often("n"):
            return "J"
        if text in closed.COLOURS:
            return "N" if text in closed.COLOURED_THINGS and before != "X" and not follows else "J"
        if follows and self.sentence.is_shade(i):
            return "J"
        adverb = "R" in can and (text.endswith("ly") or known.often("r") >= max(known.often("n"), known.often("a"), 0))
        if adverb and (follows or not begun):
            return "R"
        if "G" in can and before != "X" and self.sentence.is_pair(i):
            return "N"  # "cutting board"
        if (
            hint == "G"
            or (hint is None and "G" in can)
            or (hint == "N" and "G" in can and not self.sentence.is_named(i))
        ):
            governs = self.sentence.is_deed(i) and (before not in "ADJ" or (before == "J" and self.fixed[i + 1] == "A"))
            if before == "X" or follows or governs:
                return "G"
            return "N" if begun or self.sentence.is_named(i) or before == "G" else "G"
        if (
            "G" in can
            and before not in "AD"
            and self.sentence.is_deed(i)
            and (before != "J" or self.fixed[i + 1] == "A")
        ):
            return "G"
        if "E" in can and hint != "N" and not (hint is None and known.often("n") > 0):
            if follows or not begun or (before in "PW" and "N" not in can):
                return "E"
            return "N" if "N" in can or before in "AD" else "E"
        if follows and "J" in can and (hint == "J" or known.often("a") > known.often("n")):
            return "J"
        if before == "X":
            return "J" if "J" in can and known.often("a") >= known.often("n") else self.sentence.noun(i) or "V"
        if hint in ("N", "S") and can & {"N", "S"}:
            return self.sentence.noun(i) or "N"
        if begun:
            if self.texts[i + 1 : i + 2] == [","] and "J" in can and known.often("a") > known.often("n") + 1:
                return "J"  # "sharp, steel blades"
            noun = self.sentence.noun(i)
            if noun:
                return noun
            if "J" in can and (follows or before in "PW"):
                return "J"
            return "N" if before in "AD" or "V" in can else "J" if "J" in can else "N"
        if "J" in can and not can & {"N", "S"}:
            return "J"
        if hint == "J" and "J" in can:
            return "J"
        if hint == "V" and "V" in can and not follows and before in "O":
            return "V"
        if "J" in can and hint is None and known.often("a") > known.often("n") + 1:
            return "J"
        return self.sentence.noun(i) or ("V" if "V" in can else hint or "N")
