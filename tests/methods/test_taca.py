"""TACA's rule against the softmax that defines it; in whole pipelines: `attention/test_whole_text.py`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attnreg.attention.layers import kernels
from attnreg.attention.layers.correction import Part, attend_corrected
from attnreg.methods.taca import Taca
from attnreg.regulation.columns import columns_of
from attnreg.regulation.edit import PromptColumns
from attnreg.types import Grid
from materialised import hotter_text

HEADS, WIDTH, TEXT, GRID = 3, 16, 40, Grid(4, 6)
COUNT = TEXT + GRID.pixels


def joint_call(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    query, key, value = (torch.randn(2, HEADS, COUNT, WIDTH, generator=generator) for _ in range(3))
    return 2 * query, key, value


def part(first: int, queries: slice, **options: Any) -> Part:
    prompts = (PromptColumns(((3, 4), (7,))), PromptColumns(((1,), (12, 9))))
    columns = columns_of(prompts, first, torch.float32, torch.device("cpu"), TEXT)
    return Part([0, 1], queries, columns, GRID, **options)


ORDERS = {"text first": (0, slice(TEXT, COUNT)), "picture first": (GRID.pixels, slice(0, GRID.pixels))}


@pytest.mark.parametrize("way", ["log-sum-exp", "one-hot values", "with gradients"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("by_head", [False, True])
def test_it_multiplies_the_logits_of_the_text(
    order: str, masked: bool, way: str, by_head: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, queries = ORDERS[order]
    query, key, value = call = joint_call()
    mask = torch.ones(2, 1, 1, COUNT, dtype=torch.bool) if masked else None
    if mask is not None:
        mask[1, ..., first + 30 : first + TEXT] = False
    if way == "one-hot values":
        monkeypatch.setattr(kernels, "_KERNELS", {})
    value.requires_grad_(way == "with gradients")
    bias = lambda attention: Taca(factor=1.5).bias(attention, 0, "layer", {})  # noqa: E731
    got = attend_corrected([(part(first, queries, by_head=by_head), bias)], *call, mask)
    wanted = hotter_text(query, key, queries, slice(first, first + TEXT), 1.5, mask) @ value
    torch.testing.assert_close(got, wanted, rtol=0, atol=3e-6)
    if way == "with gradients":
        ours, theirs = (torch.autograd.grad(one.square().sum(), value)[0] for one in (got, wanted))
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@given(seed=st.integers(0, 99), factor=st.floats(0, 2), strength=st.floats(0, 2))
@settings(deadline=None, max_examples=20)
def test_by_its_definition_in_double_precision(seed: int, factor: float, strength: float) -> None:
    """To 1e-6, and the masses of the targets that the trace is told."""
    first, queries = ORDERS["picture first"]
    query, key, value = (one.double() for one in joint_call(seed))
    told: list[Any] = []
    edited = part(first, queries, note=lambda change: told.append(change.measure().measured()), by_head=True)
    columns = edited.columns._replace(members=edited.columns.members.double(), heeded=edited.columns.heeded.double())
    edit = Taca(factor=factor, strength=strength)
    got = attend_corrected(
        [(edited._replace(columns=columns), lambda seen: edit.bias(seen, 0, "", {}))], query, key, value
    )
    gamma = 1 + strength * (factor - 1)
    text = slice(first, COUNT)
    wanted = hotter_text(query, key, queries, text, gamma)
    torch.testing.assert_close(got, wanted @ value, rtol=0, atol=1e-6)
    plain = hotter_text(query, key, queries, text, 1)
    for image, targets in enumerate([((3, 4), (7,)), ((1,), (12, 9))]):
        for index, target in enumerate(targets):
            for probabilities, name in ((plain, "mass_before"), (wanted, "mass_after")):
                mass = probabilities[image, :, queries, first:][..., list(target)].sum(-1).mean()
                mean = torch.stack([getattr(one, name)[image, index] for one in told]).mean()
                torch.testing.assert_close(mean, mass, rtol=0, atol=1e-6)
    assert len(told) == HEADS


def test_it_is_asked_head_by_head_where_no_gradient_is_kept() -> None:
    """Never a tensor of all heads, all positions and the whole text."""
    seen: list[tuple[int, ...]] = []

    def bias(attention: Any) -> Any:
        seen.append(tuple(attention.probabilities.shape))
        return Taca().bias(attention, 0, "", {})

    attend_corrected([(part(0, slice(TEXT, COUNT), by_head=True), bias)], *joint_call())
    assert seen == [(2, 1, GRID.pixels, TEXT)] * HEADS
