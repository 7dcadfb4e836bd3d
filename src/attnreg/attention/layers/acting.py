"""What the attention layers of a denoiser do during one call of it: nothing, unless they are told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from attnreg.attention.layers.catch import CatchAttention, attends_natively, native_attention, processor_name
from attnreg.types import AttnregError


class Action(NamedTuple):
    """What stands in for the attention call of one layer."""

    keys: int | None
    """Over how many keys the call is that is meant; `None`: the layer's first."""
    attend: Callable[..., Tensor]
    """Takes what `scaled_dot_product_attention` takes."""
    only_looks: bool = False
    """Whether it returns what the layer's own call returns, to the bit."""


class Layers:
    """The stand-ins of the layers; which of them act, and how, is set from call to call."""

    def __init__(self, remedy: str) -> None:
        self.remedy = remedy
        """What to call where a layer's processor makes no attention call that can be caught."""
        self.acts: dict[str, Action] = {}
        """By the layer's name; a layer without an entry runs as it always does."""
        self.caught: set[str] = set()
        """Those that have acted since it was emptied."""

    @contextmanager
    def acting(self, acts: dict[str, Action]) -> Iterator[None]:
        """Other acts for a while."""
        before, self.acts = self.acts, acts
        try:
            yield
        finally:
            self.acts = before

    def around(self, name: str, module: nn.Module, original: Callable[..., Any]) -> Callable[..., Any]:
        """Run the module's own forward; while it is to act, catch its attention call."""

        @wraps(original)
        def forward(*args: Any, **kwargs: Any) -> Any:
            act = self.acts.get(name)
            if act is None:
                return original(*args, **kwargs)
            catch = CatchAttention(act.keys, act.attend)
            # Another backend returns other bits: where nothing is to be changed, the layer runs by it as well.
            own = original(*args, **kwargs) if act.only_looks and not attends_natively(module) else None
            with catch, native_attention(module):
                output = original(*args, **kwargs)
            if not catch.caught:
                over = f"over the {act.keys} text tokens" if act.keys else "over the picture's positions"
                raise AttnregError(
                    f"expected {name} to call scaled_dot_product_attention {over}, got "
                    f"{processor_name(module)}, which does not; turn attention slicing and xFormers off: "
                    f"{self.remedy}"
                )
            self.caught.add(name)
            return output if own is None else own

        return torch.compiler.disable(forward)  # type: ignore[no-any-return]

    def check_nothing_escaped(self, step: int) -> None:
        """Raises `AttnregError` if a layer that was to act did not run."""
        if missed := [name for name in self.acts if name not in self.caught]:
            raise AttnregError(
                f"expected {len(self.acts)} regulated layers to run in step {step}, got none of "
                f"{', '.join(missed)}; something skips them (cached features? a compilation older than the "
                "regulation? then call torch.compiler.reset())"
            )
