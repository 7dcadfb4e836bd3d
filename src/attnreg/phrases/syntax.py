"""What of a prompt is no language: weights, parameters, model files, camera settings, text to be written on something.

The web's front ends each brought a notation (AUTOMATIC1111's `(cat:1.3)` and `<lora:name:0.8>`, Midjourney's
`--ar 16:9`, tags such as `score_9`); what their authors meant is read, what only steers the program is left out.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from attnreg.words import Word, split_words

_FLAG = r"(?:(?<!\S)--+|(?<!\S)[—–](?=(?:ar|aspect|v|s|q|c|no|seed|stylize|chaos|niji|iw|style|tile)\b))"
_GONE = re.compile(
    rf"""
    (?P<no>{_FLAG}no\s(?P<unwanted>.*?)(?=\s(?:--|[—–])[a-z]|$))
    | {_FLAG}\w[\w-]*(?:(?:\s+|=)(?:"[^"]*"|(?!-)[^\s,]+))?   # --ar 16:9, --style raw, --tile
    | <\|[^<>]*\|>                                              # <|startoftext|>
    | <[^<>\s]*:[^<>]*>                                         # <lora:add_detail:0.8>
    | \bembedding:\S+ | __\w[\w/*-]*__ | https?://\S+
    | \b(?:score|rating|source)_\w+
    | \bf/\d+(?:\.\d+)? | \bISO[\s-]?\d+ | \b\d+(?:\.\d+)?\s?mm\b(?:\s+lens\b)? | \b\d+/\d+\s?s(?:ec)?\b
    | \b\d+\s?[x×:]\s?\d+\b | \b\d+(?:k|fps|hz|dpi|p|px|bit|megapixels)\b
    | \bBREAK\b | \blooking\s(?:directly\s|back\s)?(?:at|into)\s(?:the\s)?(?:viewer|camera)\b
    | ::\s*-?\d*(?:\.\d+)?                                      # cat::2 dog::1
    # Text to be written: in quotation marks that do not enclose the whole prompt, or after words that announce it.
    | (?<!^)"[^"]*" | “[^”]*” | «[^»]*»
    | (?<=[\s(])'(?=\S)[^']*?(?:(?<=\w)'(?=\w)[^']*?)*'(?!\w) | (?<=[\s(])‘[^’]*’(?!\w)
    | (?<=\bsays)\s[^,.;"'“‘(]+ | (?<=\bsaying)\s[^,.;"'“‘(]+ | (?<=\bthat\sreads)\s[^,.;"'“‘(]+
    # Left out without a pause: "a (red:1.2) car", "a 25 y.o woman", the further vectors of "<toy> <toy>_1".
    | (?P<silent>:\s*-?\d*\.?\d+(?=\s*[)\]}}>,|]|\s*$) | <[^<>|:\s]+>_\d+ | (?<=\))\s*-?\d*\.\d+ | [()\[\]{{}}*+\\]+
        | \b\d+[\s-]?(?:y\.?\s?o\.?|years?\sold)(?!\w))
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_INVENTED = re.compile(r"<([^<>|:\s]+)>")  # <cat-toy>: a word that textual inversion added


class Language(NamedTuple):
    """The words of a prompt that are language."""

    words: tuple[Word, ...]
    """In order, with a mark where something was left out that parts what is around it."""
    invented: frozenset[int]
    """Which of them stand between < and >: words that textual inversion added, so nouns."""
    unwanted: tuple[Word, ...]
    """The words after `--no`."""


def language(prompt: str) -> Language:
    """The words of a prompt without what is no language, and apart from them what `--no` excludes."""
    gone = [(*match.span(), match.lastgroup == "silent") for match in _GONE.finditer(prompt) if match.end()]
    unwanted = [match.span("unwanted") for match in _GONE.finditer(prompt) if match["no"]]
    added = [match.span(1) for match in _INVENTED.finditer(prompt)]
    words: list[Word] = []
    invented = set()
    for word in split_words(prompt):
        span = next((span for span in gone if word.start < span[1] and word.end > span[0]), None)
        if span is not None:
            if not span[2] and not (words and words[-1].is_mark):
                words.append(Word(",", word.start, word.end, is_mark=True))
            continue
        if any(start <= word.start and word.end <= end for start, end in added):
            invented.add(len(words))
        elif word.text in ("<", ">") and any(word.end == start or word.start == end for start, end in added):
            continue
        words.append(word)
    return Language(
        tuple(words),
        frozenset(invented),
        tuple(w for w in split_words(prompt) if any(a <= w.start and w.end <= b for a, b in unwanted)),
    )
