"""From a prompt to its targets: which columns of the text encoder's output each word or phrase fills.

Words are laid over tokens by the tokenizer's own character offsets, so any fast tokenizer will do: byte pairs (CLIP),
SentencePiece (T5) or whole words; nothing is inferred from how a piece is spelled.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, NamedTuple

from attnreg.phrases import find_phrases, read
from attnreg.types import AttnregError, Target
from attnreg.words import Word, numbered, occurrences, split_words

TargetSpec = str | int | Sequence[int]
"""A word or phrase of the prompt ("blue umbrella", "dog#2" for the second dog), a token column, or several columns."""

_UNLIMITED = 1_000_000  # tokenizers without a limit name an absurdly large one


def find_targets(
    prompt: str,
    tokenizer: Any,
    targets: Sequence[TargetSpec] | None = None,
    *,
    adjectives: bool = True,
    max_length: int | None = None,
) -> tuple[Target, ...]:
    """The targets of a prompt: those the caller names, in that order, or every noun phrase of the prompt.

    tokenizer: any fast tokenizer of transformers.
    targets: `None` finds the noun phrases of an English prompt (see `find_phrases`), each occurrence a target of its
        own, without those that the tokenizer cuts off or has no token for and those that the prompt excludes (a
        warning names them). A string is a word or
        phrase of the prompt, exactly the words given; where it occurs several times, the first occurrence, unless
        "dog#2" asks for the second. An integer, or several, are token columns as Attend-and-Excite counts them (0 is
        the start token).
    adjectives: whether the adjectives of a phrase found automatically belong to its target ("blue umbrella").
    max_length: columns of the text encoder's output, where the pipeline's differ from the tokenizer's own
        `model_max_length`.

    A target's text is a specification again: given as a string, "dog#2" finds the same dog.

    Raises `AttnregError` for a target the prompt lacks or the tokenizer cut off, for two targets that share tokens, for
    an empty list, for a prompt without a noun or in another language, and for a tokenizer without offsets.
    """
    if isinstance(targets, str):
        raise AttnregError(f"expected a list of targets, got the string {targets!r}; write targets=[{targets!r}]")
    if targets is not None and not len(targets):
        raise AttnregError("expected at least one target, got an empty list; name words of the prompt, or pass None")
    return targets_in(encoded_by(prompt, tokenizer, max_length), targets, adjectives)


class FoundTargets(NamedTuple):
    """The targets of a prompt, and what is to be said of what is none."""

    targets: tuple[Target, ...]
    notes: tuple[str, ...] = ()
    """One line on each kind of words that were left out, and what to do."""


def targets_in(encoded: Encoded, targets: Sequence[TargetSpec] | None, adjectives: bool = True) -> tuple[Target, ...]:
    """The targets of a prompt whose columns are known; arguments and errors as of `find_targets`."""
    found = look_in(encoded, targets, adjectives)
    for note in found.notes:
        warnings.warn(f"attnreg: {note}", stacklevel=2)
    return found.targets


def look_in(encoded: Encoded, targets: Sequence[TargetSpec] | None, adjectives: bool) -> FoundTargets:
    """As `targets_in`, for who shows the notes himself: nothing is warned of."""
    if targets is None:
        return _automatic(encoded, adjectives)
    named = tuple(_one(encoded, spec) for spec in targets)
    _refuse_overlap(encoded, named)
    return FoundTargets(named)


def nothing_found(prompt: str) -> str:
    """One line on why a prompt without targets of its own has none, and what to do."""
    if not read(prompt).is_english:
        return (
            f"{prompt!r} does not look English, so no word of it was picked; name the things as the prompt writes "
            "them: targets=[...]"
        )
    return f"no noun found in {prompt!r}; name the words: targets=[...]"


def end_of_text(prompt: str, tokenizer: Any, *, max_length: int | None = None) -> int:
    """The column of the first end-of-text token after the prompt's own tokens.

    Raises `AttnregError` if the tokenizer adds none.
    """
    encoded = encoded_by(prompt, tokenizer, max_length)
    after = max((column + 1 for column, span in enumerate(encoded.spans) if span is not None), default=0)
    for column in range(after, len(encoded.ids)):
        if encoded.ids[column] == tokenizer.eos_token_id:
            return column
    raise AttnregError(f"expected an end-of-text token after {prompt!r}, got none; this tokenizer adds none")


@dataclass(frozen=True)
class Encoded:
    """A prompt as the text encoder gets it."""

    prompt: str
    words: tuple[Word, ...]
    ids: tuple[int, ...]
    pieces: tuple[str, ...]
    spans: tuple[tuple[int, int] | None, ...]
    """The characters of the prompt each column stands for; `None` for start, end-of-text and padding."""
    unknown: frozenset[int]
    """Columns whose text the vocabulary lacks."""
    cut: int
    """The first character beyond the token limit, or the prompt's length."""

    def columns(self, words: Sequence[Word]) -> tuple[int, ...]:
        """Every column that stands for a part of the words.

        A word that textual inversion made of several vectors is written out in the prompt ("<toy> <toy>_1"): its other
        vectors are parts of it.
        """
        spans = [(column, *span) for column, span in enumerate(self.spans) if span is not None]
        held = [
            column
            for column, start, end in spans
            if start < end and any(start < word.end and end > word.start for word in words)
        ]
        for column in tuple(held):
            further = column + 1
            while further < len(self.pieces) and self.pieces[further] == f"{self.pieces[column]}_{further - column}":
                held.append(further)
                further += 1
        return tuple(sorted(set(held)))


def encoded_by(prompt: str, tokenizer: Any, max_length: int | None = None) -> Encoded:
    """The prompt encoded as pipelines do: padded and cut to the text encoder's length."""
    if not getattr(tokenizer, "is_fast", False):
        raise AttnregError(
            f"expected a tokenizer with character offsets, got {type(tokenizer).__name__}; load the fast one "
            "(AutoTokenizer.from_pretrained(...), or the model's ...TokenizerFast)"
        )
    length = tokenizer.model_max_length if max_length is None else max_length
    limits = {"padding": "max_length", "max_length": length, "truncation": True} if length < _UNLIMITED else {}
    rows = tokenizer(
        prompt, **limits, return_overflowing_tokens=True, return_offsets_mapping=True, return_special_tokens_mask=True
    )
    ids = [int(i) for i in rows["input_ids"][0]]
    spans = [_spans(*row) for row in zip(rows["offset_mapping"], rows["special_tokens_mask"], strict=True)]
    return Encoded(
        prompt=prompt,
        words=split_words(prompt),
        ids=tuple(ids),
        pieces=tuple(tokenizer.convert_ids_to_tokens(ids)),
        spans=spans[0],
        unknown=frozenset(c for c, span in enumerate(spans[0]) if span and ids[c] == tokenizer.unk_token_id),
        cut=min((span[0] for row in spans[1:] for span in row if span is not None), default=len(prompt)),
    )


def _spans(offsets: Sequence[tuple[int, int]], special: Sequence[int]) -> tuple[tuple[int, int] | None, ...]:
    return tuple(None if mask else (start, end) for (start, end), mask in zip(offsets, special, strict=True))


def _automatic(encoded: Encoded, adjectives: bool) -> FoundTargets:
    found: list[Target] = []
    left_out: list[str] = []
    phrases = find_phrases(encoded.prompt)
    for phrase in phrases:
        words = phrase.words if adjectives else phrase.nouns
        columns = encoded.columns(words)
        taken = {column for target in found for column in target.tokens}
        if words[-1].end <= encoded.cut and columns and not taken.union(encoded.unknown).intersection(columns):
            found.append(_target(encoded, columns, words))
        else:
            left_out.append(" ".join(word.text for word in words))
    notes = []
    if excluded := read(encoded.prompt).excluded:
        notes.append(
            f"not regulated, since the prompt says that it shall not be there: {', '.join(excluded)}; "
            "a model tends to draw what it reads: put it into the negative prompt instead"
        )
    if not found:
        unread = (
            f"no noun that the tokenizer knows and keeps found in {encoded.prompt!r}; name the words: targets=[...]"
        )
        raise AttnregError("; ".join([unread if phrases else nothing_found(encoded.prompt), *notes]))
    if left_out:
        notes.append(
            f"not regulated, since the text encoder's {len(encoded.ids)} tokens do not hold them: "
            f"{', '.join(left_out)}; shorten the prompt"
        )
    return FoundTargets(tuple(found), tuple(notes))


def _one(encoded: Encoded, spec: TargetSpec) -> Target:
    if isinstance(spec, str):
        words = _named(encoded, spec)
        return _target(encoded, encoded.columns(words), words)
    columns: list[Any] = [spec] if isinstance(spec, Integral) else list(spec) if isinstance(spec, Sequence) else [None]
    if not all(isinstance(column, Integral) and not isinstance(column, bool) for column in columns):
        raise AttnregError(
            f"expected a target as text or as token columns, got {spec!r}; write a word of the prompt, 2 or (2, 3)"
        )
    return _numbered(encoded, tuple(int(column) for column in columns))


def _named(encoded: Encoded, spec: str) -> tuple[Word, ...]:
    """The words a string stands for."""
    phrase, nth = numbered(spec)
    runs = occurrences(phrase, encoded.words)
    if not runs:
        raise AttnregError(f"no token of the prompt matches {phrase!r}{_suggestion(phrase, encoded.words)}")
    if not 1 <= nth <= len(runs):
        allowed = f"{phrase!r}" if len(runs) == 1 else f"'{phrase}#1' to '{phrase}#{len(runs)}'"
        raise AttnregError(
            f"expected one of the {len(runs)} occurrences of {phrase!r} in the prompt, got {spec!r}; write {allowed}"
        )
    words = runs[nth - 1]
    if words[-1].end > encoded.cut:
        raise AttnregError(
            f"{spec!r} lies beyond the {len(encoded.ids)} tokens the text encoder reads, which end with "
            f"{encoded.prompt[: encoded.cut][-40:].strip()!r}; shorten the prompt or move {phrase!r} forward"
        )
    columns = encoded.columns(words)
    if not columns or encoded.unknown.intersection(columns):
        lacking = [word.text for word in words if not set(encoded.columns([word])) - encoded.unknown]
        raise AttnregError(
            f"the tokenizer's vocabulary lacks {', '.join(map(repr, lacking or [phrase]))}, so the model cannot read "
            f"{spec!r}; choose words it knows"
        )
    return words


def _suggestion(phrase: str, words: tuple[Word, ...]) -> str:
    known = list(dict.fromkeys(word.text.lower() for word in words if not word.is_mark))
    size = max(1, len(phrase.split()))
    runs = [" ".join(word.text.lower() for word in words[i : i + size]) for i in range(len(words) - size + 1)]
    close = difflib.get_close_matches(phrase.lower(), [*known, *runs], n=1)
    return (f"; did you mean {close[0]!r}? words: " if close else "; words: ") + ", ".join(known)


def _numbered(encoded: Encoded, columns: tuple[int, ...]) -> Target:
    """The target made of token columns."""
    own = [column for column, span in enumerate(encoded.spans) if span is not None]
    wrong = [column for column in columns if column not in own]
    if wrong or not columns:
        listed = ", ".join(f"{column} {encoded.pieces[column]}" for column in own)
        what = f"{wrong[0]} ({_role(encoded, wrong[0], own)})" if wrong else "none"
        raise AttnregError(f"expected token columns that hold the prompt's words, got {what}; choose from: {listed}")
    if len(set(columns)) < len(columns):
        raise AttnregError(f"expected each token column once, got {columns}; leave out the repetition")
    columns = tuple(sorted(columns))
    words = tuple(word for word in encoded.words if set(encoded.columns([word])) & set(columns))
    return _target(encoded, columns, words if encoded.columns(words) == columns else ())


def _role(encoded: Encoded, column: int, own: list[int]) -> str:
    if not 0 <= column < len(encoded.ids):
        return f"outside 0 to {len(encoded.ids) - 1}"
    return "the start token" if own and column < own[0] else "end-of-text or padding"


def _target(encoded: Encoded, columns: tuple[int, ...], words: Sequence[Word]) -> Target:
    """A target named as the prompt writes it; with "#2" where that would name an earlier occurrence."""
    spans = [span for column in columns if (span := encoded.spans[column]) is not None]
    start, end = (words[0].start, words[-1].end) if words else (spans[0][0], max(end for _, end in spans))
    text = " ".join(encoded.prompt[start:end].split())
    places = [run[0].start for run in occurrences(text, encoded.words)] if words else []
    nth = 1 + places.index(start) if start in places else 1
    return Target(f"{text}#{nth}" if nth > 1 else text, columns, tuple(encoded.pieces[column] for column in columns))


def _refuse_overlap(encoded: Encoded, targets: tuple[Target, ...]) -> None:
    for second, target in enumerate(targets):
        for other in targets[:second]:
            shared = sorted(set(target.tokens) & set(other.tokens))
            if not shared:
                continue
            if target.tokens != other.tokens:
                raise AttnregError(f"expected targets that share no token, got {other} and {target}; leave one out")
            again = len(occurrences(other.text, encoded.words)) > 1
            raise AttnregError(
                f"expected each target once, got {other} twice; "
                + (f"for the next occurrence write '{other.text}#2'" if again else "leave one out")
            )
