"""The kernels for CUDA against torch's own operations, by Triton's interpreter, which needs no GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_correction import HEADS, columns, tensors
from torch import Tensor

from attnreg.attention.layers import correction, fused
from attnreg.attention.layers.correction import Part, attend_corrected
from attnreg.methods.attention_scaling import AttentionScaling
from attnreg.regulation.balance import AttentionBalance
from attnreg.regulation.columns import Bias
from attnreg.types import Grid
from benchmarks.cost import operations

pytest.importorskip("triton")


def taken_everywhere(*_: Any) -> bool:
    return True


PIXELS, TEXT = 100, 9
"""More than a block, and no whole number of them."""


def corrected(
    edit: Any, call: tuple[Tensor, Tensor, Tensor], queries: slice, first: int, rows: list[int], **options: Any
) -> tuple[Tensor, list[Any]]:
    told: list[Any] = []
    part = Part(rows, queries, columns(first, len(rows)), Grid(10, 10), lambda change: told.append(change.measure()))
    return attend_corrected([(part, edit)], *call, **options), told


def even(attention: Any) -> Bias:
    return AttentionBalance().bias(attention, 0, "", {})


def constant(attention: Any) -> Bias:
    return AttentionScaling(strength=2.0).bias(attention, 0, "", {})


def per_pixel(attention: Any) -> Bias:
    generator = torch.Generator().manual_seed(3)
    return Bias(2 * torch.randn(attention.probabilities.shape, generator=generator))


EDITS = {"balance": even, "scaling": constant, "a number a pixel": per_pixel}


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", EDITS)
def test_the_kernels_do_what_the_operations_do(
    name: str, dtype: torch.dtype, joint: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = TEXT + PIXELS if joint else TEXT
    queries = slice(TEXT, TEXT + PIXELS) if joint else slice(0, PIXELS)
    call = tensors(4, keys if joint else PIXELS, keys)
    call = tuple(one.to(dtype) for one in call)
    expected, told = corrected(EDITS[name], call, queries, 0, [1, 3])
    monkeypatch.setattr(correction, "is_fused", taken_everywhere)
    found, told_too = corrected(EDITS[name], call, queries, 0, [1, 3])
    exact = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.02, "atol": 0.02}
    torch.testing.assert_close(found, expected, **exact)
    assert torch.equal(found[[0, 2]], expected[[0, 2]])
    for mine, theirs in zip(told_too, told, strict=True):
        for a, b in ((mine.before, theirs.before), (mine.after, theirs.after)):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_a_bias_of_zero_leaves_the_kernels_own_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    call = tensors(2, PIXELS, TEXT)
    plain = torch.nn.functional.scaled_dot_product_attention(*call)
    monkeypatch.setattr(correction, "is_fused", taken_everywhere)
    found, _ = corrected(lambda attention: Bias(torch.zeros(1, HEADS, 1, 3)), call, slice(0, PIXELS), 0, [1])
    assert torch.equal(found, plain)


def test_a_scale_of_the_callers_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    call = tensors(2, PIXELS, TEXT)
    expected, _ = corrected(even, call, slice(0, PIXELS), 0, [1], scale=0.1)
    monkeypatch.setattr(correction, "is_fused", taken_everywhere)
    found, _ = corrected(even, call, slice(0, PIXELS), 0, [1], scale=0.1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_what_they_cannot_do_is_left_to_torch() -> None:
    query = torch.zeros(1)
    assert not fused.is_fused(query, query, None, query)  # a CPU
    on_gpu = torch.zeros(1, device="meta")
    assert not fused.is_fused(on_gpu, None, None, on_gpu)


class Launches:
    """In the place of the kernels: counts what is launched, and computes nothing."""

    def __init__(self) -> None:
        self.count = 0

    @property
    def column_probabilities(self) -> Launches:
        return self

    corrected = column_probabilities

    def __getitem__(self, grid: tuple[int, int]) -> Any:
        return self.launch

    def launch(self, *args: Any, **kwargs: Any) -> None:
        self.count += 1


@pytest.mark.parametrize(("edit", "most"), [(AttentionBalance(), 7), (AttentionScaling(), 6)])
def test_no_more_is_launched_than_this(edit: Any, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels' two launches and torch's operations beyond the plain call, the account of the run among them."""
    launches = Launches()
    monkeypatch.setattr(correction, "is_fused", taken_everywhere)
    monkeypatch.setattr(fused, "_kernels", lambda: launches)
    assert operations(edit) + launches.count / 2 <= most  # one call before it, that nothing is counted that is kept
    assert launches.count == 4
