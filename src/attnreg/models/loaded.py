"""Whether what was loaded is a whole model: no weight missing, none that is not a number."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from attnreg.types import AttnregError

TRANSFORMERS = "transformers.modeling_utils"
_MISSING = re.compile(r"^\s*([\w.{}, ]+?)\s*\|\s*(?:\x1b\[[\d;]*m)*MISSING", re.MULTILINE)
"""A row of transformers' report: the weight's name and what became of it."""


@contextmanager
def noticing_missing() -> Iterator[list[str]]:
    """Collects the names of weights that transformers did not find in a file, while parts of a model are loaded.

    It fills them with random numbers and says so in its log alone, which is not shown while this lasts.
    """
    missing: list[str] = []

    def note(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if "LOAD REPORT" not in text:
            return record.levelno >= before
        missing.extend(name.strip() for name in _MISSING.findall(text))
        return False

    logger = logging.getLogger(TRANSFORMERS)
    before, own = logger.getEffectiveLevel(), logger.level
    logger.addFilter(note)
    logger.setLevel(min(before, logging.WARNING))
    try:
        yield missing
    finally:
        logger.setLevel(own)
        logger.removeFilter(note)


def check_whole(pipe: Any, model: str) -> None:
    """Make sure that every part of a pipeline got all of its weights. Nothing is computed.

    Raises:
        AttnregError: one was not in the files, as after damage to a file's header.
    """
    for part, name, weight in _weights(pipe):
        if weight.is_meta:
            raise AttnregError(
                f"expected every weight of a model, got {model} without {part}.{name}; the file is damaged or of "
                "another model: download it again"
            )


def check_finite(pipe: Any, model: str) -> None:
    """Make sure that every weight of a pipeline is a number. One pass over the weights, where they are.

    Raises:
        AttnregError: one is not a number or infinite, as after a merge in half precision.
    """
    weights = [
        (f"{part}.{name}", weight)
        for part, name, weight in _weights(pipe)
        if weight.is_floating_point() and weight.itemsize > 1 and weight.numel()
    ]
    # The least and the greatest need no memory of their own, and nothing that isn't a number gets past them.
    ends = [torch.stack(torch.aminmax(weight.detach())).float() for _, weight in weights]
    for (name, _), finite in zip(weights, torch.stack([end.cpu() for end in ends]).isfinite().all(1), strict=True):
        if not finite:
            raise AttnregError(
                f"expected weights that are numbers, got {model} whose {name} holds some that are not; download the "
                "model again, or take it in float32"
            )


def _weights(pipe: Any) -> Iterator[tuple[str, str, Tensor]]:
    """Part, name and value of every parameter of a pipeline's networks; also of a pipeline within it."""
    for part, module in pipe.components.items():
        if isinstance(module, nn.Module):
            for name, weight in module.named_parameters():
                yield part, name, weight
        elif hasattr(module, "components"):
            yield from ((f"{part}.{inner}", name, weight) for inner, name, weight in _weights(module))
