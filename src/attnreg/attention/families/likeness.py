"""Families by name, and which of them a denoiser that is in no entry is most like."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Sequence
from typing import Any

from torch import nn

from attnreg.attention.families.family import Family
from attnreg.types import AttnregError


def closest(model: nn.Module, families: Sequence[Family]) -> Family | None:
    """The family whose arguments and layers a denoiser has, of several the one whose class is called most alike.

    Args:
        model: a denoiser.
        families: to choose from.

    Returns:
        The family; `None` if no family's fit.
    """
    fitting = [family for family in families if not lacking(model, family)]
    name = type(model).__name__
    return max(fitting, key=lambda one: difflib.SequenceMatcher(None, name, one.model).ratio(), default=None)


def lacking(model: nn.Module, family: Family) -> str:
    """What a denoiser lacks to be treated as one of a family: an argument, or every layer; empty if nothing."""
    taken = inspect.signature(type(model).forward).parameters
    for name in (family.sample, family.text, family.time):
        if name not in taken:
            return f"the argument {name}"
    if not any(family.is_text_attention(name, module) for name, module in model.named_modules()):
        return "layers in which the picture looks at text"
    return ""


def named(pipe: Any, name: str, families: Sequence[Family]) -> tuple[Family, nn.Module]:
    """A family by its name, in small or capital letters, and the pipeline's module in the place of its denoiser.

    Args:
        pipe: a pipeline of diffusers.
        name: of a family.
        families: to choose from.

    Returns:
        The family and the module, as it is held.

    Raises:
        AttnregError: no family is called so, or the pipeline's denoiser cannot be treated as one of it.
    """
    by_name = {family.name.casefold(): family for family in families}
    family = by_name.get(name.casefold())
    if family is None:
        close = difflib.get_close_matches(name.casefold(), by_name, n=1)
        meant = f"did you mean {by_name[close[0]].name!r}?" if close else "choose one of them"
        raise AttnregError(
            f"family: expected one of {', '.join(one.name for one in families)}, or probe, got {name!r}; {meant}"
        )
    model = getattr(pipe, family.denoiser, None)
    if not isinstance(model, nn.Module):
        raise AttnregError(
            f"expected a pipeline with a .{family.denoiser}, as those of {family.name} have it, got "
            f"{type(pipe).__name__} without; choose another family, or probe"
        )
    inner = getattr(model, "_orig_mod", model)
    if lacks := lacking(inner, family):
        raise AttnregError(
            f"expected a denoiser like that of {family.name}, got {type(inner).__name__} without {lacks}; "
            "choose another family, or probe"
        )
    return family, model
