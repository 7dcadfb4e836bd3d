"""What every edit promises of a pipeline, whatever it changes there: asked of each kind of edit by its own tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import tiny_families
from attnreg import regulate
from attnreg.attention.families import family_of
from attnreg.trace import Trace

PROMPT = "a cat and a blue balloon"
OTHER = "a dog with a car and a clock"
Draw = Callable[..., Tensor]
IDLE: Sequence[Mapping[str, Any]] = ({"strength": 0.0}, {"window": (0.5, 0.5)})
"""Settings with which an edit changes nothing."""


def everything_in(pipe: Any) -> list[Any]:
    """The very objects that a regulation might leave behind or replace."""
    _, denoiser = family_of(pipe)
    found: list[Any] = [pipe.__dict__.get("encode_prompt"), pipe.scheduler, denoiser]
    for part in pipe.components.values():
        for module in part.modules() if isinstance(part, nn.Module) else ():
            processor = getattr(module, "processor", None)
            found.append((module, processor, sorted(vars(module)), module.forward.__func__))
            found.append(dict(vars(processor)) if processor is not None else None)
    return found


def held_before_during_after(
    pipe: Any, draw: Draw, plain: Tensor, edit: Any, idle: Sequence[Mapping[str, Any]] = IDLE
) -> Trace:
    """The picture moves, the same way every time; afterwards, or where nothing is to be done, all is as it was.

    Args:
        pipe: a pipeline.
        draw: makes a picture of it.
        plain: the unmodified one.
        edit: what regulates it.
        idle: changes of the edit's settings, with each of which it does nothing.

    Returns:
        The trace of the two regulated pictures.
    """
    objects = everything_in(pipe)
    with regulate(pipe, config=edit) as trace:
        during, again = draw(), draw()
    assert torch.equal(during, again)
    assert not torch.allclose(during, plain, rtol=0, atol=1e-6)
    assert objects == everything_in(pipe)
    assert torch.equal(draw(), plain)
    for settings in idle:
        with regulate(pipe, config=dataclasses.replace(edit, **settings)):
            assert torch.equal(draw(), plain), settings
    return trace


def held_of_two_prompts(name: str, pipe: Any, draw: Draw, edit: Any, tolerance: float) -> Trace:
    """One with more targets than the other; each image is drawn as it would be alone, to the rounding of the batch.

    Args:
        name: of the tiny pipeline.
        pipe: that pipeline.
        draw: makes pictures of it.
        edit: what regulates it.
        tolerance: how far a picture may be from that drawn alone.

    Returns:
        The trace of both pictures.
    """
    draw = partial(draw, **tiny_families.TOGETHER.get(name, {}))
    prompts, targets = [PROMPT, OTHER], [["cat", "blue balloon"], ["clock", "dog", "car"]]
    with regulate(pipe, targets, edit) as trace:
        together = draw(prompts)
    for number in range(2) if name not in tiny_families.SEE_ONE_ANOTHER else ():
        with regulate(pipe, targets[number], edit):
            alone = draw(prompts[number], seed=number)
        torch.testing.assert_close(together[number : number + 1], alone, rtol=tolerance, atol=tolerance)
    return trace
