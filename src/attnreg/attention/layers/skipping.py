"""Whether parts of a denoiser may be left out of a step, because something keeps what they computed in another."""

from __future__ import annotations

from typing import Any

from torch import nn

from attnreg.attention.layers.stand_in import StandIn
from attnreg.types import AttnregError


def skips_in(denoiser: nn.Module) -> str | None:
    """What may leave out parts of a denoiser, in words; `None` if nothing is known to.

    Caches of diffusers are hooks that keep a state; others (DeepCache) put a forward of their own over blocks.
    """
    for name, module in denoiser.named_modules():
        hooks: dict[str, Any] = getattr(getattr(module, "_diffusers_hook", None), "hooks", {})
        for hook in hooks.values():
            if getattr(hook, "_is_stateful", False):
                return f"{type(hook).__name__} of {type(denoiser).__name__}"
        # Offloading and compiling do so as well, and leave nothing out.
        known = hooks or any(hasattr(module, mark) for mark in ("_hf_hook", "_orig_mod"))
        if name and not known and not isinstance(vars(module).get("forward"), StandIn | None):
            return f"what was put over {name} of {type(denoiser).__name__}"
    return None


def skips_error(denoiser: nn.Module, instead: str) -> AttnregError | None:
    """What is to be raised where a denoiser is asked beside the pipeline's own steps, and must not skip."""
    if (what := skips_in(denoiser)) is None:
        return None
    return AttnregError(
        f"expected a denoiser that computes whatever it is asked beside the pipeline's steps, got {what}, which keeps "
        f"features from step to step: turn it off, or choose {instead}"
    )
