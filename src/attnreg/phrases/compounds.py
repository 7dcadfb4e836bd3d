"""What a word right after a noun is: the next word of a compound ("a leather watch") or a verb ("a dog barks")."""

from __future__ import annotations

from collections.abc import Sequence

from attnreg.phrases import closed
from attnreg.phrases.lexicon import entry, plural_of, verb_of
from attnreg.phrases.sentence import Sentence


class Compounds:
    """Reads on from a noun. `out` are the letters of the words so far."""

    def __init__(self, sentence: Sentence, out: Sequence[str]) -> None:
        self.sentence, self.out = sentence, out
        self.texts, self.fixed, self.can = sentence.texts, sentence.fixed, sentence.can

    def letter(self, i: int) -> str:
        """The letter of the word at place `i`, before which a noun stands."""
        can, hint, known = self.can[i], self.sentence.hint(i), entry(self.texts[i])
        text = self.texts[i]
        after = (self.fixed[i + 1] or "") if i + 1 < len(self.texts) else ","
        if text in closed.COLOURS:
            return "N" if text in closed.COLOURED_THINGS and not self.sentence.noun_follows(i) else "J"
        if "G" in can:
            return "N" if self.sentence.is_pair(i) and not self._subject(i) else self._ing_after_noun(i, after)
        ends = "N" in can and after in (",", "C")  # "a hand saw and a drill"
        if (
            "E" in can
            and not ends
            and (
                hint == "E"
                or "N" not in can
                or (hint is None and known.often("n") <= 0)
                or (after == "P" and "J" in can)
            )
        ):
            return "E"
        if hint == "E" and "V" in can and not ends:
            return "E"  # "a pear cut into pieces"
        if "V" in can and can & {"N", "S"}:
            return self._verb_or_noun(i, after)
        if can & {"N", "S"}:
            clear = 1 + 2 * (not self.sentence.noun_follows(i)) - (hint == "J")
            if "J" in can and known.often("a") >= known.often("n") + clear + 1 and not self._starts_compound(i):
                return "J"
            if "R" in can and (hint == "R" or (hint is None and known.often("r") > known.often("n"))):
                return "R"
            return self.sentence.noun(i) or "N"
        return next((letter for letter in (hint, *"VJRE") if letter and letter in can), "O")

    def _starts_compound(self, i: int) -> bool:
        return (
            self.fixed[i + 1 : i + 2] == [None]
            and bool(self.can[i + 1] & {"N", "S"})
            and "N" in self.can[i]
            and self.sentence.hint(i) == "N"
        )

    def _ing_after_noun(self, i: int, after: str) -> str:
        if not verb_of(self.texts[i]) and "N" in self.can[i]:
            return "N"  # "diamond ring"
        subject = self._subject(i)
        named = self.sentence.is_named(i) and not subject
        if self.texts[i + 1 : i + 2] == ["of"] and "N" in self.can[i] and self.sentence.is_named(i):
            return "N"  # "an impressionist painting of"
        if after in ("A", "D") or (after == "" and not named):
            return "G"
        if after == "":
            return "N" if self.sentence.hint(i) in ("N", None) else "G"
        if after in (",", "C") and not subject and entry(self.texts[i]).about == "" and "N" in self.can[i]:
            return "N"
        return "N" if named and self.sentence.hint(i) != "G" else "G"

    def _subject(self, i: int) -> bool:
        """Whether the noun before this place is one that acts: a person or an animal."""
        text = self.texts[i - 1]
        base = plural_of(text) or text
        return entry(base).about in ("person", "animal")

    def _verb_or_noun(self, i: int, after: str) -> str:
        text, known, hint = self.texts[i], entry(self.texts[i]), self.sentence.hint(i)
        verb = verb_of(text)
        if verb and verb[1] == "s":
            noun, base = entry(plural_of(text) or text), entry(verb[0])
            singular = self.out[i - 1] == "N"
            counted = self._phrase_number(i)
            if not singular or counted == "many":
                return "S"
            if self.sentence.is_pair(i - 1):
                return "S"
            if base.often("v") > noun.often("n") + (0 if counted == "one" else 1):
                listed = after in (",", "C") or (after == "" and hint == "S")
                return "S" if hint in ("S", None) and listed and not self._subject(i) else "V"
            if hint == "V" and counted == "one" and after not in (",", "C"):
                return "V"
            if counted == "one" and after in ("P", "D", "A", "R") and hint != "S":
                return "V" if self._subject(i) else "S"
            if hint == "V" and self._subject(i) and after in ("P", "D", "A", ""):
                return "V"
            return "S"
        if after in ("A", "D") or (hint != "N" and known.often("n") <= 0 and known.often("v") > 6):
            return "V"
        if after == "X" and text == "can":
            return "V"
        joined = "C" in self.out[max(0, i - 4) : i - 1]
        if self.out[i - 1] == "S" and self._phrase_number(i) == "one":
            return "N"  # "a fireworks display"
        if self.out[i - 1] == "S" or (joined and self._subject(i)):
            if known.often("v") >= known.often("n") and hint not in ("N",):
                return "V"
            if hint == "V" and self._subject(i):
                return "V"
        if "J" in self.can[i] and known.often("a") > known.often("n") + 3 * (not self.sentence.noun_follows(i)):
            return "J"
        return "N"

    def _phrase_number(self, i: int) -> str:
        """What the determiner of the phrase that ends before this place says: "one" (a), "many" (two), or nothing."""
        for j in range(i - 1, -1, -1):
            if self.out[j] == "A":
                return "one"
            if self.out[j] == "D":
                plural = self.texts[j] in closed.NUMBERS - {"one"} or self.texts[j] in (
                    "several",
                    "many",
                    "few",
                    "some",
                )
                return "many" if plural or self.texts[j].isdigit() else ""
            if self.out[j] not in "NSJGER":
                return ""
        return ""
