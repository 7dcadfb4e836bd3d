"""The layers in which the picture looks at text, and where both lie in their calls: found by what moves.

Three calls of the denoiser in which attention mixes nothing: as it is, with the vectors of a few words changed, with
the latents changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from attnreg.attention.calls.call import Call, mapped
from attnreg.attention.families.family import Places
from attnreg.attention.families.probed import LayerFound
from attnreg.attention.probing.grid import grid_of
from attnreg.attention.probing.unmixed import SeenCall, attention_calls
from attnreg.types import AttnregError

CLEAR = 4.0
"""The keys of the changed words must move so many times as far as any other."""
SMALLEST = 1e-4
"""What moves less than this share of what moves most does not move."""
CALLS = 3
"""How many calls of the denoiser it takes."""

Ends = Mapping[int, tuple[int, int]]
"""By row of the batch the first and the last column of the embedding that a target fills."""


def layers_found(call: Call, denoiser: nn.Module, ends: Ends) -> dict[str, LayerFound]:
    """The layers of a denoiser in which the picture looks at text.

    Args:
        call: of the denoiser; the family tells its arguments for the text and the latents.
        denoiser: the module.
        ends: which words are changed, in which rows.

    Returns:
        By name, where picture and text lie in each layer's call.

    Raises:
        AttnregError: there is none, or what moves can be read in several ways.
    """
    name = call.family.text
    texts, latents = _moved_words(call.hidden, ends), mapped(call.arguments[call.family.sample], _noised)
    plain, words, picture = (
        attention_calls(denoiser, one.run)
        for one in (call, call.given(**{name: texts}), call.given(**{call.family.sample: latents}))
    )
    if not [one.layer for one in plain] == [one.layer for one in words] == [one.layer for one in picture]:
        raise _ambiguous("the same attention calls each time", "others when the text or the latents are changed")
    found: dict[str, LayerFound] = {}
    for calls in zip(plain, words, picture, strict=True):
        one = _one(calls, call, ends)
        if one is None:
            continue
        if calls[0].layer in found:
            raise _ambiguous(f"{calls[0].layer} to attend to the text once", "several calls")
        found[calls[0].layer] = one
    if not found:
        raise AttnregError(
            f"expected attention calls of {type(denoiser).__name__} in which the picture looks at the text, got none "
            f"among {len(plain)}; attention that is not torch's own scaled_dot_product_attention is not seen"
        )
    later = {one.keys for one in found.values() if not one.first}
    if later and (len(later) > 1 or any(one.keys not in later or one.first for one in found.values())):
        raise _ambiguous("the text in the first attention call of each layer", "it in a later one in some layers")
    return {name: found[name] for name, _ in denoiser.named_modules() if name in found}


def _one(calls: tuple[SeenCall, SeenCall, SeenCall], call: Call, ends: Ends) -> LayerFound | None:
    """What is found of one attention call; `None` if the picture does not look at text in it."""
    plain, words, picture = calls
    if len({one.keys.shape for one in calls}) > 1 or len(plain.keys) <= max(ends):
        return None
    text = _distances(plain.keys, words.keys)
    pixels = _moving(_distances(plain.queries, picture.queries))
    if not any(_moving(text[row]).any() for row in ends) or not pixels.any():
        return None
    first = {_first_column(plain.layer, text[row], *ends[row]) for row in ends}
    if len(first) != 1:
        raise _ambiguous(f"the text to begin at one key of {plain.layer} for all prompts", f"keys {sorted(first)}")
    own = torch.nonzero(pixels.any(0)).flatten().tolist()
    if own[-1] - own[0] + 1 != len(own):
        raise _ambiguous(f"the picture's queries of {plain.layer} beside one another", f"{len(own)} of them, apart")
    start, beside = first.pop(), _moving(_distances(plain.keys, picture.keys)).any(0)
    if beside[start : start + call.family.tokens(call.arguments)].any():
        raise _ambiguous(f"keys of {plain.layer} that are the text's or the picture's", "some that are both")
    queries = slice(own[0], own[-1] + 1)
    count, keys = plain.queries.shape[1], plain.keys.shape[1]
    grid = grid_of(call.arguments, call.family.sample, queries, count)
    return LayerFound(Places(queries, start, grid), count, keys, plain.number == 0, bool(beside.any()))


def _first_column(layer: str, moved: Tensor, first: int, last: int) -> int:
    """The key of the text's first token, where some of its tokens were changed."""
    changed = _changed(first, last)
    count = len(changed)
    order = moved.argsort(descending=True)
    places = sorted(order[:count].tolist())
    if len(moved) > count and moved[order[count - 1]] < CLEAR * moved[order[count]]:
        raise _ambiguous(f"the keys of the changed words alone to move in {layer}", "others that move as much")
    start = int(places[0]) - first
    if start < 0 or places != [start + column for column in changed]:
        raise _ambiguous(f"the keys of {layer} in the order of the text", f"columns {changed} at keys {places}")
    return start


def _changed(first: int, last: int) -> list[int]:
    """The columns that are changed: of the first and the last word, and one that tells which of them is which."""
    return sorted({first, min(first + 1, last), last})


def _distances(one: Tensor, other: Tensor) -> Tensor:
    """How far what stands at each position moved, by row."""
    distances: Tensor = torch.linalg.vector_norm(one - other, dim=-1)
    return distances


def _moving(distances: Tensor) -> Tensor:
    """Which positions moved."""
    return distances > max(SMALLEST * float(distances.max()), 1e-12)


def _moved_words(texts: Any, ends: Ends) -> Any:
    """Texts with other vectors in two columns of some rows."""
    rows = [text.clone() for text in texts]
    for row, columns in ends.items():
        for column in _changed(*columns):
            rows[row][column] = _noised(rows[row][column])
    return rows if isinstance(texts, list) else torch.stack(rows)


def _noised(tensor: Tensor) -> Tensor:
    """Numbers with others of twice their size added, the same ones every time."""
    noise = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1)).to(tensor)
    return tensor + 2 * noise * tensor.float().std().clamp_min(1e-3).to(tensor)


def _ambiguous(expected: str, got: str) -> AttnregError:
    return AttnregError(
        f"expected {expected}, got {got}; this model cannot be probed, its family needs an entry of its own"
    )
