"""What a pipeline's text encoders received, and which of its columns a word of the prompt fills.

Templates, instructions, cleaned captions, two encoders: what stands where is not guessed from the words but read off
the token ids that the encoders were given while the pipeline encoded its prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attnreg.attention.families.family import Family, TextColumns, tokenizer_in
from attnreg.attention.layers.catch import Patch
from attnreg.targets import Encoded
from attnreg.token_spans import Column, encoded, spans_in
from attnreg.types import AttnregError


class Received(NamedTuple):
    """What one encoder was given first while prompts were encoded."""

    ids: Tensor
    """`(prompt, token)`."""
    mask: Tensor | None
    """0 at padding, where the pipeline told."""


@contextmanager
def receiving(pipe: Any, family: Family) -> Iterator[dict[str, Received]]:
    """Note what the family's text encoders are given inside of the block, by the pipeline's attribute."""
    received: dict[str, Received] = {}
    with ExitStack() as patches:
        for encoder in family.encoders:
            if (model := getattr(pipe, encoder.model, None)) is not None:
                note = _noting(received, encoder.model)
                patches.callback(Patch(model, "forward", note).undo)
        yield received


def _noting(received: dict[str, Received], name: str) -> Callable[..., Any]:
    def replace(forward: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(forward)
        def noting(*args: Any, **kwargs: Any) -> Any:
            ids = kwargs.get("input_ids", args[0] if args else None)
            # The first call is over the prompts; negative ones are encoded after them.
            if name not in received and isinstance(ids, Tensor):
                mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
                received[name] = Received(ids.detach().cpu(), mask.detach().cpu() if isinstance(mask, Tensor) else None)
            return forward(*args, **kwargs)

        return noting

    return replace


def read(pipe: Any, family: Family, received: dict[str, Received], prompt: str, number: int, columns: int) -> Encoded:
    """A prompt as its embedding of so many columns holds it; number: which of the prompts that were encoded it is.

    Raises `AttnregError` if no text encoder was asked.
    """
    found: list[Column | None] = [None] * columns
    for encoder in family.encoders:
        if (given := received.get(encoder.model)) is None:
            continue
        tokenizer = tokenizer_in(getattr(pipe, encoder.tokenizer))
        ids = given.ids[number].tolist()
        places = _places(pipe, encoder, given, number, columns)
        for place, span, token in zip(places, spans_in(prompt, ids, tokenizer), ids, strict=True):
            if place is not None and span is not None:
                found[place] = Column(token, str(tokenizer.convert_ids_to_tokens(token)), span)
    if not received:
        raise AttnregError(
            f"expected {type(pipe).__name__} to run its text encoders, got embeddings made without; pass the prompt as "
            "text, or what pipe.encode_prompt returned while regulated"
        )
    return encoded(prompt, found)


def _places(pipe: Any, encoder: TextColumns, given: Received, number: int, columns: int) -> list[int | None]:
    """For each token that an encoder received, the column of the embedding that it fills."""
    count = given.ids.shape[1]
    order = list(range(count))
    if count > columns and encoder.cut_from_the_left:
        order = [0, *order[count - columns + 1 :]]
    elif given.mask is not None and count > columns:  # padding is gone, on whichever side it was
        order = torch.nonzero(given.mask[number]).flatten().tolist()
    dropped = getattr(pipe, encoder.dropped) if isinstance(encoder.dropped, str) else encoder.dropped
    after = encoder.after or 0
    first = getattr(pipe, after).model_max_length if isinstance(after, str) else after
    places: list[int | None] = [None] * count
    for column, index in enumerate(order[dropped:], first):
        places[index] = column if column < columns else None
    return places
