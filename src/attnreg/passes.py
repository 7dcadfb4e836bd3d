"""What a picture costs in passes of its denoiser: the unit in which methods are compared on any machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch

from attnreg.attention.layers.catch import Patch, own_signature
from attnreg.models.defaults import denoiser_of

BACKWARD = 2
"""Passes that a backward pass counts: it takes about twice the operations of the forward pass."""


class Passes:
    """A count that grows while a picture is drawn."""

    def __init__(self) -> None:
        self.count = 0


@contextmanager
def counted(pipe: Any) -> Iterator[Passes]:
    """Count what goes through the denoiser inside the block; to be opened before a regulation is.

    One row of a call is one forward pass: with classifier-free guidance an ordinary step takes two. A pass whose
    gradient is asked for takes `BACKWARD` more. A look that ends as soon as every map is seen counts as a whole one.

    Args:
        pipe: a pipeline of diffusers. Afterwards it is as it was.

    Yields:
        The count so far, of all pictures that are drawn in the block together.
    """
    passes, live = Passes(), True
    denoiser = denoiser_of(pipe)
    first = next(iter(own_signature(denoiser, "forward").parameters))

    def add(rows: int) -> None:
        if live:
            passes.count += rows

    def around(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def forward(*args: Any, **kwargs: Any) -> Any:
            sample = args[0] if args else kwargs[first]  # a tensor, or of some models a list of them
            rows = len(sample)
            add(rows)
            wanted = [one for one in (*args, *kwargs.values()) if isinstance(one, torch.Tensor) and one.requires_grad]
            if wanted and torch.is_grad_enabled():
                _once(wanted, lambda: add(BACKWARD * rows))
            return original(*args, **kwargs)

        return torch.compiler.disable(forward, recursive=False)  # type: ignore[no-any-return]

    patch = Patch(denoiser, "forward", around)
    try:
        yield passes
    finally:
        live = False
        patch.undo()


def _once(tensors: list[torch.Tensor], do: Callable[[], None]) -> None:
    """Call something when the gradient of the first of some tensors arrives: one backward pass has gone through all."""
    done = False

    def arrived(_: torch.Tensor) -> None:
        nonlocal done
        if not done:
            done = True
            do()

    for one in tensors:
        one.register_hook(arrived)
