"""The noun phrases of an English prompt: which of its words name the things a picture must show.

What is no language is left out (`syntax`), every word gets a part of speech (`taggers`, `letters`), a regular
expression over them finds the phrases, and those that name the picture itself, its manner, or what shall not be there
(`excluded`) are no things.
"""

from attnreg.phrases.find import Phrase, Reading, find_phrases, read

__all__ = ["Phrase", "Reading", "find_phrases", "read"]
