"""Embeddings that were made beside the pipeline, and the words they were made of: told by the caller, in words.

Weights in a prompt, prompts longer than an encoder reads, several prompts in one: compel, sd_embed and the like feed
the pipeline's text encoders themselves. Where a word stands in what came of it is read from the token ids that these
encoders received, as it is for the pipeline's own encodings; nothing is assumed of how a long text was cut.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from numbers import Integral
from typing import Any

from torch import Tensor, nn

from attnreg.attention.calls.prompts import wanted_of, words_received
from attnreg.attention.calls.received import part_of, read, receiving
from attnreg.attention.calls.texts import TextEncoder
from attnreg.attention.families.family import Embeddings, Family, TextColumns
from attnreg.regulation.edit import PromptColumns, PromptWords
from attnreg.targets import Encoded, encoded_by
from attnreg.token_spans import Column, encoded, spans_of_parts
from attnreg.types import AttnregError, Target

KEPT = 512
"""So many texts that an encoder received are remembered."""


class TextsBeside:
    """What the text encoder that fills a family's columns receives, from whoever calls it."""

    def __init__(self, pipe: Any, family: Family, prompts: Sequence[str]) -> None:
        self.prompts = list(prompts)
        """The words of the embeddings, one text a row."""
        self.received: deque[list[int]] = deque(maxlen=KEPT)
        held = [one for one in family.encoders or _OF_UNETS if part_of(pipe, one.model) is not None]
        # Where several encoders fill columns, how others lay them out cannot be told.
        self.encoder: nn.Module | None = None
        if held and len(family.encoders) <= 1:
            self.encoder = part_of(pipe, held[0].model)
            tokenizer = getattr(pipe, held[0].tokenizer)
            self.tokenizer = getattr(tokenizer, "tokenizer", tokenizer)

    def around_encoder(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Note the token ids that the encoder is given."""

        @wraps(original)
        def forward(*args: Any, **kwargs: Any) -> Any:
            ids = kwargs.get("input_ids", args[0] if args else None)
            if isinstance(ids, Tensor) and ids.ndim == 2:
                self.received += ids.tolist()
            return original(*args, **kwargs)

        return forward

    def read(self, prompt: str, columns: int) -> Encoded | None:
        """A prompt as an embedding of so many columns holds it; `None` if the encoder did not receive it so."""
        if self.encoder is None or (parts := spans_of_parts(prompt, self.received, self.tokenizer)) is None:
            return None
        whole = sum(len(part.ids) for part in parts)
        # The marks between the parts may have been left out.
        cut = 1 if whole > columns and whole - 2 * (len(parts) - 1) == columns else 0
        if whole > columns and not cut:
            return None
        found: list[Column | None] = []
        for number, (ids, spans) in enumerate(parts):
            first, last = cut * (number > 0), len(ids) - cut * (number < len(parts) - 1)
            pieces = [str(self.tokenizer.convert_ids_to_tokens(token)) for token in ids]
            made = [span and Column(token, piece, span) for token, piece, span in zip(ids, pieces, spans, strict=True)]
            found += made[first:last]
        return encoded(prompt, found + [None] * (columns - len(found)))


_OF_UNETS = (TextColumns(), TextColumns("text_encoder_2", "tokenizer_2"))


def words_beside(
    beside: TextsBeside,
    embeddings: Embeddings,
    encode: TextEncoder,
    targets: Any,
    adjectives: bool,
    name_nothing: Callable[[str], None],
) -> list[PromptWords | None]:
    """The words of embeddings, one text each, where its encoder received them or else where the pipeline puts them.

    `name_nothing` is told of a text that names no thing.
    Raises `AttnregError` for another number of texts, and for an embedding that is not laid out as the pipeline's are.
    """
    prompts = beside.prompts
    if len(prompts) != len(embeddings):
        raise AttnregError(
            f"prompt: expected the words of {len(embeddings)} embeddings, got {len(prompts)} texts; give one an image"
        )
    read = [_read(beside, encode, prompt, len(one)) for prompt, one in zip(prompts, embeddings, strict=True)]
    words = words_received(read, targets, adjectives, name_nothing)
    if encode.family.encoders:
        return words
    return [one and _with_marks(one, where) for one, where in zip(words, read, strict=True)]


def _read(beside: TextsBeside, encode: TextEncoder, prompt: str, columns: int) -> Encoded:
    if (there := beside.read(prompt, columns)) is not None:
        return there
    with receiving(encode.pipe, encode.family) as received:
        own = len(encode(prompt).embedding)
    if own != columns:
        raise AttnregError(
            f"expected the embedding of {prompt[:60]!r} in {own} columns, as the pipeline makes it, got {columns}; "
            "make it inside of the regulate block, where the text encoder is seen, or name token columns: "
            "targets=[2, (5, 6)]"
        )
    if encode.family.encoders:
        return read(encode.pipe, encode.family, received, (0, [prompt]), columns)
    return encoded_by(prompt, encode.tokenizer)


def _with_marks(words: PromptWords, where: Encoded) -> PromptWords:
    """CLIP's start token comes first, and its end-of-text token behind the words."""
    last = max(column for column, span in enumerate(where.spans) if span is not None)
    end = last + 1 if last + 1 < len(where.spans) else None
    return replace(words, columns=replace(words.columns, start_of_text=0, end_of_text=end, words=None))


def words_at(targets: Any, embeddings: Embeddings) -> list[PromptWords | None] | None:
    """The targets of embeddings whose words nobody knows, where all are named by token columns; else `None`.

    Raises `AttnregError` for columns that they do not have.
    """
    if targets is None or not (wanted := wanted_of(targets, len(embeddings))):
        return None
    if not all(_of_columns(one) for one in wanted):
        return None
    return [_at(named, len(one)) for named, one in zip(wanted, embeddings, strict=True)]


def _of_columns(targets: Any) -> bool:
    return targets is not None and all(
        isinstance(target, Integral)
        or (isinstance(target, tuple) and target and all(isinstance(column, Integral) for column in target))
        for target in targets
    )


def _at(targets: Any, columns: int) -> PromptWords | None:
    if not targets:
        return None
    found = []
    for target in targets:
        tokens = tuple(sorted({int(target)} if isinstance(target, Integral) else {int(column) for column in target}))
        if tokens[0] < 0 or tokens[-1] >= columns:
            raise AttnregError(
                f"expected token columns of an embedding of {columns}, got {target}; choose from 0 to {columns - 1}"
            )
        name = "column" if len(tokens) == 1 else "columns"
        found.append(Target(f"{name} {', '.join(map(str, tokens))}", tokens))
    return PromptWords(PromptColumns(tuple(target.tokens for target in found)), tuple(found))
