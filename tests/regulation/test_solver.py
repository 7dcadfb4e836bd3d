import pytest
import torch

from attnreg.regulation.basis import gaussian_basis
from attnreg.regulation.config import AttentionRegulation
from attnreg.regulation.objective import loss_and_gradient
from attnreg.regulation.reference import ReferenceRegulation
from attnreg.regulation.solver import descend
from attnreg.types import Grid
from materialised import edited as materialised
from recorded import FILES, load

OBJECTIVE = AttentionRegulation().objective


def example(grid, targets, problems=8, seed=0):
    """Groups as real models have them: the rest far ahead, one target neglected."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(problems, targets + 1, grid.pixels, generator=generator)
    logits[:, -1] += 4
    logits[:, 0] -= 2
    basis = gaussian_basis(grid)
    return logits, basis, torch.zeros(problems, targets, len(basis))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_ends_well_below_the_published_descent(path):
    run = load(path)
    for call in run.calls:
        if call.start is not None:
            ours = materialised(AttentionRegulation(), call.logits, run.prompts, run.grid, 0, call.layer, {})
            theirs = ReferenceRegulation().from_start(call.logits, run.prompts, run.grid, 0, call.start, None)[-1]
            assert ours.loss_after.mean() < 0.8 * theirs.mean()


@pytest.mark.parametrize("targets", [1, 2, 3])
@pytest.mark.parametrize("grid", [(1, 1), (4, 4), (8, 8), (16, 16), (32, 24)])
def test_the_loss_never_rises(grid, targets):
    logits, basis, start = example(Grid(*grid), targets)
    losses = torch.stack(
        [descend(OBJECTIVE, logits, basis, start, iterations).loss_after for iterations in range(0, 25, 3)]
    )
    assert (losses.diff(dim=0) <= 0).all()
    assert losses[-1].mean() < 0.7 * losses[0].mean()


def test_loss_after_belongs_to_the_weights():
    logits, basis, start = example(Grid(8, 8), 2)
    found = descend(OBJECTIVE, logits, basis, start, 20)
    expected, _ = loss_and_gradient(OBJECTIVE, found.weights, logits, basis[None])
    torch.testing.assert_close(found.loss_after, expected.flatten())


def test_a_start_from_the_solution_is_kept_or_improved():
    logits, basis, start = example(Grid(8, 8), 2)
    cold = descend(OBJECTIVE, logits, basis, start, 20)
    warm = descend(OBJECTIVE, logits, basis, cold.weights, 5)
    torch.testing.assert_close(warm.loss_before, cold.loss_after)
    assert (warm.loss_after <= warm.loss_before).all()


def test_problems_are_solved_alone():
    logits, basis, start = example(Grid(12, 12), 2)
    together = descend(OBJECTIVE, logits, basis, start, 20).weights
    for one in range(len(logits)):
        alone = descend(OBJECTIVE, logits[one : one + 1], basis, start[one : one + 1], 20).weights
        torch.testing.assert_close(together[one : one + 1], alone, rtol=0, atol=1e-6)


def test_a_stationary_start_stays():
    logits = torch.full((1, 2, 16), 0.0)
    logits[:, 0] = -torch.inf
    basis = gaussian_basis(Grid(4, 4))
    found = descend(OBJECTIVE, logits, basis, torch.zeros(1, 1, len(basis)), 20)
    assert torch.equal(found.weights, torch.zeros_like(found.weights))


def test_mirrored_problems_have_mirrored_solutions():
    grid = Grid(6, 10)
    logits, basis, start = (tensor.double() for tensor in example(grid, 2))
    edit = descend(OBJECTIVE, logits, basis, start, 8).weights @ basis
    mirrored = descend(OBJECTIVE, logits.unflatten(-1, grid).flip(-1).flatten(-2), basis, start, 8).weights @ basis
    torch.testing.assert_close(mirrored.unflatten(-1, grid).flip(-1).flatten(-2), edit)
