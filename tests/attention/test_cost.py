"""What a regulated layer adds to the plain call, counted: operations that are launched and bytes that are held."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attnreg.methods.attention_scaling import AttentionScaling
from attnreg.regulation.balance import AttentionBalance
from attnreg.regulation.config import AttentionRegulation
from benchmarks.cost import Layer, Shape, operations
from benchmarks.layers import extra_memory


@pytest.mark.parametrize(
    ("edit", "most"), [(AttentionBalance(), 11), (AttentionScaling(), 11), (AttentionRegulation(), 57)]
)
def test_no_more_operations_are_launched_than_this(edit: Any, most: int) -> None:
    """Those that the account of the run needs among them; a change that launches fewer lowers the number here."""
    assert operations(edit) <= most


@pytest.mark.parametrize("edit", [AttentionBalance(), AttentionRegulation()])
@pytest.mark.parametrize("targets", [1, 5])
def test_evenly_spaced_columns_and_their_number_cost_nothing_more(edit: Any, targets: int) -> None:
    assert operations(edit, targets=targets) == operations(edit, targets=2)


@pytest.mark.parametrize("edit", [AttentionBalance(), AttentionScaling()])
@pytest.mark.parametrize(("pixels", "joint", "most"), [(4096, False, 0.05), (1024, True, 0.05)])
def test_little_memory_is_held_beyond_the_plain_call(edit: Any, pixels: int, joint: bool, most: float) -> None:
    """Nothing as large as all probabilities, nor a second output; two targets."""
    layer = Layer(Shape(2, 2, pixels, 77, 40), edit, joint=joint)
    with torch.no_grad():
        assert 0 <= extra_memory(layer) < most
