"""Whether a module is still what it was: by its settings and its parameters, not by what it is given."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from operator import is_
from typing import Any

from torch import nn

Holder = dict[Any, Any] | list[Any] | tuple[Any, ...] | set[Any]


class Unchanged:
    """What a module held when this was made; called, it says whether it still does.

    Numbers, words and objects, wherever the module, those inside of it and their attention processors keep them, and
    the collections that these are in: the scale of an IP-Adapter or a LoRA, FreeU's factors, hooks, parameters; further
    whether a parameter was written to. What an object of another kind keeps to itself is not seen.
    """

    def __init__(self, module: nn.Module) -> None:
        held: dict[int, tuple[Holder, tuple[Any, ...]]] = {}
        for namespace in _namespaces(module):
            _note(namespace, held)
        self.empty = [holder for holder, values in held.values() if not values]
        self.filled = [one for one in held.values() if one[1]]
        self.written = [(one, one._version) for one in module.parameters() if not one.is_inference()]

    def __call__(self) -> bool:
        """Quick: nearly all of some ten thousand comparisons are of an object with itself."""
        return (
            not any(self.empty)
            and all(_same(_values(holder), values) for holder, values in self.filled)
            and all(one._version == version for one, version in self.written)
        )


def _namespaces(module: nn.Module) -> Iterator[dict[str, Any]]:
    for one in module.modules():
        yield vars(one)
        processor = getattr(one, "processor", None)
        if hasattr(processor, "__dict__"):
            yield vars(processor)


def _note(holder: Holder, held: dict[int, tuple[Holder, tuple[Any, ...]]]) -> None:
    """What a collection holds, and the collections in it."""
    if id(holder) in held:
        return
    values = tuple(_values(holder))
    held[id(holder)] = holder, values
    for value in values:
        if isinstance(value, dict | list | tuple | set):
            _note(value, held)


def _values(holder: Holder) -> Collection[Any]:
    return holder.values() if isinstance(holder, dict) else holder


def _same(now: Collection[Any], before: tuple[Any, ...]) -> bool:
    return len(now) == len(before) and (all(map(is_, now, before)) or _equal(now, before))


def _equal(now: Iterable[Any], before: Iterable[Any]) -> bool:
    """Whether what is another object now is the same number or word."""
    plain = (bool, int, float, str)
    return all(
        one is other or (type(one) is type(other) and isinstance(one, plain) and one == other)
        for one, other in zip(now, before, strict=True)
    )
