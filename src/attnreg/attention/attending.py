"""What the regulated layers do in a regulated step: the edits of attention, laid over the rows that hold prompts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnreg.attention.calls.call import Call
from attnreg.attention.calls.edits import Edits
from attnreg.attention.families.family import Family, Places
from attnreg.attention.layers.acting import Action
from attnreg.attention.layers.catch import attend_with, scaled_logits, values_of
from attnreg.attention.layers.correction import Part, attend_corrected
from attnreg.attention.maps import column_maps, target_maps
from attnreg.regulation.bias_effect import BiasEffect, Masses
from attnreg.regulation.columns import LogitEdit, TextEdit, check_prompts, columns_of
from attnreg.regulation.edit import PromptWords
from attnreg.regulation.kinds import Embedded, Moment
from attnreg.types import AttnregError, Logits, Measured, Probabilities, Trace

Words = Sequence[PromptWords | None]
"""One entry an image; `None` for one in which nothing is to be heeded."""


class Time(NamedTuple):
    """Where in a picture's making a call is; see `kinds.Moment`."""

    step: int
    total: int
    noise: float


class Group(NamedTuple):
    """Rows of the batch whose prompts have equally many targets: they are edited together."""

    rows: list[int]
    images: list[int]
    words: list[PromptWords]


class Attending:
    """The edits of one installation, what they remember between steps, and where they tell what they did."""

    def __init__(
        self,
        family: Family,
        denoiser: nn.Module,
        edits: Edits,
        text: dict[str, nn.Module],
        image: Iterable[str],
        every: dict[str, nn.Module],
        trace: Trace,
    ) -> None:
        self.family, self.denoiser = family, denoiser
        self.edits, self.trace = edits, trace
        self.corrects = isinstance(edits.logits, LogitEdit)
        self.whole_text = isinstance(edits.logits, TextEdit) and edits.logits.whole_text
        """Asked once: to ask for a protocol takes as long as an operation of a small layer."""
        self.text, self.image, self.every = text, tuple(image), every
        """Layers over the text whose attention is edited; over the picture; all over the text."""
        self.forget()

    def forget(self) -> None:
        """Back to before any step of a picture."""
        self.memory: dict[tuple[str, int], dict[str, Any]] = {}
        self.pairs: object = None
        self.rows = torch.empty(0, dtype=torch.long)
        self.groups: list[Group] = []
        self.time = Time(0, 0, 0.0)

    def acts(
        self, call: Call, words: Words, embedded: dict[int, Embedded], acting: Iterable[str], time: Time
    ) -> dict[str, Action]:
        """What each layer is to do in this call; `embedded`: what some images' prompts became."""
        self.time = time
        if call.pairs is not self.pairs:  # pipelines hand the same embeddings to every step
            self._group(call, words)
        tokens = self.family.keys(call.arguments)
        valued = _Values.of(call, embedded)
        acts: dict[str, Action] = {}
        if valued:
            acts = {name: Action(tokens, partial(_with_values, module, valued)) for name, module in self.every.items()}
        if self.groups and {"logits", "attention"} & set(acting):
            for name, module in self.text.items():
                acts[name] = Action(tokens, partial(self._over_text, name, module, valued, call))
        if self.groups and "attention" in acting:
            acts |= {name: Action(None, partial(self._over_image, name, call)) for name in self.image}
        return acts

    def _group(self, call: Call, words: Words) -> None:
        """Group the rows of the batch that belong to prompts by their number of targets."""
        self.pairs = call.pairs
        by_count: dict[int, list[tuple[int, int, PromptWords]]] = {}
        for row, image in call.pairs:
            if (one := words[image]) is not None:
                by_count.setdefault(len(one.targets), []).append((row, image, one))
        self.groups = [Group(*map(list, zip(*group, strict=True))) for group in by_count.values()]
        rows = [row for group in self.groups for row in group.rows]
        self.rows = torch.tensor(rows, dtype=torch.long, device=call.device)

    def _over_text(
        self,
        layer: str,
        module: nn.Module,
        valued: _Values | None,
        call: Call,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """The attention of one layer over the text, with the rows of each group of images edited."""
        places = self._places(layer, call, query, key)
        grid = places.grid
        if valued:
            value = valued.put(module, value)

        edit: Any = self.edits.logits
        if self.corrects:
            tokens = self.family.tokens(call.arguments) if self.whole_text else None
            return self._corrected(edit, layer, places, tokens, query, key, value, *args, **kwargs)

        def edited(logits: Logits) -> Probabilities:
            parts, start = [], 0
            for index, (_, images, words) in enumerate(self.groups):
                memory = self.memory.setdefault((layer, index), {})
                mine = logits[start : start + len(images)]
                columns = [one.columns for one in words]
                # Before the edit has the logits in hand: it may write to them.
                before = target_maps(mine.softmax(-1), columns) if self.trace.keeps_maps else None
                if edit is not None:
                    part = edit(mine, columns, grid, self.time.step, layer, memory)
                else:
                    assert self.edits.attention is not None
                    part = self.edits.attention.over_text(mine, words, Moment(*self.time, layer, grid), memory)
                measured = Measured(part.mass_before, part.mass_after, part.loss_before, part.loss_after)
                self.trace.note(self.time.step, layer, images, grid, measured)
                if before is not None:
                    self.trace.note_maps(layer, images, grid, before, target_maps(part.probabilities, columns))
                parts.append(part.probabilities)
                start += len(images)
            return torch.cat(parts)

        return attend_with(edited, self.rows, query, key, value, *args, **kwargs)

    def _corrected(
        self,
        edit: LogitEdit,
        layer: str,
        places: Places,
        tokens: int | None,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """The attention of one layer over the text, corrected by what an edit adds to the logits of its columns.

        These are the targets', or all of a text of so many tokens.
        """
        parts, told = [], [list[Masses]() for _ in self.groups]
        for index, group in enumerate(self.groups):
            prompts = tuple(one.columns for one in group.words)
            check_prompts(prompts, len(group.images), key.shape[-2] - places.text)
            exact = torch.promote_types(query.dtype, torch.float32)
            columns = columns_of(prompts, places.text, exact, query.device, tokens)
            note = partial(self._note, layer, group.images, told[index])
            part = Part(group.rows, places.queries, columns, places.grid, note, by_head=tokens is not None)
            memory = self.memory.setdefault((layer, index), {})
            bias = partial(edit.bias, step=self.time.step, layer=layer, memory=memory)
            parts.append((part, bias))
        output = attend_corrected(parts, query, key, value, *args, **kwargs)
        for group, masses in zip(self.groups, told, strict=True):
            self.trace.note(self.time.step, layer, group.images, places.grid, Masses.of_all_heads(masses))
        return output

    def _note(self, layer: str, images: list[int], told: list[Masses], change: BiasEffect) -> None:
        """Keep what an edit did; of maps the trace adds up those of some heads each, as it does those of steps."""
        told.append(change.measure())
        if self.trace.keeps_maps:
            before, after = column_maps(change.attention), column_maps(change.attention, change.gains)
            self.trace.note_maps(layer, images, change.attention.grid, before, after)

    def _places(self, layer: str, call: Call, query: Tensor, key: Tensor) -> Places:
        return self.family.places(layer, call.arguments, self.denoiser, query.shape[-2], key.shape[-2])

    def _over_image(
        self,
        layer: str,
        call: Call,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """The attention of one layer over the picture, edited one image and head at a time: the maps are large.

        Raises `AttnregError` if the call is of other rows than the denoiser's.
        """
        if len(query) != len(call.sample) or attn_mask is not None:
            raise AttnregError(
                f"expected {layer} to attend over {len(call.sample)} pictures at once without a mask, got "
                f"{len(query)}; choose a pipeline without perturbed attention, or a method that edits the text only"
            )
        assert self.edits.attention is not None
        output = F.scaled_dot_product_attention(query, key, value, None, dropout_p, is_causal, scale=scale, **kwargs)
        moment = Moment(*self.time, layer, self._places(layer, call, query, key).grid)
        words = [one for group in self.groups for one in group.words]
        for row, one in zip(self.rows.tolist(), words, strict=True):
            for head in range(query.shape[1]):
                at = slice(row, row + 1), slice(head, head + 1)
                with torch.autocast(query.device.type, enabled=False):
                    logits = scaled_logits(query[at], key[at], None, scale)
                    probabilities = self.edits.attention.over_image(logits, [one], moment)
                    output[at] = (probabilities @ value[at].to(probabilities.dtype)).to(output.dtype)
        return output


class _Values(NamedTuple):
    """Values to be handed on that are made of something else than the keys."""

    rows: Tensor
    embeddings: Tensor

    @staticmethod
    def of(call: Call, embedded: dict[int, Embedded]) -> _Values | None:
        """Of the rows whose prompt became two things; `None` if there is none."""
        chosen = [
            (row, embedded[image].values)
            for row, image in call.pairs
            if image in embedded and embedded[image].values is not embedded[image].keys
        ]
        if not chosen:
            return None
        rows = torch.tensor([row for row, _ in chosen], device=call.hidden.device)
        return _Values(rows, torch.stack([values for _, values in chosen]).to(call.hidden))

    def put(self, module: Any, value: Tensor) -> Tensor:
        """The module's values, with those of the rows made of the other embeddings, by the module's own projection."""
        return value.index_copy(0, self.rows, values_of(module, self.embeddings, value))


def _with_values(
    module: nn.Module, valued: _Values, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any
) -> Tensor:
    return F.scaled_dot_product_attention(query, key, valued.put(module, value), *args, **kwargs)
