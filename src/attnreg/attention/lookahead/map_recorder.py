"""One look at what a model attends to: a pass of the denoiser over one image and its prompt."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from attnreg.attention.calls.call import Call, contained
from attnreg.attention.families.family import Family, Places
from attnreg.attention.layers.acting import Action, Layers
from attnreg.attention.layers.catch import ForwardPatch, scaled_logits
from attnreg.attention.layers.noting import attend_noting
from attnreg.regulation.edit import Maps
from attnreg.types import AttnregError, Grid

SMALL = 1024
"""Positions of the largest map that is noted for all heads at once: 32 x 32."""
_ABSENT = object()


class _SeenEnough(BaseException):
    """Ends a pass once every layer that is looked at has run: what follows would be thrown away."""


class _Pass:
    """What is seen in one pass of the denoiser; its backward pass asks again where picture and text lie."""

    def __init__(self, arguments: Mapping[str, Any], rows: Sequence[int] | None) -> None:
        self.arguments = arguments
        self.rows = rows
        """Whose attention is noted in a pass that goes on when all has been seen; else it is the first row's."""
        self.open = True
        """Until it has ended: layers may then run again, but nothing is noted."""
        self.cross: dict[str, Tensor] = {}
        """Attention to the text by layer, (row, pixel, token), summed over heads."""
        self.own: dict[str, Tensor] = {}
        """Attention to the picture, of layers that are looked at for it."""
        self.sums: dict[str, Tensor] = {}
        """Both over the layers, where they are not wanted by layer."""
        self.heads: dict[str, int] = {}
        self.grids: dict[str, Grid] = {}
        self.shared: set[str] = set()
        """Layers in which text and picture share one softmax."""

    def note(self, name: str, noted: Tensor, own: bool = False) -> None:
        """Keep what a layer attends to; of a pass with a graph the sum over the layers alone, and the size of each."""
        kept = self.own if own else self.cross
        if self.rows is None:
            kind = "own" if own else "cross"
            before = self.sums.get(kind)
            if before is None or before.shape == noted.shape:
                self.sums[kind] = noted if before is None else before + noted
            noted = noted.new_empty((*noted.shape[:2], 0))
        kept[name] = noted


class MapRecorder:
    """Runs the denoiser for `LatentEdit.update` and `StartEdit.choose`; made once an installation for each."""

    def __init__(
        self, denoiser: nn.Module, layers: Layers, text: Sequence[str], image: Sequence[str], own: bool = False
    ) -> None:
        self.denoiser, self.layers = denoiser, layers
        self.text, self.image = tuple(text), tuple(image)
        """Names of the layers over the text and over the picture that are looked at."""
        self.own = own
        """Whether layers over both tell what the picture gives to itself as well."""
        self.seen = _Pass({}, None)

    @contextmanager
    def ready(self, call: Call) -> Iterator[None]:
        """The denoiser as it must be for passes with gradients, backward ones included; restored afterwards.

        Parameters need no gradient, and activations are computed anew in the backward pass: by the model's own way, if
        that is to be trusted and there is one (not under a scale of LoRA, which diffusers takes back when the forward
        pass ends), else block by block.
        """
        scale = (call.arguments.get("cross_attention_kwargs") or {}).get("scale", 1.0)
        saving = bool(getattr(self.denoiser, "_supports_gradient_checkpointing", False)) and scale == 1.0
        with ExitStack() as stack:
            for parameter in self.denoiser.parameters():
                if parameter.requires_grad:
                    parameter.requires_grad_(False)
                    stack.callback(parameter.requires_grad_, True)
            for module in self.denoiser.modules() if saving and call.family.checkpoints else ():
                if vars(module).get("gradient_checkpointing") is False:
                    _set_for_now(stack, module, "gradient_checkpointing", True)
                    _set_for_now(stack, module, "_gradient_checkpointing_func", _computed_again)
            for block in () if call.family.checkpoints else self._blocks(call.family):
                stack.callback(ForwardPatch(block, lambda forward: partial(_computed_again, forward)).undo)
            stack.enter_context(self.layers.acting(self._acts(call)))
            yield

    def _blocks(self, family: Family) -> list[nn.Module]:
        """The repeated blocks of the denoiser in which the picture looks at text."""
        names = [name for name, module in self.denoiser.named_modules() if family.is_text_attention(name, module)]
        repeated = (re.match(r"(?:[A-Za-z_]\w*\.)+?\d+(?:\.\d+)*(?=\.)", name) for name in names)
        return [self.denoiser.get_submodule(name) for name in dict.fromkeys(one[0] for one in repeated if one)]

    def __call__(self, call: Call, row: int, sample: Float[Tensor, row * latent]) -> Maps:
        """What a row's prompt attends to where the denoiser is given `sample` in place of that row's."""
        with torch.inference_mode(False), torch.enable_grad():
            seen, _ = self._pass(call, call.of_rows([row], **{call.family.sample: sample}))
            cross = self._mean(seen, self.text, "cross")
            own = self._mean(seen, self.image or self.text, "own") if seen.own else None
            if seen.shared:
                cross = _of_its_sum(cross)
                own = None if own is None else _of_its_sum(own)
            return Maps(cross, own, seen.grids[self.text[0]])

    @torch.no_grad()
    def by_layer(
        self, call: Call, arguments: dict[str, Any], rows: Sequence[int], beside: Mapping[str, Action] | None = None
    ) -> tuple[Any, list[list[Maps]]]:
        """A whole pass with some arguments: what the denoiser returns, to the bit, and what some rows attend to.

        Of each layer over the text alone, of whatever size, without a graph; needs no `ready`. beside: what other
        layers do meanwhile.
        """
        here = replace(call, arguments=arguments)
        acts = {name: act._replace(only_looks=True) for name, act in self._acts(here).items()}
        with self.layers.acting({**(beside or {}), **acts}):
            seen, output = self._pass(call, arguments, rows)
        means = [(seen.cross[name] / seen.heads[name], seen.grids[name]) for name in self.text]
        return output, [[Maps(maps[place], None, grid) for maps, grid in means] for place in range(len(rows))]

    def _acts(self, call: Call) -> dict[str, Action]:
        keys = call.family.keys(call.arguments)
        over_text = {name: Action(keys, partial(self._over_text, call.family, name)) for name in self.text}
        return over_text | {name: Action(None, partial(self._over_image, name)) for name in self.image}

    def _pass(self, call: Call, arguments: dict[str, Any], rows: Sequence[int] | None = None) -> tuple[_Pass, Any]:
        """One pass: what the first row attends to.

        Or the rows that are named; then what is returned as well, else the pass ends when all has been seen.
        """
        seen = self.seen = _Pass(contained(arguments), rows)
        output = None
        try:
            output = call.denoise(**arguments)
        except _SeenEnough:
            pass
        finally:
            seen.open = False
        missed = [name for name in self.text if name not in seen.cross]
        if missed := missed + [name for name in self.image if name not in seen.own]:
            raise AttnregError(
                f"expected to see the attention of {', '.join(missed)}, got a pass of the denoiser in which they "
                "did not run; something skips them (cached features?): turn it off"
            )
        return seen, output

    def _mean(self, seen: _Pass, names: Sequence[str], kind: str) -> Float[Tensor, "pixel key"]:
        """The mean over the heads of several layers. Raises `AttnregError` if their maps differ in size."""
        sizes = {name: (seen.own if kind == "own" else seen.cross)[name].shape[1] for name in names}
        if len(set(sizes.values())) > 1:
            listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise AttnregError(
                f"layers: expected layers whose maps are of one size, to average them, got {listed} positions; "
                "choose those of one size"
            )
        return seen.sums[kind][0] / sum(seen.heads[name] for name in names)

    def _attend(
        self,
        name: str,
        own: bool,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """The model's own attention, with probabilities in float32 that are noted.

        In the backward pass a layer may run again: it must then do the same operations, but nothing is noted.
        """
        seen = self.seen
        with torch.autocast(query.device.type, enabled=False):
            probabilities = scaled_logits(query, key, attn_mask, scale).softmax(-1)
            noted = probabilities[:1] if seen.rows is None else probabilities[list(seen.rows)]
            over_heads = noted.sum(1)
            self._noted(name, probabilities.shape[1], own=over_heads if own else None, cross=over_heads)
            if seen.rows is None:
                return probabilities.to(value.dtype) @ value
        # Where more is asked of the pass than its maps, all that follows must be the model's own to the bit.
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )

    def _over_text(
        self, family: Family, name: str, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        """The model's own attention; what the picture's positions give to the text, and maybe to itself, is noted."""
        seen, sizes = self.seen, (query.shape[-2], key.shape[-2])
        rows = [0] if seen.rows is None else seen.rows
        of_rows = family.places_of_rows(rows, name, seen.arguments, self.denoiser, *sizes)
        tokens, (places, *_) = family.tokens(seen.arguments), of_rows
        seen.grids[name] = places.grid
        whole = isinstance(places.queries, slice) and places.queries == slice(None)
        if whole and (places.text, tokens) == (0, sizes[1]) and not kwargs.get("enable_gqa"):
            return self._attend(name, False, query, key, value, *args, **kwargs)
        seen.shared.add(name)
        noted = []
        for places, some in _by_place(rows, of_rows):
            parts = [slice(places.text, places.text + tokens)]
            if self.own:
                parts.append(self._own_keys(family, name, places, sizes))
            output, of_some = attend_noting(some, places.queries, parts, query, key, value, *args, **kwargs)
            noted.append(of_some)
        cross, *own = (torch.cat(part) for part in zip(*noted, strict=True))
        self._noted(name, query.shape[1], cross=cross, own=own[0] if own else None)
        return output

    def _over_image(self, name: str, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The model's own attention over the picture alone; of a large map one head at a time is noted."""
        if query.shape[-2] <= SMALL and not kwargs.get("enable_gqa"):
            return self._attend(name, True, query, key, value, *args, **kwargs)
        rows = [0] if self.seen.rows is None else self.seen.rows
        output, (own,) = attend_noting(rows, slice(None), [slice(None)], query, key, value, *args, **kwargs)
        self._noted(name, query.shape[1], cross=own, own=own)
        return output

    def _own_keys(self, family: Family, name: str, places: Places, sizes: tuple[int, int]) -> slice:
        """Where the picture's keys are, for a method that looks at these too; `AttnregError` if it has none there."""
        own = family.own_keys(places, *sizes)
        if own is None:
            raise AttnregError(
                f"expected {name} to attend from the picture to itself, got {sizes[0]} queries and {sizes[1]} keys; "
                "choose a method that looks at the text alone, such as attend-and-excite"
            )
        return own

    def _noted(self, name: str, heads: int, cross: Tensor, own: Tensor | None) -> None:
        """Keep what a layer attends to, while the pass is open, and end it when all has been seen."""
        seen = self.seen
        if not seen.open:
            return
        seen.heads[name] = heads
        if name in self.text:
            seen.note(name, cross)
        if own is not None:
            seen.note(name, own, own=True)
        if seen.rows is None and seen.heads.keys() == {*self.text, *self.image}:
            raise _SeenEnough


def _by_place(rows: Sequence[int], places: Sequence[Places]) -> Iterator[tuple[Places, Sequence[int]]]:
    """Where picture and text lie, and in which rows: mostly it is the same in all, else a row at a time."""
    if all(one is places[0] for one in places):
        yield places[0], rows
    else:
        yield from ((place, [row]) for place, row in zip(places, rows, strict=True))


def _of_its_sum(maps: Float[Tensor, "pixel key"]) -> Float[Tensor, "pixel key"]:
    """What each position gives to each key, as a share of what it gives to all of them."""
    return maps / maps.sum(-1, keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)


def _computed_again(run: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
    """Gradient checkpointing as diffusers calls it: a module's activations are not kept but computed again."""
    return checkpoint(run, *inputs, use_reentrant=False, **named)


def _set_for_now(stack: ExitStack, module: nn.Module, name: str, value: Any) -> None:
    """Set an attribute until the stack unwinds; then the very object that was there is back, or nothing."""
    before = vars(module).get(name, _ABSENT)
    setattr(module, name, value)
    if before is _ABSENT:
        stack.callback(delattr, module, name)
    else:
        stack.callback(setattr, module, name, before)
