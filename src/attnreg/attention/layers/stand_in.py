"""What stands in the place of a callable of a model: a copy of the model comes without it, and it is never pickled."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch

from attnreg.types import AttnregError

ABSENT = object()
"""In the place of what was there before, where the instance had no attribute of its own."""


WHY = "attnreg edits attention here, which no compiler can follow; compile without fullgraph=True"
_REASON = {"reason": WHY} if "reason" in inspect.signature(torch.compiler.disable).parameters else {}


def eagerly(run: Callable[..., Any], *, within: bool = True) -> Callable[..., Any]:
    """A callable that no compiler traces; within: nor what it calls. One that must trace everything says why."""
    made: Callable[..., Any] = torch.compiler.disable(run, recursive=within, **_REASON)
    return made


def check_compiled(error: BaseException) -> None:
    """Raises `AttnregError` if an error is that of a compiler which must trace everything, and met `eagerly`."""
    if type(error).__name__ == "Unsupported" and type(error).__module__ == "torch._dynamo.exc":
        raise AttnregError(
            "expected blocks that are compiled with room for an edit, got a compiler that must trace everything; "
            "compile without fullgraph=True"
        ) from error


class StandIn:
    """A callable on an instance that does as another one, until the instance is copied.

    As a plain function it would go with a deep copy as it is, and the copy would run the original's weights.
    """

    def __init__(self, run: Callable[..., Any], owner: Any, name: str, before: Any) -> None:
        """Stand for `owner.name`.

        Args:
            run: what is called.
            owner: the object whose attribute it is.
            name: of the attribute.
            before: what was there, or `ABSENT`.
        """
        functools.update_wrapper(self, run)
        self.__wrapped__ = getattr(run, "__wrapped__", run)  # one link of the chain, as `run` would be
        self.run, self.owner, self.name, self.before = run, owner, name, before

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As the callable that was given."""
        return self.run(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """What the copy of the owner gets: what was there before, or its own class's method."""
        if self.before is not ABSENT:
            return copy.deepcopy(self.before, memo)
        owner = memo.get(id(self.owner))
        return self if owner is None else getattr(type(owner), self.name).__get__(owner)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Raises `AttnregError`: a stand-in belongs to this process and to this picture."""
        raise AttnregError(
            f"expected a {type(self.owner).__name__} to pickle that is not regulated, got one inside of a regulate "
            "block; pickle it after the block, or a copy.deepcopy of it"
        )
