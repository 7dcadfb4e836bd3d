import pytest
import torch
from test_solver import example

from attnreg.regulation.basis import gaussian_basis
from attnreg.regulation.config import AttentionRegulation
from attnreg.regulation.newton import _Memory, _slopes, approach, frame_of
from attnreg.regulation.objective import loss_and_gradient
from attnreg.regulation.reference import ReferenceRegulation
from attnreg.regulation.solver import descend
from attnreg.types import Grid
from materialised import edited as materialised
from recorded import FILES, load

OBJECTIVE = AttentionRegulation().objective
SPACING = AttentionRegulation().spacing


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_search_of_the_recorded_runs_ends_above_ten_steps_of_descent(path):
    """The steps of a picture one after the other, each from the step before."""
    run = load(path)
    memories: dict = {}
    sought: dict = {}
    ours, before = [], []
    for call in run.calls:
        memory = memories.setdefault(call.layer, {})
        found = materialised(AttentionRegulation(), call.logits, run.prompts, run.grid, call.step, call.layer, memory)
        ours.append(found.loss_after.mean())
        grouped = grouped_logits(call.logits, run.prompts[0])
        basis = gaussian_basis(run.grid)
        start = sought.get(call.layer, torch.zeros_like(memory["weights"]))
        slow = descend(OBJECTIVE, grouped, basis, start, 10)
        sought[call.layer] = slow.weights
        before.append(slow.loss_after.mean())
    first = len({call.layer for call in run.calls})
    for some in (slice(None, first), slice(first, None)):
        if ours[some]:
            assert torch.stack(ours[some]).mean() <= torch.stack(before[some]).mean()


def grouped_logits(logits, prompt):
    chosen = logits.softmax(-1)[..., [column for (column,) in prompt.targets]]
    return torch.cat([chosen, 1 - chosen.sum(-1, keepdim=True)], -1).log().mT.flatten(0, 1)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_three_steps_end_below_the_published_twenty(path):
    run = load(path)
    for call in run.calls:
        if call.start is not None:
            grouped = grouped_logits(call.logits, run.prompts[0])
            start = torch.zeros(len(grouped), grouped.shape[1] - 1, len(gaussian_basis(run.grid)))
            found = approach(OBJECTIVE, grouped, run.grid, SPACING, start, 3)
            theirs = ReferenceRegulation().from_start(call.logits, run.prompts, run.grid, 0, call.start, None)[-1]
            assert found.loss_after.mean() < theirs.mean()


@pytest.mark.parametrize("targets", [1, 2, 3, 5])
@pytest.mark.parametrize("grid", [(1, 1), (2, 3), (4, 4), (8, 8), (16, 16), (32, 24)])
def test_no_loss_rises_and_the_losses_are_those_of_the_weights(grid, targets):
    logits, basis, start = example(Grid(*grid), targets)
    for iterations in range(4):
        found = approach(OBJECTIVE, logits, Grid(*grid), SPACING, start, iterations)
        assert (found.loss_after <= found.loss_before).all()
        for weights, loss in ((start, found.loss_before), (found.weights, found.loss_after)):
            expected, _ = loss_and_gradient(OBJECTIVE, weights, logits, basis[None])
            torch.testing.assert_close(loss, expected.flatten(), rtol=1e-4, atol=1e-5)
    assert found.loss_after.mean() < 0.5 * found.loss_before.mean() or max(grid) < 8


@pytest.mark.parametrize("targets", [1, 3])
@pytest.mark.parametrize("grid", [(6, 5), (16, 16)])
def test_slopes_and_shares_are_those_of_their_definition(grid, targets):
    """Which are put together from the products of a few maps with the basis: here target by target, in loops."""
    grid = Grid(*grid)
    logits, basis, start = (tensor.double() for tensor in example(grid, targets))
    frame = frame_of(OBJECTIVE, targets, grid, SPACING, logits.dtype, logits.device)
    memory, shares = _Memory(frame, start), logits.softmax(1)
    maps = torch.empty(len(logits), frame.parts.shape[1], grid.pixels, dtype=logits.dtype)
    attention = shares[:, :-1]
    threshold = attention.topk(frame.pulled).values[..., -1:]
    reached = _slopes(frame, memory, maps, shares, threshold)
    torch.testing.assert_close(reached[:, :targets], attention.mean(-1))
    for one in range(targets):
        own = attention[:, one]
        pulled = (own >= threshold[:, one]).double()
        for other in range(targets):
            moved = own * (float(one == other) - attention[:, other])
            expected = moved @ basis.mT / (own * (1 - own)).sum(-1, keepdim=True)
            torch.testing.assert_close(memory.by_goal[:, 0, one, other], expected, rtol=1e-4, atol=1e-6)
            expected = float(one == other) * (pulled @ basis.mT) / pulled.sum(-1, keepdim=True)
            torch.testing.assert_close(memory.by_goal[:, 1, one, other], expected, rtol=1e-4, atol=1e-6)


def test_a_start_near_the_goal_is_kept_where_a_step_would_lead_away():
    logits, basis, start = example(Grid(16, 16), 2)
    best = descend(OBJECTIVE, logits, basis, start, 300)
    found = approach(OBJECTIVE, logits, Grid(16, 16), SPACING, best.weights, 1)
    torch.testing.assert_close(found.loss_before, best.loss_after)
    kept = found.loss_after == found.loss_before
    assert kept.any()
    assert torch.equal(found.weights[kept], best.weights[kept])


def test_problems_are_solved_alone():
    logits, _, start = example(Grid(12, 10), 2)
    together = approach(OBJECTIVE, logits, Grid(12, 10), SPACING, start, 3).weights
    for one in range(len(logits)):
        alone = approach(OBJECTIVE, logits[one : one + 1], Grid(12, 10), SPACING, start[one : one + 1], 3).weights
        torch.testing.assert_close(together[one : one + 1], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("masked", [[0], [1], [0, 1], [2]])
def test_masked_groups_give_no_nan(masked):
    logits, _, start = example(Grid(8, 8), 2)
    logits[:, masked] = -torch.inf
    found = approach(OBJECTIVE, logits, Grid(8, 8), SPACING, start, 3)
    for one in found:
        assert torch.isfinite(one).all()
    if masked == [0]:
        assert (found.loss_after < found.loss_before).all()  # the other target is not given up


def test_mirrored_problems_have_mirrored_solutions():
    grid = Grid(6, 10)
    logits, basis, start = (tensor.double() for tensor in example(grid, 2))
    edit = approach(OBJECTIVE, logits, grid, SPACING, start, 3).weights @ basis
    mirrored = approach(OBJECTIVE, logits.unflatten(-1, grid).flip(-1).flatten(-2), grid, SPACING, start, 3).weights
    torch.testing.assert_close((mirrored @ basis).unflatten(-1, grid).flip(-1).flatten(-2), edit)


@pytest.mark.parametrize("quantile", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("area", [0.05, 1.0])
def test_every_goal_can_be_asked_for(quantile, area):
    objective = AttentionRegulation(peak_quantile=quantile, area=area, peak=1.0).objective
    logits, _, start = example(Grid(8, 8), 2)
    found = approach(objective, logits, Grid(8, 8), SPACING, start, 3)
    assert torch.isfinite(found.weights).all()
    assert (found.loss_after <= found.loss_before).all()
