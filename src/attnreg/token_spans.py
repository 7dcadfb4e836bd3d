"""Which part of a prompt each token stands for that a text encoder received, whatever stood around the prompt.

Nothing is inferred from how a tokenizer spells: tokens are decoded, and the prompt is found in what they say together.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from typing import Any, NamedTuple

from attnreg.targets import Encoded, FoundTargets, TargetSpec, encoded_by, look_in
from attnreg.words import split_words

Span = tuple[int, int]
"""From the first character up to but without the last."""
BROKEN = "\ufffd"
"""What a token decodes to that is a part of a letter only."""


class Column(NamedTuple):
    """What stands in one column of a prompt's embedding."""

    token: int
    piece: str
    span: Span


def encoded(prompt: str, columns: Sequence[Column | None]) -> Encoded:
    """The prompt as its embedding holds it; `None`: a column that stands for no part of it."""
    last = max((column.span[1] for column in columns if column), default=0)
    return Encoded(
        prompt=prompt,
        words=split_words(prompt),
        ids=tuple(column.token if column else -1 for column in columns),
        pieces=tuple(column.piece if column else "" for column in columns),
        spans=tuple(column.span if column else None for column in columns),
        unknown=frozenset(),
        cut=last if prompt[last:].strip() else len(prompt),
    )


def look_for_targets(
    prompt: str, tokenizer: Any, targets: Sequence[TargetSpec] | None = None, *, adjectives: bool = True
) -> FoundTargets:
    """The targets of a prompt before it is encoded, for who shows the notes himself: nothing is warned of.

    Arguments and errors are those of `find_targets`; the tokenizer need not tell offsets.
    """
    fast = getattr(tokenizer, "is_fast", False)
    told = encoded_by(prompt, tokenizer) if fast else _without_offsets(tokenizer, prompt)
    return look_in(told, targets, adjectives)


def _without_offsets(tokenizer: Any, prompt: str) -> Encoded:
    """The prompt as a tokenizer that tells no offsets splits it, without padding."""
    ids = [int(token) for token in tokenizer(prompt)["input_ids"]]
    pieces = [str(tokenizer.convert_ids_to_tokens(token)) for token in ids]
    spans = spans_in(prompt, ids, tokenizer)
    columns = [
        Column(token, piece, span) if span else None for token, piece, span in zip(ids, pieces, spans, strict=True)
    ]
    return encoded(prompt, columns)


def spans_in(prompt: str, ids: Sequence[int], tokenizer: Any) -> list[Span | None]:
    """The characters of the prompt that each token stands for; `None` for special tokens and what is not the prompt's.

    Letters are compared without case, spaces and compatible forms: pipelines clean captions, and tokenizers do so too.
    A template may say some of the prompt's words itself: the prompt is looked for as a whole, from the end. One that
    was cut off is found as far as it goes.
    """
    letters, owners = _spelled(ids, tokenizer)
    wanted, origins = _letters(prompt)
    places, found = _matched(wanted, letters)
    return _laid([origins[origin] for origin in found], [owners[place] for place in places], len(ids))


class TextPart(NamedTuple):
    """A text that holds a part of a prompt, as an encoder received it."""

    ids: list[int]
    spans: list[Span | None]
    """The characters of the whole prompt that each token stands for."""


def spans_of_parts(prompt: str, texts: Iterable[list[int]], tokenizer: Any) -> list[TextPart] | None:
    """A prompt that was cut into several texts, and between which others may have been encoded.

    Args:
        prompt: all of it.
        texts: the token ids of what was encoded, in that order.
        tokenizer: what they were made by.

    Returns:
        The texts that are the prompt one behind another, as few as will do, the latest of these; `None` if none are.
    """
    wanted, origins = _letters(prompt)
    found: dict[int, list[tuple[list[int], int, list[list[int]]]]] = {0: []}
    for ids in texts:
        letters, owners = _spelled(ids, tokenizer)
        for start, before in list(found.items()) if letters else []:
            end = start + len(letters)
            if wanted.startswith(letters, start) and len(before) < len(found.get(end, before)) + 1:
                found[end] = [*before, (ids, start, owners)]
    if not wanted or len(wanted) not in found:
        return None
    return [TextPart(ids, _laid(origins[start:], owners, len(ids))) for ids, start, owners in found[len(wanted)]]


def _laid(origins: Sequence[Span], owners: Sequence[Sequence[int]], count: int) -> list[Span | None]:
    """The span of each token, given those of the letters and which tokens each was made of."""
    spans: list[Span | None] = [None] * count
    for (start, end), tokens in zip(origins, owners, strict=False):
        for token in tokens:
            before = spans[token]
            spans[token] = (start, end) if before is None else (min(before[0], start), max(before[1], end))
    return spans


def _matched(wanted: str, letters: str) -> tuple[list[int], list[int]]:
    """Places in `letters`, and those in `wanted` that stand there."""
    if (start := letters.rfind(wanted)) >= 0:
        return list(range(start, start + len(wanted))), list(range(len(wanted)))
    # What an encoder has room for: the longest beginning of the prompt that is there, at the very end.
    for size in range(len(wanted) - 1, 0, -1):
        if letters.endswith(wanted[:size]):
            start = len(letters) - size
            return list(range(start, len(letters))), list(range(size))
    # Letters that the vocabulary lacks are missing: all others stay in order.
    places, origins = list[int](), list[int]()
    for at, origin, size in SequenceMatcher(None, letters, wanted, autojunk=False).get_matching_blocks():
        places += range(at, at + size)
        origins += range(origin, origin + size)
    return places, origins


def _letters(text: str) -> tuple[str, list[Span]]:
    """A text without spaces and case, and for each letter of that the characters that it was made of."""
    found, origins = "", list[Span]()
    for index, character in enumerate(text):
        made = "".join(unicodedata.normalize("NFKC", character).casefold().split())
        found += made
        origins += [(index, index + 1)] * len(made)
    return found, origins


def _spelled(ids: Sequence[int], tokenizer: Any) -> tuple[str, list[list[int]]]:
    """What tokens say together, without spaces and case, and for each letter the tokens it was made of."""
    special = set(tokenizer.all_special_ids)
    letters, owners = "", list[list[int]]()
    waiting: list[int] = []
    for index, token in enumerate(ids):
        if token in special:
            waiting = []
            continue
        waiting.append(index)
        text = tokenizer.decode([ids[one] for one in waiting], skip_special_tokens=False)
        if BROKEN in text and len(waiting) < 8:  # no letter has more bytes than four
            continue
        made, _ = _letters(text.replace(BROKEN, ""))
        letters += made
        owners += [waiting] * len(made)
        waiting = []
    return letters, owners
