"""What the edits make of some prompts before the first step, while the pipeline's text encoders are at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from attnreg.attention.attending import Words
from attnreg.attention.calls.edits import Edits
from attnreg.attention.calls.reread import PromptEncoder
from attnreg.attention.calls.texts import TextEncoder
from attnreg.attention.families.family import Embeddings
from attnreg.regulation.auto import Auto
from attnreg.regulation.edit import PromptWords
from attnreg.regulation.kinds import Embedded, EncodedText, StartEdit
from attnreg.types import AttnregError, Embedding


@dataclass(frozen=True)
class Prepared:
    """What was made of some prompts, each; nothing where nothing is to be heeded."""

    words: Words = field(default_factory=list)
    embedded: list[Embedded | None] = field(default_factory=list)
    phrases: list[list[EncodedText]] = field(default_factory=list)
    readings: list[list[EncodedText]] = field(default_factory=list)
    """The texts that what a start leads to is read with, the prompt first."""
    unread: list[str] = field(default_factory=list)
    """Why what a start leads to cannot be read, half a sentence; empty where it can."""
    emptied: list[Embedding | None] = field(default_factory=list)
    """What each would be if it said nothing (`kinds.Encode.emptied`), where an edit asks for it."""
    nothing: EncodedText | None = None
    """The empty text, where predictions are edited."""

    def repeated(self, each: int) -> Prepared:
        """The same of so many images a prompt."""
        return Prepared.of([(self, number) for number in range(len(self.words)) for _ in range(each)])

    @staticmethod
    def of(images: Sequence[tuple[Prepared, int]]) -> Prepared:
        """What was made of some prompts, one an image: which of those that were prepared together it is."""
        return Prepared(
            [made.words[number] for made, number in images],
            [made.embedded[number] for made, number in images],
            [made.phrases[number] for made, number in images],
            [made.readings[number] for made, number in images],
            [made.unread[number] for made, number in images],
            [made.emptied[number] for made, number in images],
            images[0][0].nothing,
        )


def prepare(edits: Edits, embeddings: Embeddings, words: Words, encode: TextEncoder, *, apart: str = "") -> Prepared:
    """What the edits make of the prompts, given what each became `(token, channel)`.

    Args:
        edits: what is installed.
        embeddings: of every prompt.
        words: of every prompt; `None` where nothing is to be heeded.
        encode: encodes other texts as the pipeline does.
        apart: what the embeddings were made of beside the prompt, in words; "" if of the prompt alone.

    Raises:
        AttnregError: if an edit needs other texts beside embeddings that were made of more than the prompt.
    """
    if apart:
        asking = edits.latent if "text" in edits.asked else None
        start = None if edits.auto else edits.start
        needy = [edit for edit in (edits.embedding, edits.prediction, start, asking) if edit]
        if any(edit.strength for edit in needy):
            raise AttnregError(
                f"expected a prompt as text, got {apart}, beside which {type(needy[0]).__name__} would encode "
                "texts of its own in another way; pass prompt alone, as text, or choose attention-balance"
            )
    embedding, prediction, start = edits.embedding, edits.prediction, edits.start
    predicts = prediction is not None and prediction.strength
    nothing = encode("") if predicts else None
    each = len(words)
    made = Prepared(
        words, [None] * each, [[] for _ in words], [[] for _ in words], [""] * each, [None] * each, nothing
    )  # fmt: skip
    for number, one in enumerate(words):
        if one is None:
            continue
        own_encode = PromptEncoder(encode, embeddings[number], one)
        if embedding is not None and embedding.strength:
            made.embedded[number] = embedding.embed(embeddings[number], own_encode, one)
        if "text" in edits.asked:
            made.emptied[number] = own_encode.emptied()
        if prediction is not None and predicts:
            made.phrases[number] = [encode(text) for text in prediction.phrases(one)]
        if start is not None and start.strength:
            if apart:
                made.unread[number] = f"with {apart}, other texts would not be encoded alike"
            elif edits.auto:
                made.unread[number] = _unread(edits.auto, one, encode)
            if not made.unread[number]:
                made.readings[number] = _readings(start, one, encode)
    return made


def _readings(start: StartEdit, words: PromptWords, encode: TextEncoder) -> list[EncodedText]:
    """The texts that what a start leads to is read with, the prompt first."""
    if encode.has_placeholders(words.prompt):
        raise AttnregError(
            f"expected a prompt in which words can change places, got {words.prompt!r} of textual inversion, whose "
            "placeholders stand for several tokens; choose a method that edits attention"
        )
    return [encode(text) for text in (words.prompt, *start.texts(words))]


def _unread(auto: Auto, words: PromptWords, encode: TextEncoder) -> str:
    """Why what a start leads to cannot be read, half a sentence; empty if it can."""
    if encode.has_placeholders(words.prompt):
        return "placeholders of textual inversion stand for several tokens, which cannot change places"
    broken = auto.start.no_whole_word(words)
    return f"{broken} is no whole word of the prompt" if broken else ""
