import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attnreg.regulation.basis import gaussian_basis
from attnreg.regulation.objective import Objective, loss_and_gradient
from attnreg.types import Grid

PUBLISHED = {
    "area": 0.2,
    "peak": 0.9,
    "peak_quantile": 0.9,
    "peak_weight": 1.0,
    "area_weight": 80.0,
    "size_weight": 0.09,
}
OBJECTIVE = Objective(**PUBLISHED)


def example(problems=2, targets=2, grid=(4, 5), seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    basis = gaussian_basis(Grid(*grid), dtype=dtype).unsqueeze(0)
    logits = 2 * torch.randn(problems, targets + 1, grid[0] * grid[1], generator=generator, dtype=dtype)
    weights = torch.randn(problems, targets, basis.shape[1], generator=generator, dtype=dtype)
    return weights, logits, basis


def slow_loss(objective, weights, logits, basis):
    """The objective of one problem from nested lists, one number at a time."""
    targets, pixels, functions = len(weights), len(logits[0]), len(basis)
    probability = [[0.0] * pixels for _ in range(targets)]
    for x in range(pixels):
        lifted = [
            math.exp(logits[t][x] + sum(weights[t][k] * basis[k][x] for k in range(functions))) for t in range(targets)
        ]
        for t in range(targets):
            probability[t][x] = lifted[t] / (math.exp(logits[targets][x]) + sum(lifted))
    loss = 0.0
    for t in range(targets):
        ranked = sorted(probability[t])
        rank = objective.peak_quantile * (pixels - 1)
        low, high = ranked[math.floor(rank)], ranked[math.ceil(rank)]
        quantile = low + (high - low) * (rank - math.floor(rank))
        share = min(1.0, objective.area * targets) / targets
        loss += objective.peak_weight * (quantile - objective.peak) ** 2 / targets
        loss += objective.area_weight * (sum(probability[t]) / pixels - share) ** 2 / targets
        loss += objective.size_weight * sum(w * w for w in weights[t]) / functions / targets
    return loss


def torch_loss(objective, weights, logits, basis):
    """The objective in plain PyTorch, for autograd."""
    targets = weights.shape[1]
    lifted = torch.cat([logits[:, :-1] + weights @ basis, logits[:, -1:]], 1)
    probability = lifted.softmax(1)[:, :-1]
    share = min(1.0, objective.area * targets) / targets
    peak = (probability.quantile(objective.peak_quantile, -1) - objective.peak).square().mean(1)
    area = (probability.mean(-1) - share).square().mean(1)
    size = weights.square().mean((1, 2))
    return objective.peak_weight * peak + objective.area_weight * area + objective.size_weight * size


@pytest.mark.parametrize("targets", [1, 2, 6])
@pytest.mark.parametrize("quantile", [0.9, 0.5, 1.0, 0.0])
def test_loss_equals_the_definition(targets, quantile):
    objective = Objective(**PUBLISHED | {"peak_quantile": quantile})
    weights, logits, basis = example(targets=targets)
    loss, _ = loss_and_gradient(objective, weights, logits, basis)
    expected = [
        slow_loss(objective, w.tolist(), a.tolist(), basis[0].tolist()) for w, a in zip(weights, logits, strict=True)
    ]
    torch.testing.assert_close(loss.flatten(), torch.tensor(expected, dtype=torch.float64), rtol=1e-7, atol=1e-9)


@given(
    problems=st.integers(1, 4),
    targets=st.integers(1, 4),
    grid=st.tuples(st.integers(1, 16), st.integers(1, 16)),
    quantile=st.sampled_from([0.0, 0.37, 0.9, 1.0]),
    seed=st.integers(0, 99),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_gradient_equals_autograd(problems, targets, grid, quantile, seed, dtype):
    objective = Objective(**PUBLISHED | {"peak_quantile": quantile})
    weights, logits, basis = example(problems, targets, grid, seed, dtype)
    loss, gradient = loss_and_gradient(objective, weights, logits, basis)
    leaf = weights.requires_grad_()
    expected = torch_loss(objective, leaf, logits, basis)
    torch.testing.assert_close(loss.flatten(), expected.detach(), rtol=1e-5, atol=1e-5)
    (by_autograd,) = torch.autograd.grad(expected.sum(), leaf)
    torch.testing.assert_close(gradient, by_autograd, rtol=1e-5, atol=1e-5)


class ByHand(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weights, logits, basis):
        loss, gradient = loss_and_gradient(OBJECTIVE, weights, logits, basis)
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    def backward(ctx, upstream):
        (gradient,) = ctx.saved_tensors
        return upstream * gradient, None, None


@pytest.mark.parametrize(("targets", "grid"), [(1, (4, 4)), (3, (5, 3)), (2, (1, 1))])
def test_gradient_equals_finite_differences(targets, grid):
    weights, logits, basis = example(targets=targets, grid=grid)
    assert torch.autograd.gradcheck(ByHand.apply, (weights.requires_grad_(), logits, basis))


def test_ties_at_the_quantile_give_a_gradient_of_the_same_size():
    weights, logits, basis = example(problems=1, targets=1, grid=(4, 4))
    logits = logits[..., :1].expand(-1, -1, 16).contiguous()
    loss, gradient = loss_and_gradient(OBJECTIVE, 0 * weights, logits, basis)
    assert torch.isfinite(loss).all()
    # All pixels are equal and so is the sum of the basis: whichever pixels bear the quantile, the total is the same.
    leaf = torch.zeros_like(weights, requires_grad=True)
    (by_autograd,) = torch.autograd.grad(torch_loss(OBJECTIVE, leaf, logits, basis).sum(), leaf)
    torch.testing.assert_close(gradient.sum(), by_autograd.sum())


def test_masked_groups_give_no_nan():
    weights, logits, basis = example(problems=3)
    logits[0, 0] = -torch.inf
    logits[1, -1] = -torch.inf
    logits[2, :-1] = -torch.inf
    for result in loss_and_gradient(OBJECTIVE, weights, logits, basis):
        assert torch.isfinite(result).all()
