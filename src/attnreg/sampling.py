"""Draw one picture: a pipeline, a prompt, a method and a seed give a picture and the account of how it came about."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from attnreg.attention.regulate import Targets, regulate
from attnreg.methods import METHODS
from attnreg.regulation.edit import LogitEdit
from attnreg.types import AttnregError, Sample, Trace


def configure(method: str, settings: dict[str, Any] | None = None) -> LogitEdit | None:
    """The edit of a method with some settings of its own; `None` for "none".

    Raises `AttnregError` for an unknown method or a setting that the method has not.
    """
    if method not in METHODS:
        raise AttnregError(f"expected a method of {', '.join(METHODS)}, got {method!r}; choose one of them")
    config, settings = METHODS[method].config, settings or {}
    known = list(getattr(config, "__dataclass_fields__", {}))
    if unknown := [name for name in settings if name not in known]:
        raise AttnregError(
            f"expected settings of {method} ({', '.join(known) or 'it has none'}), got {unknown[0]}; leave it out"
        )
    # In a picture's recipe a tuple has become a list.
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    return config(**given) if config else None


def generate(
    pipe: Any,
    prompt: str,
    edit: LogitEdit | None,
    *,
    seed: int = 0,
    targets: Targets = None,
    adjectives: bool = True,
    **options: Any,
) -> Sample:
    """Draw one picture. The seed alone decides it: the same seed gives the same picture in any company.

    edit: what regulates it, from `configure` or a config such as `AttentionRegulation()`; `None`: nothing.
    options: the pipeline's own (num_inference_steps, guidance_scale, negative_prompt, height, width, ...); those that
    are `None` are left to the pipeline.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    given = {name: value for name, value in options.items() if value is not None}
    with _regulated(pipe, targets, edit, adjectives) as trace:
        began = time.perf_counter()
        picture = pipe(prompt, generator=generator, **given).images[0]
        seconds = time.perf_counter() - began
    return Sample(prompt, seed, picture, trace, seconds)


@contextmanager
def _regulated(pipe: Any, targets: Targets, edit: LogitEdit | None, adjectives: bool) -> Iterator[Trace]:
    if edit is None:
        yield Trace()
    else:
        with regulate(pipe, targets, edit, adjectives=adjectives) as trace:
            yield trace
