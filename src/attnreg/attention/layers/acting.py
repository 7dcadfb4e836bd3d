"""What the attention layers of a denoiser do during one call of it: nothing, unless they are told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, NamedTuple

from torch import Tensor, nn

from attnreg.attention.layers.catch import CatchAttention, attends_natively, native_attention, processor_name
from attnreg.attention.layers.stand_in import eagerly
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
        self.inside: set[str] = set()
        """Those whose stand-in runs: beneath one that someone has wrapped lies the first, which passes on."""
        self.forget()

    def forget(self) -> None:
        """Back to before any step of a picture."""
        self.caught: set[str] = set()
        """Those that have acted since it was emptied."""
        self.called: set[str] = set()
        """Those whose forward has run in the denoiser's call of now."""
        self.known: set[str] = set()
        """Those whose forward has run in some call of this picture: if it does not any more, that is on purpose."""
        self.processors: dict[str, Any] = {}
        """By which processor a layer has made the attention call that was meant."""
        self.ever = False
        """Whether any layer has done otherwise than it always does in this picture."""

    def begin_call(self) -> None:
        """Before the denoiser runs for the pipeline."""
        self.caught, self.called = set(), set()

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
            self.called.add(name)
            act = self.acts.get(name)
            if act is None or name in self.inside:
                return original(*args, **kwargs)
            catch = CatchAttention(act.keys, act.attend)
            self.inside.add(name)
            try:
                # Another backend returns other bits: where nothing is to be changed, the layer runs by it as well.
                own = original(*args, **kwargs) if act.only_looks and not attends_natively(module) else None
                with catch, native_attention(module):
                    output = original(*args, **kwargs)
            finally:
                self.inside.discard(name)
            processor = getattr(module, "processor", module)
            if not catch.caught and not catch.attended and self.processors.get(name) is processor:
                return output if own is None else own  # it has kept what it computed in an earlier step
            if not catch.caught:
                over = f"over the {act.keys} text tokens" if act.keys else "over the picture's positions"
                raise AttnregError(
                    f"expected {name} to call scaled_dot_product_attention {over}, got "
                    f"{processor_name(module)}, which does not; turn attention slicing and xFormers off: "
                    f"{self.remedy}"
                )
            self.caught.add(name)
            self.processors[name] = processor
            return output if own is None else own

        return eagerly(forward)

    def end_call(self, step: int, last: bool) -> None:
        """After the denoiser has run for the pipeline.

        A layer that has run in an earlier step of this picture, and does not in this one, is left out by a cache: what
        it would add is taken from then. One that was never seen to run has escaped.

        Args:
            step: which one it was.
            last: whether it is the last one in which layers are to act.

        Raises:
            AttnregError: if a layer that was to act has escaped, or if none acted in any step.
        """
        self.known |= self.called
        edited = [name for name, act in self.acts.items() if not act.only_looks]
        self.ever = self.ever or not self.caught.isdisjoint(edited)
        if missed := [name for name in self.acts if name not in self.caught | self.known]:
            raise AttnregError(
                f"expected {len(self.acts)} regulated layers to run in step {step}, got none of "
                f"{', '.join(missed)}; something skips them (features cached in another picture? a compilation older "
                "than the regulation? then call torch.compiler.reset())"
            )
        if edited and last and not self.ever:
            raise AttnregError(
                f"expected {len(edited)} regulated layers to attend in some regulated step, got none up to step "
                f"{step}: a cache left all of them out; widen the window to a step that is computed, or turn it off"
            )
