"""From a prompt to its noun phrases."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from attnreg.phrases import manner
from attnreg.phrases.english import looks_english
from attnreg.phrases.excluded import excluded_places
from attnreg.phrases.letters import letters_of
from attnreg.phrases.lexicon import entry
from attnreg.phrases.syntax import language
from attnreg.phrases.taggers import tags_of
from attnreg.words import Word

_MODIFIER = r"(?:R*[{}](?:[C,](?=R*J))?)"  # "black and", "small,", "very big": a conjunction only before an adjective
_PHRASE = re.compile(
    # Participles are modifiers after a determiner or "with" ("a parked car"), else verbs ("dogs chasing cats"); past
    # participles also after another preposition or at the start of a clause ("on broken glass").
    rf"(?:(?<=[ADW]){_MODIFIER.format('JGE')}*|(?:(?<=P)|(?<![^,])){_MODIFIER.format('JE')}*|{_MODIFIER.format('J')}*)"
    r"(?P<nouns>[NS]+)"
)


@dataclass(frozen=True)
class Phrase:
    """A noun with the adjectives before it; determiners, numbers, adverbs and conjunctions are no members."""

    adjectives: tuple[Word, ...]
    nouns: tuple[Word, ...]
    """One word, or the words of a compound: "fire hydrant"."""

    @property
    def words(self) -> tuple[Word, ...]:
        """All of them, in order."""
        return (*self.adjectives, *self.nouns)

    def __str__(self) -> str:
        return " ".join(word.text for word in self.words)


@dataclass(frozen=True)
class Reading:
    """What a prompt says."""

    phrases: tuple[Phrase, ...] = ()
    """The things it names, in order."""
    excluded: tuple[str, ...] = ()
    """The things that it says shall not be there."""
    is_english: bool = True
    """Whether it looks English; nothing is found in a prompt that does not."""


def find_phrases(prompt: str) -> tuple[Phrase, ...]:
    """The noun phrases of an English prompt that name something to be seen, in order; empty if there are none.

    Left out are words for the picture itself where it is introduced or styled ("a painting of ...", ", oil painting"),
    quantities ("a pair of ..."), words of manner, place and time ("in front of", "at night", "flat style"), what the
    prompt excludes ("without a hat") and what is no language ("--ar 16:9").

    Args:
        prompt: the text as the pipeline gets it.

    Returns:
        Each phrase with its adjectives and nouns; the last noun is the head.
    """
    return read(prompt).phrases


@functools.lru_cache(maxsize=256)  # several parts of a run ask for the same prompt
def read(prompt: str) -> Reading:
    """What a prompt names and what it excludes, and whether it looks English.

    Args:
        prompt: the text as the pipeline gets it.

    Returns:
        The reading; without phrases where the prompt does not look English.
    """
    words, invented, unwanted = language(prompt)
    if not looks_english(words):
        return Reading(is_english=False)
    texts = [word.text.lower().replace("’", "'") for word in words]
    marks = [word.is_mark for word in words]
    letters = letters_of(texts, marks, tags_of([word.text for word in words]), invented, _names(words))
    covered = excluded_places(texts, letters)
    kept: list[Phrase] = []
    left_out: list[Phrase] = []
    context = _Context(texts, letters, tuple(words))
    for match in _PHRASE.finditer(letters):
        start, end = match.span()
        if context.skips(start, match.start("nouns"), end):
            continue
        members = tuple(words[i] for i in range(start, match.start("nouns")) if letters[i] in "JGE")
        phrase = Phrase(members, tuple(words[match.start("nouns") : end]))
        (left_out if end - 1 in covered else kept).append(phrase)
    excluded = [str(phrase) for phrase in left_out]
    if unwanted:
        excluded.append(" ".join(word.text for word in unwanted if not word.is_mark))
    return Reading(tuple(kept), tuple(excluded))


def _names(words: tuple[Word, ...]) -> frozenset[int]:
    """The places of capitalised words right after another one, in a prompt that does not capitalise every word."""
    capital = [word.text[:1].isupper() and not word.text.isupper() for word in words]
    spoken = [i for i, word in enumerate(words) if word.text.isalpha()]
    if len([i for i in spoken if not capital[i]]) * 3 < len(spoken):
        return frozenset()
    return frozenset(i for i in spoken if i and capital[i] and capital[i - 1])


class _Context:
    """Which phrases of a prompt name no thing, told by what stands around them."""

    def __init__(self, texts: list[str], letters: str, words: tuple[Word, ...]) -> None:
        self.texts, self.letters, self.words = texts, letters, words
        self.introducing = True
        self.styled = -1  # the place up to which everything belongs to a style: "in the style of Van Gogh"

    def skips(self, start: int, nouns: int, end: int) -> bool:
        """Whether the phrase from `start` to `end`, whose nouns begin at `nouns`, names no thing."""
        head = self.texts[end - 1]
        before = self.texts[start - 1] if start else ""
        follows_of = end < len(self.texts) and self.texts[end] in manner.SHOWING
        segment = self._is_segment(start, end)
        if start < self.styled:
            return True
        if before == "by" and self.letters[start - 2 : start - 1] not in ("E", "G", "V") and start == nouns:
            self.styled = self._break_after(end)  # "art by Greg Rutkowski"
            return True
        if head in ("style", "manner", "art") and follows_of and self.texts[end] == "of" and head != "art":
            self.styled = self._break_after(end)
            return True
        skipped = (
            head in manner.NOT_THINGS
            or (head in manner.ALONE and end - nouns == 1 and not re.search(r"(?<![PW])A$", self.letters[:start]))
            or (head in ("scene", "view") and follows_of)
            or self._is_named_after(start, end)
            or re.fullmatch(r"\d+(?:d|s|st|nd|rd|th|bit|x)?|x\w?\d+", head) is not None
            or (head in manner.QUANTITIES and self.texts[end : end + 1] == ["of"])
            or (head in manner.MEDIA and ((self.introducing and follows_of) or segment or before == "in"))
            or self._is_manner(start, end)
            or (len(head) == 1 and head.isascii())
            or (
                entry(head).about == "time"
                and before in ("at", "during", "in", "by", "since", "until", "before", "after")
            )
            or (segment and (head in manner.GENRES or self._is_quality(start, end)))
            or (head in manner.MEDIA and not self.introducing and self._is_tag(start, end))
        )
        if not skipped:
            self.introducing = False
        return skipped

    def _is_named_after(self, start: int, end: int) -> bool:
        """Whether the phrase only completes a name: the Liberty of "the Statue of Liberty"."""
        return (
            start > 1
            and self.texts[start - 1] == "of"
            and all(self.words[i].text[:1].isupper() for i in (start - 2, *range(start, end)))
            and not all(word.text[:1].isupper() for word in self.words if len(word.text) > 3)
        )

    def _is_segment(self, start: int, end: int) -> bool:
        """Whether the phrase, its determiner apart, is all that stands between two commas or ends of the prompt."""
        while start and self.letters[start - 1] in "AD":
            start -= 1
        left = start == 0 or self.letters[start - 1] == ","
        return left and self.letters[end : end + 1] in ("", ",") and (start > 0 or end < len(self.texts))

    def _is_manner(self, start: int, end: int) -> bool:
        """Whether all that stands between the marks around the phrase says how the picture is made."""
        left = self.letters.rfind(",", 0, start) + 1
        if left == 0 and self._break_after(end) == len(self.letters):
            return False
        return manner.MANNER_TAG.fullmatch(" ".join(self.texts[left : self._break_after(end)])) is not None

    def _is_tag(self, start: int, end: int) -> bool:
        """Whether a phrase after a comma says how the picture is made: ", oil painting in the style of Rembrandt"."""
        return self.letters[start - 1 : start] == "," and self.texts[end : end + 1] in (["in"], ["by"], ["with"])

    def _is_quality(self, start: int, end: int) -> bool:
        """Whether a phrase between commas names a quality: "high fidelity", "best anatomy"."""
        bare = start == 0 or self.letters[start - 1] == ","
        return bare and entry(self.texts[end - 1]).about in ("attribute", "quantity", "relation", "state")

    def _break_after(self, i: int) -> int:
        at = self.letters.find(",", i)
        return len(self.letters) if at < 0 else at
