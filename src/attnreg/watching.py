"""Follow a picture while it is drawn, pass by pass of the denoiser, and stop it there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, NamedTuple

import torch

from attnreg.attention.layers.catch import Patch
from attnreg.models.defaults import denoiser_of


class Progress(NamedTuple):
    """How far a picture is."""

    step: int
    """Denoising steps that are done."""
    steps: int
    """Of so many; 0 before the pipeline has said how many it takes."""
    passes: int
    """How often the denoiser was run so far, look-ahead included: it goes on while a method reads initial noises."""


Watch = Callable[[Progress], None]
"""Told before every pass of the denoiser and after every step. What it raises ends the picture there."""


class _Bar:
    """In the place of the pipeline's progress bar: whoever watches shows the progress."""

    def __init__(self, update: Callable[[int], None]) -> None:
        self.update_by = update

    def update(self, n: int = 1) -> None:
        self.update_by(n)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@contextmanager
def watched(pipe: Any, watch: Watch) -> Iterator[None]:
    """Tell `watch` how far the pipeline is, inside the block; to be opened before a regulation is.

    A regulation that is opened inside makes all its passes through the denoiser that it finds, so those are counted
    too. The pipeline's own progress bar is not shown meanwhile. Afterwards the pipeline is as it was.

    Args:
        pipe: a pipeline of diffusers.
        watch: what is told. It ends the picture by raising: no more than the pass in hand is waited for.
    """
    state = {"step": 0, "steps": 0, "passes": 0}
    live = True

    def tell() -> None:
        if live:
            watch(Progress(**state))

    def around_denoiser(original: Callable[..., Any]) -> Callable[..., Any]:
        tell_eagerly = torch.compiler.disable(tell)  # nothing that a compiler can trace

        @wraps(original)
        def forward(*args: Any, **kwargs: Any) -> Any:
            tell_eagerly()
            state["passes"] += 1
            return original(*args, **kwargs)

        return torch.compiler.disable(forward, recursive=False)  # type: ignore[no-any-return]

    def advance(n: int) -> None:
        state["step"] += n
        tell()

    def around_bar(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def progress_bar(iterable: Any = None, total: int | None = None) -> Any:
            if not live or total is None:
                return original(iterable, total)
            state["steps"] = total
            return _Bar(advance)

        return progress_bar

    patches: list[Patch] = []
    try:
        patches.append(Patch(denoiser_of(pipe), "forward", around_denoiser))
        if hasattr(pipe, "progress_bar"):
            patches.append(Patch(pipe, "progress_bar", around_bar))
        yield
    finally:
        live = False
        for patch in reversed(patches):
            patch.undo()
