"""Seeing what layers attend to, with nothing changed: of the targets' columns alone, while the layers run.

The fused kernel runs as it is and tells its log-sum-exp (`layers.correction`); what the model computes is its own to
the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attnreg.attention.families.family import Family, Places
from attnreg.attention.layers.acting import Action
from attnreg.attention.layers.correction import Edit, Look, Part, attend_corrected
from attnreg.attention.maps import of_targets
from attnreg.regulation.columns import Columns, check_prompts, columns_of
from attnreg.regulation.edit import PromptWords
from attnreg.types import Grid

Note = Callable[[str, Sequence[int], Grid, Float[Tensor, "image target pixel"]], None]
"""Told the layer, the images, the size of the maps and the maps: what becomes of that is the caller's to say."""


class Group(NamedTuple):
    """Rows of the batch whose prompts have equally many targets: they are edited, or looked at, together."""

    rows: list[int]
    images: list[int]
    words: list[PromptWords]

    def columns(self, places: Places, query: Tensor, key: Tensor, tokens: int | None = None) -> Columns:
        """Where the targets stand among the keys of an attention call; `AttnregError` if that has too few of them.

        tokens: how long the text is, where every column of it is wanted.
        """
        prompts = tuple(one.columns for one in self.words)
        check_prompts(prompts, len(self.images), key.shape[-2] - places.text)
        exact = torch.promote_types(query.dtype, torch.float32)
        return columns_of(prompts, places.text, exact, query.device, tokens)


def grouped(pairs: Sequence[tuple[int, int]], words: Mapping[int, PromptWords]) -> list[Group]:
    """Rows by the number of their targets.

    Args:
        pairs: `(row, image)` for every row that holds an image's prompt.
        words: of the images that are meant.
    """
    by_count: dict[int, list[tuple[int, int, PromptWords]]] = {}
    for row, image in pairs:
        if (one := words.get(image)) is not None:
            by_count.setdefault(len(one.targets), []).append((row, image, one))
    return [Group(*map(list, zip(*group, strict=True))) for group in by_count.values()]


def placed(
    family: Family,
    denoiser: nn.Module,
    layer: str,
    arguments: Mapping[str, Any],
    sizes: tuple[int, int],
    groups: Sequence[Group],
) -> list[tuple[Group, Places]]:
    """Groups with where picture and text lie in one layer's attention call; sizes: its queries and keys."""
    return [
        part
        for whole in groups
        for part in _by_place(whole, family.places_of_rows(whole.rows, layer, arguments, denoiser, *sizes))
    ]


def _by_place(group: Group, places: Sequence[Places]) -> Iterator[tuple[Group, Places]]:
    """The rows of a group by where picture and text lie in them, a place a row; mostly there is but one."""
    if all(one is places[0] for one in places):
        yield group, places[0]
        return
    numbers: dict[tuple[int, int], list[int]] = {}
    for number, one in enumerate(places):
        assert isinstance(one.queries, slice)  # what lies elsewhere in each row lies side by side
        numbers.setdefault((one.queries.start or 0, one.text), []).append(number)
    for some in numbers.values():
        rows, images = ([of_all[number] for number in some] for of_all in (group.rows, group.images))
        yield Group(rows, images, [group.words[number] for number in some]), places[some[0]]


def looks(
    groups: Sequence[tuple[Group, Places]], layer: str, query: Tensor, key: Tensor, note: Note
) -> list[tuple[Part, Edit]]:
    """Parts of an attention call to which nothing is added: what they attend to is noted."""

    def look(images: Sequence[int], part: Part, by_column: Float[Tensor, "image column pixel"]) -> None:
        note(layer, images, part.grid, of_targets(part.columns, by_column.float()))

    found: list[tuple[Part, Edit]] = []
    for one, places in groups:
        part = Part(one.rows, places.queries, one.columns(places, query, key), places.grid)
        found.append((part, Look(partial(look, one.images, part))))
    return found


class Watch:
    """The layers of a denoiser that are looked at."""

    def __init__(self, family: Family, denoiser: nn.Module, layers: Sequence[str]) -> None:
        self.family, self.denoiser, self.layers = family, denoiser, tuple(layers)

    def acts(self, arguments: Mapping[str, Any], groups: Sequence[Group], note: Note) -> dict[str, Action]:
        """What each layer does in a call of the denoiser with these arguments: what it always does, and it is noted."""
        keys = self.family.keys(arguments)
        return {
            layer: Action(keys, partial(self._attend, layer, arguments, groups, note), only_looks=True)
            for layer in self.layers
        }

    def _attend(
        self,
        layer: str,
        given: Mapping[str, Any],
        groups: Sequence[Group],
        note: Note,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        found = placed(self.family, self.denoiser, layer, given, (query.shape[-2], key.shape[-2]), groups)
        return attend_corrected(looks(found, layer, query, key, note), query, key, value, *args, **kwargs)
