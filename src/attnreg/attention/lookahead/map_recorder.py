"""One look at what a model attends to: a pass of the denoiser over one image and its prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from attnreg.attention.calls.call import Call
from attnreg.attention.families.family import Places
from attnreg.attention.layers.acting import Action, Layers
from attnreg.attention.layers.catch import map_of, scaled_logits
from attnreg.attention.layers.correction import attend_noting
from attnreg.regulation.edit import Maps
from attnreg.types import AttnregError, Grid

_ABSENT = object()


class _SeenEnough(BaseException):
    """Ends a pass once every layer that is looked at has run: what follows would be thrown away."""


class MapRecorder:
    """Runs the denoiser for `LatentEdit.update` and `StartEdit.choose`; made once an installation for each."""

    def __init__(self, denoiser: nn.Module, layers: Layers, text: Sequence[str], image: Sequence[str]) -> None:
        self.denoiser, self.layers = denoiser, layers
        self.text, self.image = tuple(text), tuple(image)
        """Names of the layers over the text and over the picture that are looked at."""
        self.seen: dict[str, Tensor] | None = None
        """Attention by layer, (row, pixel, key), summed over heads, and their number; `None` outside of a pass."""
        self.heads: dict[str, int] = {}
        self.grids: dict[str, Grid] = {}
        """Of layers over text and picture together, whose queries are more than the picture's positions."""
        self.rows: Sequence[int] | None = None
        """Whose attention is noted in a pass that goes on when all has been seen; else it is the first row's."""

    @contextmanager
    def ready(self, call: Call) -> Iterator[None]:
        """The denoiser as it must be for passes with gradients, backward ones included; restored afterwards.

        Parameters need no gradient, and activations are computed anew in the backward pass where the model knows how
        (not under a scale of LoRA, which diffusers takes back when the forward pass ends).
        """
        scale = (call.arguments.get("cross_attention_kwargs") or {}).get("scale", 1.0)
        saving = bool(getattr(self.denoiser, "_supports_gradient_checkpointing", False)) and scale == 1.0
        with ExitStack() as stack:
            for parameter in self.denoiser.parameters():
                if parameter.requires_grad:
                    parameter.requires_grad_(False)
                    stack.callback(parameter.requires_grad_, True)
            for module in self.denoiser.modules() if saving else ():
                if vars(module).get("gradient_checkpointing") is False:
                    _set_for_now(stack, module, "gradient_checkpointing", True)
                    _set_for_now(stack, module, "_gradient_checkpointing_func", _computed_again)
            stack.enter_context(self.layers.acting(self._acts(call)))
            yield

    def __call__(self, call: Call, row: int, sample: Float[Tensor, "1 channel height width"]) -> Maps:
        """What a row's prompt attends to where the denoiser is given `sample` in place of that row's."""
        with torch.inference_mode(False), torch.enable_grad():
            seen, _ = self._pass(call, call.of_rows([row], **{call.family.sample: sample}))
            seen = {name: maps[0] for name, maps in seen.items()}
            cross = self._mean(seen, self.text)
            grid = map_of(len(cross), call.latent)
            assert grid is not None
            return Maps(cross, self._mean(seen, self.image) if self.image else None, grid)

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
        grids = {name: self.grids.get(name) or self._grid(here, name, seen[name]) for name in self.text}
        means = [(seen[name] / self.heads[name], grid) for name, grid in grids.items()]
        return output, [[Maps(maps[place], None, grid) for maps, grid in means] for place in range(len(rows))]

    def _grid(self, call: Call, name: str, seen: Float[Tensor, "row pixel key"]) -> Grid:
        """Of a layer over the text alone."""
        return call.family.places(name, call.arguments, self.denoiser, *seen.shape[1:]).grid

    def _acts(self, call: Call) -> dict[str, Action]:
        keys = call.family.keys(call.arguments)
        attend = self._attend if keys is not None else partial(self._attend_jointly, call)
        over_text = {name: Action(keys, partial(attend, name)) for name in self.text}
        return over_text | {name: Action(None, partial(self._attend, name)) for name in self.image}

    def _pass(
        self, call: Call, arguments: dict[str, Any], rows: Sequence[int] | None = None
    ) -> tuple[dict[str, Tensor], Any]:
        """One pass: attention by layer, (row, pixel, key), summed over heads, of the first row.

        Or of the rows that are named; then what is returned as well, else the pass ends when all has been seen.
        """
        self.seen, self.heads, self.rows, self.grids = {}, {}, rows, {}
        output = None
        try:
            output = call.denoise(**arguments)
        except _SeenEnough:
            pass
        finally:
            seen, self.seen = self.seen, None
        if missed := [name for name in (*self.text, *self.image) if name not in seen]:
            raise AttnregError(
                f"expected to see the attention of {', '.join(missed)}, got a pass of the denoiser in which they "
                "did not run; something skips them (cached features?): turn it off"
            )
        return seen, output

    def _mean(self, seen: dict[str, Tensor], names: Sequence[str]) -> Float[Tensor, "pixel key"]:
        """The mean over the heads of several layers. Raises `AttnregError` if their maps differ in size."""
        sizes = {name: len(seen[name]) for name in names}
        if len(set(sizes.values())) > 1:
            listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise AttnregError(
                f"layers: expected layers whose maps are of one size, to average them, got {listed} positions; "
                "choose those of one size"
            )
        total = torch.stack([seen[name] for name in names]).sum(0)
        return total / sum(self.heads[name] for name in names)

    def _attend(
        self,
        name: str,
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
        with torch.autocast(query.device.type, enabled=False):
            probabilities = scaled_logits(query, key, attn_mask, scale).softmax(-1)
            noted = probabilities[:1] if self.rows is None else probabilities[list(self.rows)]
            over_heads = noted.sum(1)
            if self.seen is not None:
                self.seen[name], self.heads[name] = over_heads, probabilities.shape[1]
                if self.rows is None and len(self.seen) == len(self.text) + len(self.image):
                    raise _SeenEnough
            if self.rows is None:
                return probabilities.to(value.dtype) @ value
        # Where more is asked of the pass than its maps, all that follows must be the model's own to the bit.
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )

    def _attend_jointly(
        self, call: Call, name: str, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        """The model's own attention over text and picture; what the picture's positions give to the text is noted."""
        assert self.rows is not None
        sizes, tokens = (query.shape[-2], key.shape[-2]), call.family.tokens(call.arguments)
        of_rows = call.family.places_of_rows(self.rows, name, call.arguments, self.denoiser, *sizes)
        found: list[Tensor] = []
        for places, rows in _by_place(self.rows, of_rows):
            text = slice(places.text, places.text + tokens)
            output, noted = attend_noting(rows, places.queries, text, query, key, value, *args, **kwargs)
            found.append(noted)
        if self.seen is not None:
            self.seen[name], self.heads[name], self.grids[name] = torch.cat(found), query.shape[1], of_rows[0].grid
        return output


def _by_place(rows: Sequence[int], places: Sequence[Places]) -> Iterator[tuple[Places, Sequence[int]]]:
    """Where picture and text lie, and in which rows: mostly it is the same in all, else a row at a time."""
    if all(one is places[0] for one in places):
        yield places[0], rows
    else:
        yield from ((place, [row]) for place, row in zip(places, rows, strict=True))


def _computed_again(module: nn.Module, *inputs: Any) -> Any:
    """Gradient checkpointing as diffusers calls it: the module's activations are not kept but computed again."""
    return checkpoint(module.__call__, *inputs, use_reentrant=False)


def _set_for_now(stack: ExitStack, module: nn.Module, name: str, value: Any) -> None:
    """Set an attribute until the stack unwinds; then the very object that was there is back, or nothing."""
    before = vars(module).get(name, _ABSENT)
    setattr(module, name, value)
    if before is _ABSENT:
        stack.callback(delattr, module, name)
    else:
        stack.callback(setattr, module, name, before)
