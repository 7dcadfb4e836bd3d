"""The balance in closed form against its definition, written out in loops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attnreg.regulation.balance import AttentionBalance
from attnreg.regulation.columns import ColumnAttention, columns_of
from attnreg.regulation.edit import PromptColumns
from attnreg.types import Grid
from materialised import edited as materialised

GRID = Grid(4, 6)


def balanced(edit: AttentionBalance, logits: Tensor, *targets: tuple[int, ...]) -> Tensor:
    """The probabilities under a balance of the same targets in every image."""
    prompts = [PromptColumns(targets)] * len(logits)
    return materialised(edit, logits, prompts, GRID, 0, "layer", {}).probabilities


def random_logits(images: int, heads: int, tokens: int, seed: int, spread: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(images, heads, GRID.pixels, tokens, generator=generator, dtype=torch.float64)


def slow_balance(logits: Tensor, targets: list[list[int]], gain: float, strength: float) -> Tensor:
    """The definition for one image, head by head, pixel by pixel."""
    heads, pixels, tokens = logits.shape
    out = torch.empty_like(logits)
    for head in range(heads):
        masses = []
        for columns in targets:
            attended = 0.0
            for x in range(pixels):
                weights = [math.exp(float(logits[head, x, c])) for c in range(tokens)]
                attended += sum(weights[c] for c in columns) / sum(weights)
            masses.append(attended / pixels)
        for x in range(pixels):
            weights = [math.exp(float(logits[head, x, c])) for c in range(tokens)]
            for columns, mass in zip(targets, masses, strict=True):
                for c in columns:
                    weights[c] *= (gain * sum(masses) / len(masses) / mass) ** strength
            for c in range(tokens):
                out[head, x, c] = weights[c] / sum(weights)
    return out


@given(
    targets=st.integers(1, 3), seed=st.integers(0, 99), gain=st.sampled_from([0.5, 1.0, 3.0]), strength=st.floats(0, 2)
)
@settings(deadline=None, max_examples=25)
def test_it_is_what_its_definition_says(targets: int, seed: int, gain: float, strength: float) -> None:
    logits = random_logits(2, 2, 8, seed)
    columns = [[1, 4], [2], [6, 5]][:targets]
    prompts = [PromptColumns(tuple(map(tuple, columns)))] * 2
    got = materialised(AttentionBalance(gain=gain, strength=strength), logits, prompts, GRID, 0, "layer", {})
    for image in range(2):
        torch.testing.assert_close(got.probabilities[image], slow_balance(logits[image], columns, gain, strength))
    assert got.mass_before.shape == got.mass_after.shape == (2, targets)


@given(seed=st.integers(0, 999))
@settings(deadline=None, max_examples=20)
def test_a_drowned_target_is_heard_as_much_as_the_other(seed: int) -> None:
    """Two targets among many other words, one at a tenth of the other: their masses end up nearly the same."""
    logits = random_logits(1, 3, 9, seed, 0.7)
    logits[..., 3] -= 2.3
    after = materialised(
        AttentionBalance(gain=1.0), logits, [PromptColumns(((2,), (3,)))], GRID, 0, "layer", {}
    ).probabilities
    before = logits.softmax(-1)
    assert (before[..., 2].mean(-1) / before[..., 3].mean(-1)).min() > 1.5
    ratio = after[..., 2].mean(-1) / after[..., 3].mean(-1)
    assert ratio.max() < 1.2  # 1.194 is the largest of all thousand seeds, the one of seed 823
    assert ratio.min() > 0.85


def test_a_map_keeps_its_shape() -> None:
    """The odds of a target against the other words rise by one factor everywhere in the picture."""
    logits = random_logits(1, 2, 7, 1)
    edited = materialised(
        AttentionBalance(), logits, [PromptColumns(((1,), (2, 3)))], GRID, 0, "layer", {}
    ).probabilities
    before = logits.softmax(-1)
    for column in (1, 2, 3):
        risen = (edited[..., column] / edited[..., 0]) / (before[..., column] / before[..., 0])
        torch.testing.assert_close(risen, risen[..., :1].expand_as(risen))


@pytest.mark.parametrize("gain", [0.5, 1.0, 3.0])
def test_targets_that_are_heard_alike_are_raised_alike(gain: float) -> None:
    logits = random_logits(1, 2, 7, 1)
    logits[..., 3] = logits[..., 1]
    edited = materialised(
        AttentionBalance(gain=gain), logits, [PromptColumns(((1,), (3,)))], GRID, 0, "layer", {}
    ).probabilities
    raised = logits.clone()
    raised[..., [1, 3]] += math.log(gain)
    torch.testing.assert_close(edited, raised.softmax(-1))


def test_one_target_is_only_raised() -> None:
    logits = random_logits(1, 2, 5, 2)
    edited = materialised(AttentionBalance(gain=2.0), logits, [PromptColumns(((2,),))], GRID, 0, "layer", {})
    raised = logits.clone()
    raised[..., 2] += math.log(2)
    torch.testing.assert_close(edited.probabilities, raised.softmax(-1))


def test_no_strength_is_the_plain_softmax_and_what_is_masked_stays_masked() -> None:
    logits = random_logits(1, 2, 5, 3)
    logits[..., 4] = -math.inf
    plain = materialised(AttentionBalance(strength=0.0), logits, [PromptColumns(((1,), (4,)))], GRID, 0, "layer", {})
    assert torch.equal(plain.probabilities, logits.softmax(-1))
    edited = materialised(AttentionBalance(), logits, [PromptColumns(((1,), (4,)))], GRID, 0, "layer", {})
    assert torch.isfinite(edited.probabilities).all()
    assert (edited.probabilities[..., 4] == 0).all()


def test_batch_mates_make_no_difference() -> None:
    logits = random_logits(3, 2, 6, 4).float()
    prompts = [PromptColumns(((1,), (2,))), PromptColumns(((3,), (2,))), PromptColumns(((4, 5), (1,)))]
    together = materialised(AttentionBalance(), logits, prompts, GRID, 0, "layer", {}).probabilities
    for image in range(3):
        alone = materialised(
            AttentionBalance(), logits[image : image + 1], [prompts[image]], GRID, 0, "layer", {}
        ).probabilities
        torch.testing.assert_close(together[image : image + 1], alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_mass_of_a_column_is_its_mean_and_never_nothing(dtype: torch.dtype) -> None:
    probabilities = random_logits(2, 3, 5, 1).softmax(-1).to(dtype)[..., :2].clone()
    probabilities[0, 1, :, 1] = 0
    columns = columns_of((PromptColumns(((1,), (2,))),) * 2, 0, dtype, torch.device("cpu"))
    mass = ColumnAttention(probabilities, columns, GRID, lambda: probabilities.log()).by_column
    torch.testing.assert_close(mass, probabilities.mean(-2, keepdim=True), rtol=1e-6, atol=1e-11)
    assert (mass > 0).all()
    bias = AttentionBalance().bias(ColumnAttention(probabilities, columns, GRID, probabilities.log), 0, "layer", {})
    assert torch.isfinite(bias.growth).all()
