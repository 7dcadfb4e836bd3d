"""Draw one picture: a pipeline, a prompt, a method and a seed give a picture and the account of how it came about."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from attnreg.attention.edits import edits_of
from attnreg.attention.regulate import Edit, Targets, regulate
from attnreg.methods import METHODS
from attnreg.models.defaults import check_size, options_for
from attnreg.regulation.kinds import Composed
from attnreg.types import AttnregError, Sample, Trace


def configure(method: str, settings: dict[str, Any] | None = None) -> Edit | None:
    """The edit of a method with some settings of its own; `None` for "none".

    "prompt-weighting+attention-balance" composes two: a setting goes to each of them that has it.

    Raises `AttnregError` for an unknown method, for a setting that no method has, and for methods that change the same
    part of the model.
    """
    names = method.split("+")
    if unknown := [name for name in names if name not in METHODS]:
        raise AttnregError(
            f"expected a method of {', '.join(METHODS)}, or several joined by +, got {unknown[0]!r}; choose one of them"
        )
    # In a picture's recipe a tuple has become a list.
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in (settings or {}).items()}
    known = {name: list(getattr(METHODS[name].config, "__dataclass_fields__", {})) for name in names}
    every = list(dict.fromkeys(one for settings in known.values() for one in settings))
    if foreign := [name for name in given if name not in every]:
        raise AttnregError(
            f"expected settings of {method} ({', '.join(every) or 'it has none'}), got {foreign[0]}; leave it out"
        )
    edits = [
        config(**{one: value for one, value in given.items() if one in known[name]})
        for name in names
        if (config := METHODS[name].config)
    ]
    if len(edits) < 2:
        return edits[0] if edits else None
    composed = Composed(tuple(edits))
    edits_of(composed)  # says what does not go together, before a model is loaded
    return composed


def generate(
    pipe: Any,
    prompt: str,
    edit: Edit | None,
    *,
    seed: int = 0,
    targets: Targets = None,
    adjectives: bool = True,
    maps: bool = False,
    **options: Any,
) -> Sample:
    """Draw one picture. The seed alone decides it: the same seed gives the same picture in any company.

    edit: what regulates it, from `configure` or a config such as `AttentionBalance()`; `None`: nothing.
    maps: whether the trace keeps where in the picture each target's attention lay (`Trace.maps`).
    options: the pipeline's own (num_inference_steps, guidance_scale, negative_prompt, height, width, ...); those that
    are `None` are left to the pipeline. One side of the picture may be given: the other is the model's own.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    given = options_for(pipe, options)
    with _regulated(pipe, targets, edit, adjectives, maps) as trace:
        began = time.perf_counter()
        picture = pipe(prompt, generator=generator, **given).images[0]
        seconds = time.perf_counter() - began
    check_size(pipe, picture, given)
    return Sample(prompt, seed, picture, trace, seconds)


@contextmanager
def _regulated(pipe: Any, targets: Targets, edit: Edit | None, adjectives: bool, maps: bool) -> Iterator[Trace]:
    if edit is None:
        yield Trace()
    else:
        with regulate(pipe, targets, edit, adjectives=adjectives, maps=maps) as trace:
            yield trace
