"""ToMe: one token for a thing and its attributes, and an end of text that knows the things alone (arXiv:2411.07132)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from attnreg.heads import Parts, bare_text, parts_of
from attnreg.regulation.edit import PromptWords
from attnreg.regulation.kinds import Embedded, Encode
from attnreg.regulation.settings import GatedSettings, in_window, number, setting, yes_or_no
from attnreg.types import Embedding, Target
from attnreg.words import numbered, occurrences, split_words

VOWELS = "aeiou"


@dataclass(frozen=True, kw_only=True)
class ToMe(GatedSettings):
    """`c = a sum_n e_n + b sum_m e_m` in the place of a noun's first token; the phrase's other tokens become 0.

    Hu et al., NeurIPS 2024, the token merging and the end token substitution: n are the noun's tokens, m those of its
    modifiers, e what the prompt became, a is `noun` (1.1 as published), b is `modifiers` (1.2). End of text and padding
    are those of the prompt without the modifiers ("a cat and a dog" for "a blue cat and a red dog"), since they hold
    the whole prompt, attributes in a heap.

    The paper then refines the composite token by a gradient of two losses, which is left out here. A noun without a
    modifier keeps its tokens; a prompt of such nouns alone is drawn unmodified. Where the text encoder has no
    end of text that is known by its column (none of CLIP's), tokens are merged alone.
    What the prompt is in one vector (SDXL) stays as it was.
    """

    window: tuple[float, float] = in_window(0.0, 1.0)
    noun: float = setting(1.1, number(0.0), "a: weight of the noun's tokens in the composite one")
    modifiers: float = setting(1.2, number(0.0), "b: weight of the tokens of its modifiers")
    ends: bool = setting(True, yes_or_no, "end of text and padding are those of the prompt without the modifiers")

    def embed(self, embedding: Embedding, encode: Encode, words: PromptWords) -> Embedded | None:
        """The prompt's embedding with each phrase merged; see `kinds.EmbeddingEdit`."""
        parts = [parts_of(target, words.prompt) for target in words.targets]
        if not any(part.modifiers for part in parts):
            return None
        exact = embedding.float()
        merged = exact.clone()
        for part in parts:
            for noun, modifiers in spellings(part) if part.modifiers else ():
                merged[[*noun, *modifiers]] = 0
                merged[noun[0]] = self.noun * exact[list(noun)].sum(0) + self.modifiers * exact[list(modifiers)].sum(0)
        end = words.columns.end_of_text
        if self.ends and end is not None:
            bare = encode(without_modifiers(words.targets, words.prompt))
            first = min(max(bare.own, default=0) + 1, end)
            merged[end:] = bare.embedding.to(exact)[first : first + len(exact) - end]
        made = torch.lerp(exact, merged, self.strength).to(embedding.dtype)
        return Embedded(made, made)


def spellings(part: Parts) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The columns of a noun and of its modifiers, once for each text encoder that spells them in columns of its own."""
    words = [runs(word) for word in (part.noun, *part.modifiers)]
    if len({len(word) for word in words}) > 1:  # a word that is no run of columns: one encoder
        words = [[word] for word in (part.noun, *part.modifiers)]
    return [(noun, tuple(column for word in others for column in word)) for noun, *others in zip(*words, strict=True)]


def runs(columns: Sequence[int]) -> list[tuple[int, ...]]:
    """Columns, cut where one does not follow the other."""
    found: list[tuple[int, ...]] = []
    for column in columns:
        if found and found[-1][-1] + 1 == column:
            found[-1] = (*found[-1], column)
        else:
            found.append((column,))
    return found


def without_modifiers(targets: Sequence[Target], prompt: str) -> str:
    """The prompt with each target's modifiers left out, "a" or "an" before them set right."""
    bare = {target: bare_text(target, prompt) for target in targets}
    # From the last to the first, by which the numbers of those that are written alike stay true.
    for target in sorted(targets, key=lambda one: one.tokens, reverse=True):
        text, nth = numbered(target.text)
        found = occurrences(text, split_words(prompt))[nth - 1 : nth]
        for run in found:
            start, end = run[0].start, run[-1].end
            before = _with_article(prompt[:start], prompt[start], bare[target][0])
            prompt = before + bare[target] + prompt[end:]
    return prompt


def _with_article(before: str, old: str, new: str) -> str:
    """What stands before a word, its article as the word's first letter wants it where that is of the other kind."""
    if (old.lower() in VOWELS) == (new.lower() in VOWELS):
        return before
    article = r"\1n\2" if new.lower() in VOWELS else r"\1\2"
    return re.sub(r"\b(a)n?(\s+)$", article, before, flags=re.IGNORECASE)
