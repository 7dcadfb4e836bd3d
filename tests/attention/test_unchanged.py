"""A module that was changed is told from one that was not: wherever its settings lie."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from attnreg.attention.layers.unchanged import Unchanged


class Processor:
    """One that is no module, as most processors of diffusers."""

    def __init__(self) -> None:
        self.scale = [1.0]


def block() -> Any:
    made = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    made.settings = {"one": {"scale": 0.5, "names": ["a"]}, "some": {1, 2}}
    made[0].processor = Processor()
    return made


def write(module: Any) -> None:
    with torch.no_grad():
        module[0].weight.zero_()


def no_hook(*_: Any) -> None:
    pass


CHANGES: dict[str, Callable[[Any], Any]] = {
    "a number deep inside": lambda module: module.settings["one"].update(scale=0.6),
    "a word in a list": lambda module: module.settings["one"]["names"].append("b"),
    "a set": lambda module: module.settings["some"].add(3),
    "a list of the same length": lambda module: module.settings["one"]["names"].__setitem__(0, "b"),
    "a processor's scale": lambda module: module[0].processor.scale.__setitem__(0, 0.0),
    "another processor": lambda module: setattr(module[0], "processor", Processor()),
    "a new attribute": lambda module: setattr(module[1], "s1", 0.9),
    "an attribute less": lambda module: delattr(module, "settings"),
    "another parameter": lambda module: setattr(module[0], "bias", nn.Parameter(torch.zeros(2))),
    "a parameter that is written to": write,
    "a hook": lambda module: module[1].register_forward_hook(no_hook),
    "another layer": lambda module: module.append(nn.ReLU()),
    "another mode": lambda module: module[1].train(not module[1].training),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_is_seen(change: str) -> None:
    module = block()
    unchanged, again = Unchanged(module), Unchanged(block())
    module(torch.ones(1, 2))
    assert unchanged()
    CHANGES[change](module)
    assert not unchanged()
    assert again(), "another module's settings are its own"


def test_the_same_number_once_more_is_no_change() -> None:
    module = block()
    unchanged = Unchanged(module)
    module.settings["one"]["scale"] = float("0.5")
    assert unchanged()


def test_parameters_of_inference_mode_have_no_count_of_writes() -> None:
    with torch.inference_mode():
        module = block()
    assert Unchanged(module)()
