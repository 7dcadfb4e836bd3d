"""A prompt read once more by the pipeline's text encoders, with some of its tokens hidden or made empty."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

from attnreg.attention.calls.received import Filled, filled, read, receiving
from attnreg.attention.calls.texts import TextEncoder, TokenChange
from attnreg.regulation.edit import PromptWords
from attnreg.regulation.kinds import EncodedText
from attnreg.types import AttnregError, Embedding

OF_UNETS = ("text_encoder", "text_encoder_2")
"""Whose tokens fill the columns of a UNet's text, one each."""


class _Alone(NamedTuple):
    """How the prompt is laid out where it is encoded alone: beside longer ones it may be filled up."""

    filled: list[Filled]
    where: dict[int, int]
    """The column of each of its own tokens, by that in the embedding that is edited."""


class PromptEncoder:
    """`kinds.Encode` of one prompt: what is made of it is laid out as its embedding is."""

    def __init__(self, encode: TextEncoder, embedding: Embedding, words: PromptWords) -> None:
        self.encode, self.embedding, self.words = encode, embedding, words

    def __call__(self, text: str, masked: Sequence[int] = ()) -> EncodedText:
        """Any text; or the prompt, no token of which sees what stands in some columns of its embedding."""
        if not masked:
            return self.encode(text)
        if text != self.words.prompt:
            raise AttnregError(
                f"expected the prompt {self.words.prompt!r}, some of whose columns are masked, got {text!r}; encode "
                "other texts whole"
            )
        if not self.encode.family.encoders:
            return self.encode(text, dict.fromkeys(OF_UNETS, TokenChange(masked)))
        there = self._there(masked)
        return EncodedText(self._with({one.model: TokenChange(_tokens(one, there)) for one in self._alone.filled}), ())

    def emptied(self) -> Embedding:
        """The empty prompt; where it would be shorter than the prompt, or lie otherwise, padding instead of words."""
        if not self.encode.family.encoders:
            return self.encode("").embedding
        there = self._there(self._columns)
        changes = {}
        for one in self._alone.filled:
            if (padding := one.tokenizer.pad_token_id) is None:
                raise AttnregError(
                    f"expected a tokenizer that fills up short texts, got {type(one.tokenizer).__name__} without a "
                    "pad_token, so that it is not known how the text encoder reads nothing; set it"
                )
            changes[one.model] = TokenChange(_tokens(one, there), padding)
        return self._with(changes)

    @property
    def _columns(self) -> tuple[int, ...]:
        """Of the prompt's own tokens."""
        assert self.words.columns.words is not None  # known wherever text encoders tell
        return self.words.columns.words

    def _there(self, columns: Sequence[int]) -> set[int]:
        return {self._alone.where[column] for column in columns}

    @cached_property
    def _alone(self) -> _Alone:
        pipe, family, prompt = self.encode.pipe, self.encode.family, self.words.prompt
        with receiving(pipe, family) as received:
            width = len(self.encode(prompt).embedding)
        spans = read(pipe, family, received, (0, [prompt]), width).spans
        own = [column for column, span in enumerate(spans) if span is not None]
        if len(own) != len(self._columns):
            raise AttnregError(
                f"expected {prompt!r} to be {len(self._columns)} tokens when it is encoded alone, got {len(own)}; "
                "draw it alone, or choose a method that edits attention"
            )
        where = dict(zip(self._columns, own, strict=True))
        return _Alone(filled(pipe, family, received, (0, 1), width), where)

    def _with(self, changes: dict[str, TokenChange]) -> Embedding:
        """The prompt with these changes, laid out as its embedding, which is kept where nothing reaches."""
        made = self.encode(self.words.prompt, changes).embedding
        shift = self._columns[0] - self._alone.where[self._columns[0]]
        first, last = max(shift, 0), min(shift + len(made), len(self.embedding))
        laid = self.embedding.clone()
        laid[first:last] = made[first - shift : last - shift].to(laid)
        return laid


def _tokens(one: Filled, columns: set[int]) -> list[int]:
    """Which of an encoder's tokens fill some columns."""
    return [token for token, column in enumerate(one.columns) if column in columns]
