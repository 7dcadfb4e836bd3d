"""A call of a denoiser in which no position learns of another by attention, and what its attention calls are given.

Every attention call returns zeros. What is left works position by position (projections, norms, residuals), so a change
of one token reaches the keys of that token alone, in every layer; nothing of the output is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from attnreg.attention.layers.catch import native_attention

DIRECTIONS = 8
"""Of so many random directions in a position's vector its components are kept: two vectors that differ, do in these."""


class SeenCall(NamedTuple):
    """One attention call: which module made it, and what stands at its positions, as few numbers each."""

    layer: str
    number: int
    """The how manieth of that module, from 0."""
    queries: Float[Tensor, "row query direction"]
    keys: Float[Tensor, "row key direction"]


class _Unmixed(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[SeenCall] = []
        self.inside: list[str] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        query, key, value = (
            args[i] if len(args) > i else kwargs[name] for i, name in enumerate(("query", "key", "value"))
        )
        layer = self.inside[-1] if self.inside else ""
        number = sum(one.layer == layer for one in self.seen)
        self.seen.append(SeenCall(layer, number, _components(query), _components(key)))
        return value.new_zeros(*query.shape[:-1], value.shape[-1])


def _components(vectors: Float[Tensor, "row head position channel"]) -> Float[Tensor, "row position direction"]:
    """Of each position's vectors the components in some random directions, the same ones every time."""
    _, heads, _, channels = vectors.shape
    directions = torch.randn(heads, channels, DIRECTIONS, generator=torch.Generator().manual_seed(0))
    return torch.einsum("rhpc,hcd->rpd", vectors.float(), directions.to(vectors.device)).cpu()


@torch.no_grad()
def attention_calls(denoiser: nn.Module, run: Callable[[], Any]) -> list[SeenCall]:
    """The attention calls of one run of a denoiser, in their order, none of which mixes anything.

    Args:
        denoiser: whose modules make them.
        run: calls it.

    Returns:
        What each call was given.
    """
    mode = _Unmixed()
    with ExitStack() as around:
        for name, module in denoiser.named_modules():
            around.enter_context(_told(name, module, mode.inside))
            around.enter_context(native_attention(module))
        around.enter_context(torch.compiler.set_stance("force_eager"))
        around.enter_context(mode)
        run()
    return mode.seen


@contextmanager
def _told(name: str, module: nn.Module, inside: list[str]) -> Iterator[None]:
    """Let a list tell whether a module is being run."""

    def leave(*_: Any) -> None:
        inside.pop()

    before = module.register_forward_pre_hook(partial(_enter, inside, name))
    after = module.register_forward_hook(leave, always_call=True)
    try:
        yield
    finally:
        before.remove()
        after.remove()


def _enter(inside: list[str], name: str, *_: Any) -> None:
    inside.append(name)
