"""What the regulated layers do in a regulated step: the edits of attention, laid over the rows that hold prompts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from attnreg.attention.calls.call import Call
from attnreg.attention.calls.edits import IN_LAYERS, Edits
from attnreg.attention.effects import Effects
from attnreg.attention.families.family import Family, Places
from attnreg.attention.layers.acting import Action
from attnreg.attention.layers.catch import attend_with, scaled_logits
from attnreg.attention.layers.correction import Edit, Part, attend_corrected
from attnreg.attention.layers.kernels import mask_of, of_heads
from attnreg.attention.maps import target_maps
from attnreg.attention.over_joint import JointRows, attend_joint
from attnreg.attention.valued import Values, with_values
from attnreg.attention.watching import Group, Watch, grouped, looks, placed
from attnreg.regulation.columns import LogitEdit, TextEdit
from attnreg.regulation.edit import PromptWords
from attnreg.regulation.kinds import Embedded, Moment
from attnreg.trace import Trace
from attnreg.types import AttnregError, Grid, Logits, Measured, Probabilities

Words = Sequence[PromptWords | None]
"""One entry an image; `None` for one in which nothing is to be heeded."""


class Time(NamedTuple):
    """Where in a picture's making a call is; see `kinds.Moment`."""

    step: int
    total: int
    noise: float


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
        watch: Watch | None,
        trace: Trace,
    ) -> None:
        self.family, self.denoiser = family, denoiser
        self.edits, self.trace = edits, trace
        self.corrects = isinstance(edits.logits, LogitEdit)
        self.whole_text = isinstance(edits.logits, TextEdit) and edits.logits.whole_text
        """Asked once: to ask for a protocol takes as long as an operation of a small layer."""
        self.text, self.image, self.every = text, tuple(image), every
        """Layers over the text whose attention is edited; over the picture; all over the text."""
        self.watch = watch
        self.told = not trace.keeps_maps and (edits.logits or edits.attention or edits.joint) is not None
        """Whether the edit tells all that is asked of the images that it edits."""
        self.forget()

    def forget(self) -> None:
        """Back to before any step of a picture."""
        self.memory: dict[tuple[str, int], dict[str, Any]] = {}
        self.pairs: object = None
        self.rows = torch.empty(0, dtype=torch.long)
        self.groups: list[Group] = []
        """Of the images in which something is to be heeded."""
        self.others: list[Group] = []
        """Of the images that are left to the model, though their prompt has targets."""
        self.edits_now = False
        """Whether a layer is to do anything else than it always does, in the call that was last asked about."""
        self.time = Time(0, 0, 0.0)

    def acts(
        self, call: Call, words: Words, heeded: Words, embedded: dict[int, Embedded], acting: Iterable[str], time: Time
    ) -> dict[str, Action]:
        """What each layer is to do in a call.

        Args:
            call: of the denoiser.
            words: of every image.
            heeded: of those that are not left to the model.
            embedded: what some images' prompts became.
            acting: the kinds of edits that act in this step.
            time: of the call.
        """
        self.time = time
        if call.pairs is not self.pairs:  # pipelines hand the same embeddings to every step
            self._group(call, words, heeded)
        tokens = self.family.keys(call.arguments)
        valued = Values.of(call, embedded)
        edited = [] if IN_LAYERS.isdisjoint(acting) else self.groups
        acts: dict[str, Action] = {}
        if valued:
            acts = {name: Action(tokens, partial(with_values, module, valued)) for name, module in self.every.items()}
        for place, (name, module) in enumerate(self.text.items() if edited else ()):
            others = self.others if self._watches(name) else []
            if self.edits.joint is not None:
                when = time.step + place / len(self.text)
                acts[name] = Action(tokens, partial(self._over_both, name, when, call, edited, others))
            else:
                acts[name] = Action(tokens, partial(self._over_text, name, module, valued, call, edited, others))
        if edited and "attention" in acting:
            acts |= {name: Action(None, partial(self._over_image, name, call)) for name in self.image}
        self.edits_now = bool(acts)
        seen = self.others if self.told else self.groups + self.others
        if self.watch and seen:
            looking = self.watch.acts(call.arguments, seen, self._seen)
            for name in looking.keys() - (self.text.keys() if edited else ()):
                over_text = partial(self._over_text, name, self.every.get(name), valued, call, [], seen)
                acts[name] = Action(tokens, over_text) if valued else looking[name]
        return acts

    def _watches(self, layer: str) -> bool:
        return self.watch is not None and layer in self.watch.layers

    def _keeps(self, layer: str) -> bool:
        """Whether the maps of a layer are kept of the images that an edit changes as well."""
        return self.trace.keeps_maps and self._watches(layer)

    def _group(self, call: Call, words: Words, heeded: Words) -> None:
        """Group the rows of the batch that belong to prompts by their number of targets."""
        self.pairs = call.pairs
        mine = {image: one for image, one in enumerate(heeded) if one is not None}
        self.groups = grouped(call.pairs, mine)
        others = {image: one for image, one in enumerate(words) if one is not None and image not in mine}
        self.others = grouped(call.pairs, others)
        rows = [row for group in self.groups for row in group.rows]
        self.rows = torch.tensor(rows, dtype=torch.long, device=call.device)

    def _seen(self, layer: str, images: Sequence[int], grid: Grid, maps: Float[Tensor, "image target pixel"]) -> None:
        """Tell the trace what was only looked at."""
        self.trace.note_maps(self.time.step, layer, images, grid, maps)

    def _over_text(
        self,
        layer: str,
        module: nn.Module | None,
        valued: Values | None,
        call: Call,
        groups: list[Group],
        watched: list[Group],
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """The attention of one layer over the text, with the rows of some groups of images edited, of others seen."""
        find = partial(placed, self.family, self.denoiser, layer, call.arguments, (query.shape[-2], key.shape[-2]))
        if valued:
            value = valued.put(module, value)

        edit: Any = self.edits.logits
        parts = looks(find(watched), layer, query, key, self._seen)
        if self.corrects or not groups:
            corrections = self._corrections(edit, find(groups), layer, call, query, key) if groups else []
            parts += [correction for _, correction in corrections]
            output = attend_corrected(parts, query, key, value, *args, **kwargs)
            for effects, _ in corrections:
                effects.tell(self.trace, self.time.step, layer)
            return output
        if parts:
            attend_corrected(parts, query, key, value, *args, **kwargs)
        grid = self._places(layer, call, query, key).grid

        def edited(logits: Logits) -> Probabilities:
            found, start = [], 0
            for index, (_, images, words) in enumerate(groups):
                memory = self.memory.setdefault((layer, index), {})
                mine = logits[start : start + len(images)]
                columns = [one.columns for one in words]
                # Before the edit has the logits in hand: it may write to them.
                before = target_maps(mine.softmax(-1), columns) if self._keeps(layer) else None
                if edit is not None:
                    part = edit(mine, columns, grid, self.time.step, layer, memory)
                else:
                    assert self.edits.attention is not None
                    part = self.edits.attention.over_text(mine, words, Moment(*self.time, layer, grid), memory)
                measured = Measured(part.mass_before, part.mass_after, part.loss_before, part.loss_after)
                self.trace.note(self.time.step, layer, images, grid, measured)
                if before is not None:
                    after = target_maps(part.probabilities, columns)
                    self.trace.note_maps(self.time.step, layer, images, grid, before, after)
                found.append(part.probabilities)
                start += len(images)
            return torch.cat(found)

        return attend_with(edited, self.rows, query, key, value, *args, **kwargs)

    def _over_both(
        self,
        layer: str,
        when: float,
        call: Call,
        groups: list[Group],
        watched: list[Group],
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """The attention of one layer over text and picture, with the rows of some groups of images edited."""
        find = partial(placed, self.family, self.denoiser, layer, call.arguments, (query.shape[-2], key.shape[-2]))
        if parts := looks(find(watched), layer, query, key, self._seen):
            attend_corrected(parts, query, key, value, *args, **kwargs)
        assert self.edits.joint is not None
        places = self._places(layer, call, query, key)  # alike in all rows where text and picture share a softmax
        own = self.family.own_keys(places, query.shape[-2], key.shape[-2])
        assert own is not None  # else the family would have been refused
        text = slice(places.text, places.text + self.family.tokens(call.arguments))
        rows = JointRows(self.edits.joint, groups, (self.time.step, self.time.total, when), layer, places.grid)
        return attend_joint(
            partial(rows.change, self.memory),
            partial(rows.tell, self.trace, self._keeps(layer)),
            list(rows.images),
            places,
            (text, own),
            *(query, key, value, *args),
            **kwargs,
        )

    def _corrections(
        self,
        edit: LogitEdit,
        groups: Sequence[tuple[Group, Places]],
        layer: str,
        call: Call,
        query: Tensor,
        key: Tensor,
    ) -> list[tuple[Effects, tuple[Part, Edit]]]:
        """The parts of one layer's attention call over the text to which an edit adds, and what it adds.

        To the columns of the targets, or to all of the text.
        """
        tokens = self.family.tokens(call.arguments) if self.whole_text else None
        found: list[tuple[Effects, tuple[Part, Edit]]] = []
        for index, (group, places) in enumerate(groups):
            effects = Effects(group.images, places.grid, self._keeps(layer))
            columns = group.columns(places, query, key, tokens)
            part = Part(group.rows, places.queries, columns, places.grid, effects.note, by_head=tokens is not None)
            memory = self.memory.setdefault((layer, index), {})
            found.append((effects, (part, partial(edit.bias, step=self.time.step, layer=layer, memory=memory))))
        return found

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
        if len(query) != len(call.sample):
            raise AttnregError(
                f"expected {layer} to attend over {len(call.sample)} pictures at once, got {len(query)}; choose a "
                "pipeline without perturbed attention, or a method that edits the text only"
            )
        assert self.edits.attention is not None
        output = F.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **kwargs
        )
        key, value = (one.repeat_interleave(query.shape[1] // one.shape[1], 1) for one in (key, value))
        moment = Moment(*self.time, layer, self._places(layer, call, query, key).grid)
        words = [one for group in self.groups for one in group.words]
        for row, one in zip(self.rows.tolist(), words, strict=True):
            for head in range(query.shape[1]):
                at = slice(row, row + 1), slice(head, head + 1)
                mask = None if attn_mask is None else mask_of(attn_mask, at[0], slice(None))
                with torch.autocast(query.device.type, enabled=False):
                    logits = scaled_logits(query[at], key[at], of_heads(mask, at[1]), scale)
                    probabilities = self.edits.attention.over_image(logits, [one], moment)
                    output[at] = (probabilities @ value[at].to(probabilities.dtype)).to(output.dtype)
        return output
