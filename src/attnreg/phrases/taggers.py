"""The tagger behind the noun phrases: spaCy with an English model if both are installed, else the bundled lexicon.

Loaded when the first prompt is read, once a process; a line of the log says which.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
from collections.abc import Sequence
from typing import Any

_log = logging.getLogger("attnreg")
# The parts of a pipeline that the tags do not need.
_UNUSED = ["parser", "ner", "lemmatizer", "senter", "textcat"]


@functools.cache  # loading a model takes about a second
def spacy_english() -> Any | None:
    """An English spaCy pipeline if the user has installed one: a general one (`en_core_...`) before any other."""
    name = spacy_model()
    _log.info("noun phrases by %s", in_use())
    if name is None:
        return None
    import spacy

    return spacy.load(name, exclude=_UNUSED)


def in_use() -> str:
    """What tells the parts of speech here, in words."""
    name = spacy_model()
    return f"spaCy with {name}" if name else "the bundled lexicon (no spaCy with an English model)"


def spacy_model() -> str | None:
    """The name of the English model that spaCy will be asked for; `None` if it or spaCy is not installed."""
    if importlib.util.find_spec("spacy") is None:
        return None
    import spacy

    names = sorted(name for name in spacy.util.get_installed_models() if name.startswith("en_"))
    return next((name for name in names if name.startswith("en_core_")), names[0] if names else None)


def tags_of(words: Sequence[str]) -> list[str] | None:
    """Penn Treebank part-of-speech tags, one a word, in the words' own case; `None` without a tagger."""
    english = spacy_english()
    if english is None or not words:
        return None
    from spacy.tokens import Doc

    return [token.tag_ for token in english(Doc(english.vocab, words=list(words)))]
