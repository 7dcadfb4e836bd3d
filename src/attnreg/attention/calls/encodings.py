"""What prompts became: the words that are to be heeded, where they stand, and what the edits make of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attnreg.attention.attending import Words
from attnreg.attention.calls.beside import TextsBeside, words_at, words_beside
from attnreg.attention.calls.edits import Edits
from attnreg.attention.calls.prepared import Prepared, prepare
from attnreg.attention.calls.prompts import prompts_in, warn_unmodified, words_of_prompts, words_received
from attnreg.attention.calls.received import Received, read, receiving
from attnreg.attention.calls.rows import rows_if_there
from attnreg.attention.calls.texts import TextEncoder
from attnreg.attention.families.family import Embeddings, Family, Texts
from attnreg.types import AttnregError

ProbeWords = Callable[[Mapping[str, list[Received]], Sequence[str], Embeddings, Callable[[], Texts]], Sequence[Family]]
REMEMBERED = 16
"""So many results of `encode_prompt` are known again when they are handed back."""


class Encoding(NamedTuple):
    """What one call of `encode_prompt` returned, and what the edits made of it."""

    texts: Texts
    """One embedding an image."""
    prepared: Prepared
    each: int
    """Images a prompt."""
    result: Any = None
    """All that was returned."""
    error: AttnregError | None = None
    """What is wrong with it, if it is drawn."""
    unheeded: tuple[str, ...] = ()
    """Prompts that name nothing, to be told of if they are drawn."""

    def warn_unheeded(self) -> None:
        """Say that those are drawn as they are."""
        for prompt in self.unheeded:
            warn_unmodified(prompt)

    def negatives(self, family: Family, encodings: Sequence[Encoding]) -> tuple[Any, ...] | None:
        """What was returned of negative prompts that are denoised in calls of their own; `None` if none are.

        encodings: all that was encoded for the picture, this one among them.
        """
        if family.negative is None:
            others = [one for one in encodings if one is not self]
            return family.conditions_in(others[-1].result) if others else None
        if not family.apart or self.texts.negative is None:
            return None
        return family.conditions_in(self.result, negative=True)

    def is_for_negatives(self, hidden: Embeddings, family: Family, encodings: Sequence[Encoding]) -> bool:
        """Whether a batch is of negative prompts alone, encoded on their own or with those that are drawn."""
        if family.negative is None:
            return any(rows_if_there(hidden, *one.texts) for one in encodings if one is not self)
        negative = self.texts.negative
        return family.apart and negative is not None and bool(rows_if_there(hidden, negative, None))


class FirstPart(NamedTuple):
    """What a call of `encode_prompt` made of which the next call makes the rest."""

    texts: Texts
    received: dict[str, list[Received]]
    handed_back: Prepared | None


class Encodings:
    """Encodes prompts as the pipeline does, and knows what came of them: it may be handed back, whole or by rows."""

    def __init__(
        self,
        pipe: Any,
        family: Family,
        edits: Edits,
        targets: Any,
        adjectives: bool,
        beside: TextsBeside | None = None,
    ) -> None:
        self.pipe, self.family, self.edits = pipe, family, edits
        self.targets, self.adjectives = targets, adjectives
        self.beside = beside
        """The words of embeddings that are made elsewhere, if the caller tells them."""
        self.known: deque[Encoding] = deque(maxlen=REMEMBERED)
        self.probe: ProbeWords | None = None
        """Finds the columns of each prompt's words, where no entry says how."""
        self.begun: FirstPart | None = None
        self.busy = False
        """Whether a prompt is being encoded."""

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
        try:
            self.busy = True
            return self._encoded(original, given, call, may_be_negative)
        finally:
            self.busy = False

    def _encoded(
        self, original: Callable[..., Any], given: dict[str, Any], call: Callable[[], Any], may_be_negative: bool
    ) -> tuple[Any, Encoding | None]:
        kept = {name: [*value] if isinstance(value, list) else value for name, value in given.items()}
        begun, self.begun = self.begun, None
        handed_back = begun.handed_back if begun else None
        prompts = prompts_in(self.family.given(given))  # before the pipeline writes into the list: some do
        words: Words | None = None
        error: AttnregError | None = None
        unheeded = list[str]()
        name_nothing = unheeded.append if may_be_negative else warn_unmodified
        try:
            handed_back = handed_back or self._handed_back(given)
            if not handed_back:
                # The words are looked up first where they can be: what is not there costs no time in the text encoder.
                encode = TextEncoder(self.pipe, self.family, original, given)
                words = self._words(prompts) if prompts is not None else self._words_beside(given, encode, name_nothing)
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
        if not handed_back and error is None and words is None:
            assert prompts is not None  # else there was an error
            try:
                words = self._words_received(
                    prompts, texts, behind, received, name_nothing, lambda: self._again(original, kept)
                )
            except AttnregError as wrong:
                if not may_be_negative:
                    raise
                error = wrong
        if error:
            encoding = Encoding(texts, Prepared(), 1, result, error)
        elif handed_back:
            each = len(texts.prompts) // len(handed_back.words)
            encoding = Encoding(texts, handed_back.repeated(each), each, result)
        else:
            assert words is not None
            each = len(texts.prompts) // len(words)
            encode = TextEncoder(self.pipe, self.family, original, given)
            apart = "prompt_embeds made elsewhere" if prompts is None else self.family.told_apart(given)
            made = prepare(self.edits, texts.prompts[::each], words, encode, apart=apart)
            encoding = Encoding(texts, made.repeated(each), each, result, unheeded=tuple(unheeded))
        self.known.append(encoding)
        return result, encoding

    def _words(self, prompts: list[str]) -> Words | None:
        """The words of the prompts by the pipeline's tokenizer; `None` where text encoders are to be asked."""
        if self.family.encoders:
            return None
        return words_of_prompts(self.pipe, self.family, prompts, self.targets, self.adjectives)

    def _again(self, original: Callable[..., Any], kept: dict[str, Any]) -> Texts:
        """What the same arguments become once more."""
        copied = {name: [*value] if isinstance(value, list) else value for name, value in kept.items()}
        return self.family.texts(original(**copied))

    def _words_beside(self, given: dict[str, Any], encode: TextEncoder, name_nothing: Callable[[str], None]) -> Words:
        """The words of embeddings that were made elsewhere, by what the caller tells of them."""
        embeddings = given.get("prompt_embeds")
        if embeddings is not None and self.beside:
            return words_beside(self.beside, embeddings, encode, self.targets, self.adjectives, name_nothing)
        if embeddings is not None and (words := words_at(self.targets, embeddings)):
            return words
        raise AttnregError(
            "expected a prompt in words, got prompt_embeds, in which no word can be found; pass prompt as text, what "
            "pipe.encode_prompt returned while regulated, the words as regulate(..., prompt=...), or token columns as "
            "targets=[2, (5, 6)]"
        )

    def _words_received(
        self,
        prompts: list[str],
        texts: Texts,
        behind: int,
        received: dict[str, list[Received]],
        name_nothing: Callable[[str], None],
        again: Callable[[], Texts],
    ) -> Words:
        """The words of the prompts where the text encoders read them; behind: columns behind those of the texts."""
        each = len(texts.prompts) // len(prompts)
        families: Sequence[Family] = [self.family] * len(prompts)
        if self.probe:
            families = self.probe(received, prompts, texts.prompts, again)
        found = [
            read(self.pipe, families[number], received, (number, prompts), len(texts.prompts[number * each]) + behind)
            for number in range(len(prompts))
        ]
        return words_received(found, self.targets, self.adjectives, name_nothing)

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
                    if encoding.error:
                        raise encoding.error
                    return encoding.prepared, image
        return None


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


def same(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors are equal, whatever their type."""
    return first.shape == second.shape and torch.equal(first, second.to(first))


def nothing_encoded() -> AttnregError:
    """The error for a call of the denoiser by someone else than the pipeline."""
    return AttnregError(
        "expected the pipeline to encode a prompt before it denoises, got a call of the denoiser alone; "
        "call the pipeline inside the regulated block"
    )
