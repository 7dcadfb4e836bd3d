"""What prompts became: the words that are to be heeded, where they stand, and what the edits make of them."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attnreg.attention.attending import Words
from attnreg.attention.calls.edits import Edits
from attnreg.attention.calls.prepared import Prepared, prepare
from attnreg.attention.calls.prompts import prompts_in, words_of_prompts, words_received
from attnreg.attention.calls.received import Received, read, receiving
from attnreg.attention.calls.rows import rows_if_there
from attnreg.attention.calls.texts import TextEncoder
from attnreg.attention.families.family import Embeddings, Family, Texts
from attnreg.types import AttnregError

REMEMBERED = 16
"""So many results of `encode_prompt` are known again when they are handed back."""


class Encoding(NamedTuple):
    """What one call of `encode_prompt` returned, and what the edits made of it."""

    texts: Texts
    """One embedding an image."""
    prepared: Prepared
    each: int
    """Images a prompt."""
    error: AttnregError | None = None
    """What is wrong with it, if it is drawn."""
    warned: tuple[str, ...] = ()
    """What there is to say of it, if it is drawn."""

    def check(self) -> None:
        """Say of what is drawn what is wrong with it; raises `AttnregError`."""
        if self.error:
            raise self.error
        for text in self.warned:
            warnings.warn(text, stacklevel=2)


class FirstPart(NamedTuple):
    """What a call of `encode_prompt` made of which the next call makes the rest."""

    texts: Texts
    received: dict[str, Received]
    handed_back: Prepared | None


class Encodings:
    """Encodes prompts as the pipeline does, and knows what came of them: it may be handed back, whole or by rows."""

    def __init__(self, pipe: Any, family: Family, edits: Edits, targets: Any, adjectives: bool) -> None:
        self.pipe, self.family, self.edits = pipe, family, edits
        self.targets, self.adjectives = targets, adjectives
        self.known: deque[Encoding] = deque(maxlen=REMEMBERED)
        self.begun: FirstPart | None = None

    def encoded(
        self, original: Callable[..., Any], given: dict[str, Any], call: Callable[[], Any], may_be_negative: bool
    ) -> tuple[Any, Encoding | None]:
        """What `encode_prompt` returns, and what the edits make of it; `None` if the next call encodes the rest.

        Args:
            original: the pipeline's own `encode_prompt`.
            given: its arguments by name.
            call: calls it with them.
            may_be_negative: whether it may be asked for the negative prompt alone: then what is wrong with a text
                counts only once it is drawn.

        Raises:
            AttnregError: for a target that cannot be found, and for embeddings that nobody knows.
        """
        begun, self.begun = self.begun, None
        handed_back = begun.handed_back if begun else None
        prompts = prompts_in(self.family.given(given))  # before the pipeline writes into the list: some do
        words: Words | None = None
        error: AttnregError | None = None
        try:
            handed_back = handed_back or self._handed_back(given)
            if not handed_back:
                # The words are looked up first where they can be: what is not there costs no time in the text encoder.
                words = self._words(prompts)
        except AttnregError as wrong:
            if not may_be_negative:
                raise
            error = wrong
        with receiving(self.pipe, self.family) as received:
            result = call()
        texts = self.family.texts(result)
        if self.family.is_first_part(given):
            self.begun = FirstPart(texts, received, handed_back)
            return result, None
        behind = 0
        if begun:  # an encoder that was not asked leaves its columns unknown
            texts, behind = begun.texts, len(texts.prompts[0])
            received = begun.received | received if begun.received and received else {}
        warned: tuple[str, ...] = ()
        if not handed_back and error is None and words is None:
            assert prompts is not None  # else there was an error
            try:
                with _kept_warnings(may_be_negative) as kept:
                    words = self._words_received(prompts, texts, behind, received)
                warned = tuple(str(one.message) for one in kept or ())
            except AttnregError as wrong:
                if not may_be_negative:
                    raise
                error = wrong
        if error:
            encoding = Encoding(texts, Prepared(), 1, error)
        elif handed_back:
            each = len(texts.prompts) // len(handed_back.words)
            encoding = Encoding(texts, handed_back.repeated(each), each)
        else:
            assert words is not None
            each = len(texts.prompts) // len(words)
            encode = TextEncoder(self.pipe, self.family, original, given)
            made = prepare(self.edits, texts.prompts[::each], words, encode)
            encoding = Encoding(texts, made.repeated(each), each, warned=warned)
        self.known.append(encoding)
        return result, encoding

    def _words(self, prompts: list[str] | None) -> Words | None:
        """The words of the prompts by the pipeline's tokenizer; `None` where text encoders are to be asked."""
        if prompts is None:
            raise AttnregError(
                "expected a prompt in words, got prompt_embeds, in which no word can be found; "
                "pass prompt as text, or what pipe.encode_prompt returned while regulated"
            )
        if self.family.encoders:
            return None
        return words_of_prompts(self.pipe, prompts, self.targets, self.adjectives)

    def _words_received(self, prompts: list[str], texts: Texts, behind: int, received: dict[str, Received]) -> Words:
        """The words of the prompts where the text encoders read them; behind: columns behind those of the texts."""
        each = len(texts.prompts) // len(prompts)
        found = []
        for number, prompt in enumerate(prompts):
            width = len(texts.prompts[number * each]) + behind
            found.append(read(self.pipe, self.family, received, prompt, self.family.first_read + number, width))
        return words_received(found, self.targets, self.adjectives)

    def _handed_back(self, given: dict[str, Any]) -> Prepared | None:
        """What the embeddings that `encode_prompt` is given were made of, if it returned them before, row by row."""
        embeddings = given.get("prompt_embeds")
        if given.get("prompt") is not None or embeddings is None:
            return None
        rows = [self._known(row) for row in embeddings]
        return None if None in rows else Prepared.of([row for row in rows if row is not None])

    def _known(self, row: Tensor) -> tuple[Prepared, int] | None:
        """What a text's embedding was made of: something that was encoded, and which of its images."""
        for encoding in reversed(self.known):
            for image, one in enumerate(encoding.texts.prompts):
                if same(row, one):
                    encoding.check()
                    return encoding.prepared, image
        return None


@contextmanager
def _kept_warnings(keep: bool) -> Iterator[list[warnings.WarningMessage] | None]:
    """Keep what is warned of in a list instead of saying it, or say it as ever."""
    if not keep:
        yield None
        return
    with warnings.catch_warnings(record=True) as kept:
        warnings.simplefilter("always")
        yield kept


def check_caller(pipe: Any, family: Family, frame: Any) -> None:
    """Raises `AttnregError` if a copy of the pipeline calls what it has copied with all else; frame: who calls."""
    while frame is not None and getattr(frame.f_locals.get("self"), family.denoiser, None) is None:
        frame = frame.f_back
    caller = frame.f_locals["self"] if frame is not None else pipe
    if caller is not pipe and vars(caller).get("encode_prompt") is vars(pipe).get("encode_prompt"):
        raise AttnregError(
            f"expected the {type(pipe).__name__} that was regulated to draw, got a copy, whose steps are "
            "not its; apply the regulation to the copy, or copy the pipeline before"
        )


def is_negative(hidden: Embeddings, family: Family, drawn: Encoding, encoded: Sequence[Encoding]) -> bool:
    """Whether the denoiser is called for the negative prompts alone of what is drawn.

    Args:
        hidden: the texts that it is given.
        family: how its pipelines encode negative prompts.
        drawn: what the picture is drawn from.
        encoded: all that was encoded for it.
    """
    if family.negative is None:
        return any(rows_if_there(hidden, *one.texts) for one in encoded if one is not drawn)
    negative = drawn.texts.negative if family.negative_alone else None
    return negative is not None and rows_if_there(hidden, negative, None) is not None


def same(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors are equal, whatever their type."""
    return first.shape == second.shape and torch.equal(first, second.to(first))
