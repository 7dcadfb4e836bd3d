"""The correction of a fused kernel's output against an explicit softmax over all logits."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from attnreg.attention.layers import kernels
from attnreg.attention.layers.correction import Part, attend_corrected
from attnreg.regulation.columns import Bias, Columns, columns_of
from attnreg.regulation.edit import PromptColumns
from attnreg.types import AttnregError, Grid

TWO = (PromptColumns(((1, 2), (5,))), PromptColumns(((3,), (4,))))
"""Two prompts with two targets each; in the second of them one column is none."""
WIDTH, HEADS, TEXT, PIXELS = 16, 2, 9, 24


def tensors(batch: int, queries: int, keys: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, HEADS)
    return (
        2 * torch.randn(*shape, queries, WIDTH, generator=generator),
        torch.randn(*shape, keys, WIDTH, generator=generator),
        torch.randn(*shape, keys, WIDTH, generator=generator),
    )


def columns(first: int = 0, images: int = 2) -> Columns:
    """Of the two prompts; first: where the text begins among the keys."""
    return columns_of(TWO[:images], first, torch.float32, torch.device("cpu"))


def by_softmax(
    call: tuple[Tensor, Tensor, Tensor],
    part: Part,
    bias: Tensor,
    mask: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """The definition: all logits, the bias on its columns, a softmax."""
    query, key, value = call
    logits = query @ key.mT * (1 / math.sqrt(WIDTH) if scale is None else scale)
    if mask is not None:
        logits = logits.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else logits + mask
    added = torch.zeros_like(logits)
    for image, row in enumerate(part.rows):
        for place, column in enumerate(part.columns.tokens[image].tolist()):
            if part.columns.members[image, place].any():
                added[row, :, part.queries, column] = bias[image, :, :, place]
    return (logits + added).softmax(-1) @ value


def masks(kind: str, batch: int, keys: int) -> Tensor | None:
    """None, one that excludes, one that is added; one a row of the batch."""
    generator = torch.Generator().manual_seed(5)
    if kind == "none":
        return None
    added = torch.randn(batch, 1, 1, keys, generator=generator)
    return added if kind == "added" else added > -1


CALLS: dict[str, tuple[list[int], slice, int, int, int]] = {
    # rows, queries of the picture, where the text begins, queries, keys
    "cross-attention": ([1, 2], slice(None), 0, PIXELS, TEXT),
    "text before picture": ([0, 1], slice(TEXT, TEXT + PIXELS), 0, TEXT + PIXELS, TEXT + PIXELS),
    "picture before text": ([2, 3], slice(0, PIXELS), PIXELS, TEXT + PIXELS, TEXT + PIXELS),
    "rows apart": ([1, 3], slice(0, PIXELS), PIXELS, TEXT + PIXELS, TEXT + PIXELS),
}


@pytest.mark.parametrize("way", ["log-sum-exp", "one-hot values", "with gradients"])
@pytest.mark.parametrize("mask", ["none", "excludes", "added"])
@pytest.mark.parametrize("name", CALLS)
def test_it_is_the_softmax_of_the_edited_logits(
    name: str, mask: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, queries, first, count, keys = CALLS[name]
    call = tensors(4, count, keys)
    part = Part(rows, queries, columns(first), Grid(4, 6))
    bias = torch.randn(2, HEADS, 1, 3, generator=torch.Generator().manual_seed(1))
    given_mask = masks(mask, 4, keys)
    if way == "one-hot values":
        monkeypatch.setattr(kernels, "_KERNELS", {})
    for one in call:
        one.requires_grad_(way == "with gradients")
    got = attend_corrected([(part, lambda _: Bias(bias))], *call, given_mask)
    wanted = by_softmax(call, part, bias, given_mask)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5)
    if way == "with gradients":
        gradients = [torch.autograd.grad(one.square().sum(), call) for one in (got, wanted)]
        for ours, theirs in zip(*gradients, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("mask", ["none", "excludes", "added"])
@pytest.mark.parametrize("name", CALLS)
def test_what_is_not_corrected_is_the_kernels_own_to_the_bit(name: str, mask: str) -> None:
    """Other rows, text queries, and everything where nothing is added."""
    rows, queries, first, count, keys = CALLS[name]
    call, given_mask = tensors(4, count, keys), masks(mask, 4, keys)
    part = Part(rows, queries, columns(first), Grid(4, 6))
    plain = F.scaled_dot_product_attention(*call, given_mask)
    got = attend_corrected([(part, lambda _: Bias(torch.ones(2, HEADS, 1, 3)))], *call, given_mask)
    changed = torch.zeros(got.shape[:3], dtype=torch.bool)
    for row in rows:
        changed[row, :, queries] = True
    assert torch.equal(got[~changed], plain[~changed])
    assert not torch.isclose(got[changed], plain[changed]).all()
    nothing = attend_corrected([(part, lambda _: Bias(torch.zeros(2, HEADS, 1, 3)))], *call, given_mask)
    assert torch.equal(nothing, plain)


@given(seed=st.integers(0, 99), scale=st.none() | st.floats(0.05, 0.5), dtype=st.sampled_from(["float32", "bfloat16"]))
@settings(deadline=None, max_examples=20)
def test_the_edit_is_given_the_models_own_attention(seed: int, scale: float | None, dtype: str) -> None:
    kind = getattr(torch, dtype)
    query, key, value = (one.to(kind) for one in tensors(2, PIXELS, TEXT, seed))
    seen: list[Any] = []

    def edit(attention: Any) -> Bias:
        seen.append(attention)
        return Bias(torch.randn(2, HEADS, PIXELS, 3, generator=torch.Generator().manual_seed(seed)))

    part = Part([0, 1], slice(None), columns(), Grid(4, 6))
    got = attend_corrected([(part, edit)], query, key, value, scale=scale)
    logits = query.float() @ key.float().mT * (1 / math.sqrt(WIDTH) if scale is None else scale)
    probabilities = logits.softmax(-1)
    for image, prompt in enumerate(TWO):
        for index, target in enumerate(prompt.targets):
            torch.testing.assert_close(
                seen[0].by_target[image, ..., index], probabilities[image, ..., list(target)].sum(-1),
                rtol=1e-4 if kind == torch.float32 else 2e-2, atol=1e-6,
            )  # fmt: skip
    assert got.dtype == kind
    wanted = by_softmax((query.float(), key.float(), value.float()), part, edit(None).columns, scale=scale)
    torch.testing.assert_close(got.float(), wanted, rtol=0, atol=1e-5 if kind == torch.float32 else 0.05)


def test_several_parts_and_grouped_heads() -> None:
    """Two groups of images, with other numbers of targets; keys and values that serve several heads each."""
    query, _, _ = tensors(2, PIXELS, TEXT)
    key, value = (torch.randn(2, 1, TEXT, WIDTH, generator=torch.Generator().manual_seed(i)) for i in (1, 2))
    one = columns_of((PromptColumns(((7,),)),), 0, torch.float32, torch.device("cpu"))
    parts = [
        (Part([0], slice(None), one, Grid(4, 6)), torch.full((1, HEADS, 1, 1), 1.5)),
        (Part([1], slice(None), columns(images=1), Grid(4, 6)), torch.full((1, HEADS, 1, 3), -0.5)),
    ]
    edits = [(part, lambda _, bias=bias: Bias(bias)) for part, bias in parts]
    got = attend_corrected(edits, query, key, value, enable_gqa=True)
    whole = query, key.expand(-1, HEADS, -1, -1), value.expand(-1, HEADS, -1, -1)
    for (part, bias), row in zip(parts, (0, 1), strict=True):
        torch.testing.assert_close(got[row], by_softmax(whole, part, bias)[row], rtol=0, atol=1e-5)


@pytest.mark.parametrize("pixels", [1, PIXELS])
def test_what_an_account_is_told_takes_no_gradient_away(pixels: int) -> None:
    """The masses are measured before the output is corrected, and told as the softmax of all logits has them."""
    bias = torch.randn(2, HEADS, pixels, 3, generator=torch.Generator().manual_seed(1))
    found: list[Any] = []
    gradients = []
    for note in (None, lambda change: found.append(change.measure().measured())):
        call = [one.requires_grad_() for one in tensors(2, PIXELS, TEXT)]
        part = Part([0, 1], slice(None), columns(), Grid(4, 6), note)
        got = attend_corrected([(part, lambda _: Bias(bias))], *call)
        gradients.append(torch.autograd.grad(got.square().sum(), call))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)
    query, key, _ = tensors(2, PIXELS, TEXT)
    before = query @ key.mT / math.sqrt(WIDTH)
    after = before.clone()
    for image, prompt in enumerate(TWO):
        for place, column in enumerate(column for target in prompt.targets for column in target):
            after[image, :, :, column] += bias[image, :, :, place]
    for logits, told in ((before, found[0].mass_before), (after, found[0].mass_after)):
        for image, prompt in enumerate(TWO):
            for index, target in enumerate(prompt.targets):
                mass = logits.softmax(-1)[image][..., list(target)].sum(-1).mean()
                torch.testing.assert_close(told[image, index], mass)
    assert not found[0].mass_after.requires_grad


def test_a_bias_is_told_as_what_is_added_or_as_what_it_makes_grow() -> None:
    bias = torch.tensor([[[[0.0, 1.0, -2.0]]]])
    torch.testing.assert_close(Bias(growth=Bias(bias).growth).columns, bias)
    for wrong in ({}, {"columns": bias, "growth": bias}):
        with pytest.raises(AttnregError, match="both or neither"):
            Bias(**wrong)
