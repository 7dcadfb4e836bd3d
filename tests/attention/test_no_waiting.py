"""A step of a regulated picture waits for no device, and outside of the window nothing at all is added."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import tiny
from attnreg import regulate
from attnreg.attention.families import FAMILIES
from attnreg.attention.layers.catch import CatchAttention
from attnreg.catalogue import works
from attnreg.methods import METHODS
from attnreg.regulation.columns import LogitEdit
from attnreg.sampling import configure
from benchmarks.cost import CountOperations
from test_regulate import draw

WAITS = ("aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal", "aten::nonzero", "aten::masked_select")
"""What a host must know the outcome of, or the size of it, before it goes on."""


class Waits(TorchDispatchMode):
    """Counts what makes a host wait for its device, copies from one device to another among it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name()
        moved = name.startswith("aten::_to_copy") and (kwargs or {}).get("device") is not None
        if moved or name.startswith(WAITS):
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


def logit_edits() -> list[Any]:
    names = [name for name, method in METHODS.items() if "logits" in method.edits and name != "auto"]
    found = [configure(name) for name in names if works(name, FAMILIES[0])]
    return [edit for edit in found if isinstance(edit, LogitEdit)]


@pytest.fixture(scope="module")
def pipe() -> Any:
    return tiny.stable_diffusion()


def waits_in(pipe: Any, steps: int, edit: Any) -> Counter[str]:
    # The window is the whole picture, so that every further step is a regulated one.
    with Waits() as waits:
        if edit is None:
            draw(pipe, num_inference_steps=steps)
        else:
            with regulate(pipe, config=edit):
                draw(pipe, num_inference_steps=steps)
    return waits.found


@pytest.mark.parametrize("edit", logit_edits(), ids=lambda edit: type(edit).__name__)
def test_a_regulated_step_waits_no_oftener_than_a_plain_one(pipe: Any, edit: Any) -> None:
    edit = replace(edit, window=(0.0, 1.0), layers=("all",))
    plain, regulated = (partial(waits_in, pipe, edit=one) for one in (None, edit))
    regulated(2)  # what is made once and kept is made now
    assert regulated(5) - regulated(2) == plain(5) - plain(2)


def test_the_mode_sees_what_waits() -> None:
    """Else the test above could be blind."""
    with Waits() as waits:
        float(torch.ones(()))
        torch.ones(2).nonzero()
        torch.ones(2).to("meta")
    assert sum(waits.found.values()) == 3


class Steps:
    """The operations that each step of a picture dispatched, and the steps in which an attention call was caught."""

    def __init__(self, patches: pytest.MonkeyPatch) -> None:
        self.operations: list[int] = []
        self.caught: set[int] = set()
        self.counter = CountOperations()
        entered = CatchAttention.__enter__

        def enter(catch: CatchAttention) -> Any:
            self.caught.add(len(self.operations))
            return entered(catch)

        patches.setattr(CatchAttention, "__enter__", enter)

    def ended(self, pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        self.operations.append(self.counter.count)
        self.counter.count = 0
        return tensors

    def of(self, pipe: Any) -> Steps:
        with self.counter:
            draw(pipe, num_inference_steps=4, callback_on_step_end=self.ended)
        return self


@pytest.mark.parametrize("edit", logit_edits(), ids=lambda edit: type(edit).__name__)
def test_layers_whose_window_is_over_are_left_alone(pipe: Any, edit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No attention call is caught in them, and as much is dispatched as without any regulation."""
    with monkeypatch.context() as patches:
        plain = Steps(patches).of(pipe)
    with monkeypatch.context() as patches, regulate(pipe, config=replace(edit, window=(0.0, 0.5), layers=("all",))):
        regulated = Steps(patches).of(pipe)
    assert plain.caught == set()
    assert regulated.caught == {0, 1}
    assert regulated.operations[2:] == plain.operations[2:]
    assert all(more > fewer for more, fewer in zip(regulated.operations[:2], plain.operations[:2], strict=True))
