"""The noun phrases of an English prompt: which of its words name the things a picture must show.

A tagger names each word's part of speech; a few stated rules put right what a tagger gets wrong on prompts; a regular
expression over the parts of speech, one letter a word, finds the phrases. The tagger is spaCy if it and an English
model are installed, else textblob, whose lexicon needs no download but knows one part of speech a word, whatever the
context.
"""

from __future__ import annotations

import functools
import importlib.util
import re
import warnings
from dataclasses import dataclass
from typing import Any

from attnreg.words import Word, split_words


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


_DETERMINERS = _words(
    "the this these those his her its their my our your some any no each every another other several many few"
)
_PREPOSITIONS = _words(
    """of in on at by near beside behind above below over under through across into onto from between among around
    inside outside against along beneath underneath atop within toward towards past off"""
)
# Colours: adjectives before a noun, whatever the tagger holds them for.
_COLOURS = _words(
    """red orange yellow green blue purple pink brown gray grey black white gold golden silver beige tan cyan magenta
    teal turquoise violet maroon navy indigo lavender cream bronze copper crimson scarlet khaki rainbow"""
)
# Colours that are things where no noun follows: "an orange and a rainbow".
_COLOURED_THINGS = _words("orange gold silver bronze copper cream violet lavender rainbow")
# Things whose only reading in textblob's lexicon is a verb or an adjective.
_NOUNS = _words("bear ram asteroid cherry drum key mop net remote sled wrench mars t-shirt")
# Words for the picture itself, not a thing in it: "a painting of a cat", "a cat, oil painting", "a cat in watercolor".
_MEDIA = _words(
    """painting photo photograph picture drawing sketch image illustration render rendering portrait watercolor
    watercolour artwork art"""
)
# "a pair of dogs" shows dogs.
_QUANTITIES = _words("pair couple group lot lots bunch number variety kind type sort set series piece")
# Manner, time and pronouns: a phrase with such a head names no region of the picture.
_NOT_THINGS = _words(
    """style quality resolution detail details focus lighting masterpiece artstation view shot closeup close-up 4k 8k hd
    background foreground night day dawn dusk noon midnight morning evening afternoon daytime nighttime time
    something someone somebody anything anyone nothing everything everyone everybody thing things"""
)
# Words that only say where: "in front of a car", "a dog right of a cat", "next to".
_WHERE = _words("front back top bottom side left right middle center centre edge next")
_AUXILIARIES = _words("is are was were be been being am has have had do does did")
_CLOSED = {"a": "A", "an": "A", "with": "W", "without": "W", "and": "C", "or": "C", "&": "C", "that": "O"}

_MODIFIER = r"(?:R*[{}](?:[C,](?=R*J))?)"  # "black and", "small,", "very big": a conjunction only before an adjective
_PHRASE = re.compile(
    # Participles are modifiers after a determiner or "with" ("a parked car"), else verbs ("dogs chasing cats"); past
    # participles also after another preposition or at the start of a clause ("on broken glass").
    rf"(?:(?<=[ADW]){_MODIFIER.format('JGE')}*|(?:(?<=P)|(?<![^,])){_MODIFIER.format('JE')}*|{_MODIFIER.format('J')}*)"
    r"(?P<nouns>[NS]+)"
)
_NOUN_FOLLOWS = re.compile(rf"(?:[C,](?=R*J))?{_MODIFIER.format('JGE')}*[NS]")


@dataclass(frozen=True)
class Phrase:
    """A noun with the adjectives before it; determiners, numbers, adverbs and conjunctions are no members."""

    adjectives: tuple[Word, ...]
    nouns: tuple[Word, ...]
    """One word, or the words of a compound: "fire hydrant"."""


def find_phrases(prompt: str) -> tuple[Phrase, ...]:
    """The noun phrases of an English prompt that name something to be seen, in order; empty if there are none.

    Left out are words for the picture itself where it is introduced or styled ("a painting of ...", ", oil painting"),
    quantities ("a pair of ..."), and words of manner, place and time ("in front of", "at night", "flat style").
    """
    words = split_words(prompt)
    parts = parts_of_speech(words)
    phrases = []
    introducing = True
    styled = False  # "in the style of ...": whoever follows is no thing either
    for match in _PHRASE.finditer(parts):
        start, end = match.span()
        head = words[end - 1].text.lower()
        follows_of = end < len(words) and words[end].text.lower() in ("of", "showing", "depicting", "featuring")
        alone = _at_break(parts[:start].rstrip("AD")) and start > 0 and _at_break(parts[end:][:1])
        bare = words[start - 1].text.lower() == "in" if start else False
        skipped = (
            styled
            or head in _NOT_THINGS
            or (head in _QUANTITIES and follows_of)
            or (head in _MEDIA and ((introducing and follows_of) or alone or bare))
        )
        styled = head == "style" and follows_of
        if not skipped:
            introducing = False
            members = range(start, match.start("nouns"))
            phrases.append(
                Phrase(tuple(words[i] for i in members if parts[i] in "JGE"), words[match.start("nouns") : end])
            )
    return tuple(phrases)


def _at_break(parts: str) -> bool:
    return parts == "" or parts[-1] == ","


def parts_of_speech(words: tuple[Word, ...]) -> str:
    """One letter a word, a tagger's answer put right.

    `A` a or an, `D` another determiner or a number, `N` noun, `S` plural noun, `J` adjective, `G` -ing form, `E` past
    participle, `B` past tense, `V` another verb, `R` adverb, `P` preposition, `W` with, `C` and, `,` punctuation,
    `X` to be or to have, `O` anything else.
    """
    texts = [word.text.lower() for word in words]
    parts = "".join(_letter(word, tag) for word, tag in zip(words, _tags(texts), strict=True))
    # A past tense between determiner and noun is a participle ("a striped cat"); a finite verb right after a
    # determiner, a preposition or a colour is a noun ("a watch", "on mars", "red rose").
    parts = re.sub(r"([AD](?:R*[JGE])*)B(?=[JGE]*[NS])", r"\1E", parts)
    parts = re.sub(r"([AD](?:R*[JGE])*|[PW])[VB]", r"\1N", parts)
    letters = list(parts)
    for i, text in enumerate(texts):
        if text in _COLOURS and letters[i + 1 : i + 2] in (["V"], ["B"]):
            letters[i + 1] = "N"
    for i, text in enumerate(texts):
        if (
            text in _COLOURED_THINGS
            and letters[max(0, i - 1) : i] != ["X"]
            and not _NOUN_FOLLOWS.match("".join(letters), i + 1)
        ):
            letters[i] = "N"
    parts = "".join(letters)
    # After a determiner, adjectives without a noun: the last is the noun ("a t-shirt"), unless it is a colour.
    for match in re.finditer(r"[AD](?:R*[JGE])*?R*(J)(?!R*[JGE])", parts):
        at = match.start(1)
        if texts[at] not in _COLOURS and not _NOUN_FOLLOWS.match(parts, at + 1):
            parts = parts[:at] + "N" + parts[at + 1 :]
    # What "a" begins has a singular head, so a plural after it is a verb ("a dog barks").
    return re.sub(rf"(A{_MODIFIER.format('JGE')}*N+)S(?![NS])", r"\1V", parts)


def _letter(word: Word, tag: str) -> str:
    text = word.text.lower()
    if word.is_mark:
        return _CLOSED.get(text, ",")
    if text in _CLOSED:
        return _CLOSED[text]
    if text in _COLOURS:
        return "J"
    if text in _NOUNS:
        return "N"
    if text in _WHERE:
        return "O"
    if text in _AUXILIARIES:
        return "X"
    if text in _DETERMINERS or text.isdigit() or tag == "CD":
        return "D"
    if text in _PREPOSITIONS:
        return "P"
    exact = {"NNS": "S", "NNPS": "S", "VBG": "G", "VBN": "E", "VBD": "B", "MD": "V"}
    return exact.get(tag) or {"NN": "N", "JJ": "J", "VB": "V", "RB": "R"}.get(tag[:2], "O")


def _tags(words: list[str]) -> list[str]:
    """Penn Treebank part-of-speech tags, one a word."""
    english = _spacy_english()
    if english is not None and words:
        from spacy.tokens import Doc

        return [token.tag_ for token in english(Doc(english.vocab, words=words))]
    from textblob.en import parser

    with warnings.catch_warnings():
        # textblob leaves it to the garbage collector to close its lexicon's file.
        warnings.simplefilter("ignore", ResourceWarning)
        return [tag for _, tag in parser.find_tags(words)]


@functools.cache  # loading a model takes about a second
def _spacy_english() -> Any | None:
    """An English spaCy pipeline if the user has installed one."""
    if importlib.util.find_spec("spacy") is None:
        return None
    import spacy

    names = sorted(name for name in spacy.util.get_installed_models() if name.startswith("en_"))
    return spacy.load(names[0]) if names else None
