"""What a pipeline's text encoders received, and which of its columns a word of the prompt fills.

Templates, instructions, cleaned captions, two encoders: what stands where is not guessed from the words but read off
the token ids that the encoders were given while the pipeline encoded its prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import reduce, wraps
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attnreg.attention.families.family import Family, TextColumns, tokenizer_in
from attnreg.attention.layers.catch import Patch
from attnreg.targets import Encoded
from attnreg.token_spans import Column, encoded, spans_in
from attnreg.types import AttnregError


class Received(NamedTuple):
    """One text as an encoder was given it."""

    ids: Tensor
    """`(token,)`."""
    mask: Tensor | None
    """0 at padding, where the pipeline told."""


@contextmanager
def receiving(pipe: Any, family: Family) -> Iterator[dict[str, list[Received]]]:
    """Note what the family's text encoders are given inside of the block, in order, by the pipeline's attribute."""
    received: dict[str, list[Received]] = {}
    with ExitStack() as patches:
        for encoder in family.encoders:
            if (model := part_of(pipe, encoder.model)) is not None:
                note = _noting(received, encoder.model)
                patches.callback(Patch(model, "forward", note).undo)
        yield received


def part_of(pipe: Any, path: str) -> Any:
    """A part of the pipeline by its dotted path; `None` if it is not there."""
    return reduce(lambda held, name: getattr(held, name, None), path.split("."), pipe)


def _noting(received: dict[str, list[Received]], name: str) -> Callable[..., Any]:
    def replace(forward: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(forward)
        def noting(*args: Any, **kwargs: Any) -> Any:
            ids = kwargs.get("input_ids", args[0] if args else None)
            # All prompts in one call or each in its own; negative ones are encoded after them.
            if isinstance(ids, Tensor):
                mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
                masks = mask.detach().cpu() if isinstance(mask, Tensor) else [None] * len(ids)
                received.setdefault(name, []).extend(map(Received, ids.detach().cpu(), masks))
            return forward(*args, **kwargs)

        return noting

    return replace


def read(
    pipe: Any, family: Family, received: dict[str, list[Received]], which: tuple[int, Sequence[str]], columns: int
) -> Encoded:
    """A prompt as its embedding of so many columns holds it; which: its number among the prompts that were encoded.

    Raises `AttnregError` if no text encoder was asked.
    """
    number, prompts = which
    prompt = prompts[number]
    columns = max([columns, *(_behind(one, received) + _width(one.model, received) for one in _behind_others(family))])
    found: list[Column | None] = [None] * columns
    for one in filled(pipe, family, received, (number, len(prompts)), columns):
        tokenizer, ids = one.tokenizer, one.ids
        for place, span, token in zip(one.columns, spans_in(prompt, ids, tokenizer), ids, strict=True):
            if place is not None and span is not None:
                found[place] = Column(token, str(tokenizer.convert_ids_to_tokens(token)), span)
    if not received:
        raise AttnregError(
            f"expected {type(pipe).__name__} to run its text encoders, got embeddings made without; pass the prompt as "
            "text, or what pipe.encode_prompt returned while regulated"
        )
    return encoded(prompt, found)


class Filled(NamedTuple):
    """Which columns of a prompt's embedding the tokens of one text encoder fill."""

    model: str
    """The pipeline's attribute."""
    tokenizer: Any
    ids: list[int]
    """As it received them."""
    columns: list[int | None]
    """Of each token."""


def filled(
    pipe: Any, family: Family, received: dict[str, list[Received]], which: tuple[int, int], columns: int
) -> list[Filled]:
    """Which of so many columns each text encoder's tokens fill; which: the prompt's number, and how many there are."""
    number, count = which
    found = []
    for encoder in family.encoders:
        if encoder.model not in received:
            continue
        texts = received[encoder.model]
        given = texts[number + (len(texts) - count if encoder.negatives_first else 0)]
        tokenizer = tokenizer_in(getattr(pipe, encoder.tokenizer))
        places = _places(pipe, encoder, tokenizer, given, columns, _first(pipe, encoder, received))
        found.append(Filled(encoder.model, tokenizer, given.ids.tolist(), places))
    return found


def _behind_others(family: Family) -> list[TextColumns]:
    return [encoder for encoder in family.encoders if encoder.behind]


def _width(model: str, received: dict[str, list[Received]]) -> int:
    """How many tokens a text encoder received of each text; none if it was not asked."""
    return len(received[model][0].ids) if model in received else 0


def _behind(encoder: TextColumns, received: dict[str, list[Received]]) -> int:
    """How many columns those text encoders fill whose tokens come before an encoder's."""
    return sum(_width(model, received) for model in encoder.behind)


def _first(pipe: Any, encoder: TextColumns, received: dict[str, list[Received]]) -> int:
    """The column of an encoder's first token."""
    if isinstance(encoder.after, str):
        return int(getattr(pipe, encoder.after).model_max_length)
    return encoder.after or _behind(encoder, received)


def _places(
    pipe: Any, encoder: TextColumns, tokenizer: Any, given: Received, columns: int, first: int
) -> list[int | None]:
    """For each token that an encoder received, the column of the embedding that it fills."""
    count = len(given.ids)
    if encoder.shift is not None:
        shifted = [index + encoder.shift for index in range(count)]
        return [column if 0 <= column < columns else None for column in shifted]
    order = list(range(count))
    if count > columns and encoder.cut_from_the_left:
        order = [0, *order[count - columns + 1 :]]
    elif given.mask is not None and count > columns and not encoder.keeps_padding:
        order = torch.nonzero(given.mask).flatten().tolist()  # padding is gone, on whichever side it was
    dropped = getattr(pipe, encoder.dropped) if isinstance(encoder.dropped, str) else encoder.dropped
    if isinstance(dropped, str):
        dropped = len(tokenizer(dropped, add_special_tokens=False)["input_ids"])
    places: list[int | None] = [None] * count
    for column, index in enumerate(order[dropped:], first):
        places[index] = column if column < columns else None
    return places
