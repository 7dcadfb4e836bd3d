"""Which column of a prompt's embedding a token fills that a text encoder received: another one is put in its place.

What moves first is its column where text is read from left to right, what moves most where it is read both ways.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from attnreg.attention.calls.received import Received
from attnreg.attention.families.family import Embeddings, TextColumns, tokenizer_in
from attnreg.attention.layers.catch import Patch
from attnreg.token_spans import spans_in
from attnreg.types import AttnregError

SMALLEST = 1e-4
"""What moves less than this share of what moves most does not move."""


def shifts(
    pipe: Any,
    encoder: TextColumns,
    received: Sequence[Received],
    prompts: Sequence[str],
    before: Embeddings,
    encode: Callable[[], Embeddings],
) -> list[int | None]:
    """By how many places the tokens of a text encoder are moved on their way into the embedding, of each prompt.

    Args:
        pipe: the pipeline.
        encoder: one of its text encoders.
        received: each text that it was given, the prompts first.
        prompts: that were encoded.
        before: what they became, one each.
        encode: does the same again; two times.

    Returns:
        A prompt's column less a token's index; `None` of an encoder whose tokens fill no columns.

    Raises:
        AttnregError: the two tokens that were tried do not agree.
    """
    tokenizer = tokenizer_in(getattr(pipe, encoder.tokenizer))
    tried = [_ends(received[number].ids, prompt, tokenizer) for number, prompt in enumerate(prompts)]
    moved = []
    for which in (0, 1):
        places = [pair[which] for pair in tried]
        with_other = Patch(getattr(pipe, encoder.model), "forward", _replacing([one.ids for one in received], places))
        try:
            after = encode()
        finally:
            with_other.undo()
        moved.append([_distance(one, other) for one, other in zip(before, after, strict=True)])
    return [_shift(encoder, tried[number], (moved[0][number], moved[1][number])) for number in range(len(prompts))]


def _ends(ids: Tensor, prompt: str, tokenizer: Any) -> tuple[int, int]:
    """The first and the last token that stands for a part of the prompt; of a single one also what follows."""
    own = [index for index, span in enumerate(spans_in(prompt, ids.tolist(), tokenizer)) if span is not None]
    if not own:
        return 0, min(1, len(ids) - 1)
    return own[0], own[-1] if len(own) > 1 else min(own[0] + 1, len(ids) - 1)


def _replacing(texts: Sequence[Tensor], places: Sequence[int]) -> Callable[..., Any]:
    """Let an encoder receive another token in one place of each prompt, in one call for all of them or one for each."""
    changed = []
    for ids, place in zip(texts, places, strict=False):  # texts beyond the prompts are negative ones
        others = ids[ids != ids[place]]
        other = others[len(others) // 2] if len(others) else (ids[place] + 1) % 2
        changed.append(ids.index_fill(0, torch.tensor(place), int(other)))

    def replace(forward: Callable[..., Any]) -> Callable[..., Any]:
        waiting = list(changed)

        @wraps(forward)
        def replaced(*args: Any, **kwargs: Any) -> Any:
            given = kwargs.get("input_ids", args[0] if args else None)
            if waiting and isinstance(given, Tensor):
                own = torch.stack(waiting[: len(given)]).to(given)
                del waiting[: len(given)]
                other = torch.cat([own, given[len(own) :]])
                if "input_ids" in kwargs:
                    kwargs = kwargs | {"input_ids": other}
                else:
                    args = (other, *args[1:])
            return forward(*args, **kwargs)

        return replaced

    return replace


def _distance(one: Tensor, other: Tensor) -> Tensor:
    """How far each column moved."""
    distances: Tensor = torch.linalg.vector_norm((one.float() - other.float()).flatten(1), dim=1)
    return distances.cpu()


def _shift(encoder: TextColumns, places: tuple[int, int], moved: tuple[Tensor, Tensor]) -> int | None:
    if not any(one.any() for one in moved):
        return None
    firsts, most = [], []
    for place, distances in zip(places, moved, strict=True):
        firsts.append(int(torch.nonzero(distances > SMALLEST * distances.max()).flatten()[:1].sum()) - place)
        most.append(int(distances.argmax()) - place)
    agreed = {pair[0] for pair in (firsts, most) if pair[0] == pair[1]}
    if len(agreed) != 1 or not all(one.any() for one in moved):
        raise AttnregError(
            f"expected one column of the embedding to move with each token that .{encoder.model} receives, got "
            f"columns {firsts[0] + places[0]} and {firsts[1] + places[1]} first, {most[0] + places[0]} and "
            f"{most[1] + places[1]} most, for tokens {places[0]} and {places[1]}; this pipeline cannot be probed"
        )
    return agreed.pop()
