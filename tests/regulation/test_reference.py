import math
from pathlib import Path

import pytest
import torch

from attnreg.regulation.edit import PromptColumns
from attnreg.regulation.reference import ReferenceRegulation, published_basis
from attnreg.types import AttnregError, Grid
from recorded import FILES, load


class FromRecordedStart(ReferenceRegulation):
    """The reference with the recorded random starts in place of its own."""

    def __init__(self, starts):
        super().__init__()
        object.__setattr__(self, "starts", starts)

    def random_start(self, size, step, layer):
        assert self.starts[step, layer].shape == size
        return self.starts[step, layer]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_reproduces_the_recorded_runs(path: Path):
    run = load(path)
    edit = FromRecordedStart({(call.step, call.layer): call.start for call in run.calls})
    memories: dict[str, dict] = {}
    images = len(run.prompts)
    edited = 0
    for call in run.calls:
        # Exactly, up to the rounding of another matrix product.
        torch.testing.assert_close(call.plain[:images], call.recorded[:images], rtol=0, atol=1e-6)
        if call.start is None:
            torch.testing.assert_close(call.plain, call.recorded, rtol=0, atol=1e-6)
            continue
        memory = memories.setdefault(call.layer, {})
        found = edit(call.logits, run.prompts, run.grid, call.step, call.layer, memory)
        torch.testing.assert_close(found.probabilities, call.recorded[images:], rtol=0, atol=2e-3)
        assert found.loss_after.mean() <= found.loss_before.mean()
        edited += 1
    assert edited > 0


def test_there_are_recorded_runs():
    assert len(FILES) >= 4


SQUARE = Grid(16, 16)


def logits_of(images=2, heads=2, grid=SQUARE, tokens=7, seed=0):
    return 2 * torch.randn(images, heads, grid.pixels, tokens, generator=torch.Generator().manual_seed(seed))


def test_start_and_end_columns_are_restored_and_rows_left_as_they_are():
    logits = logits_of()
    prompts = [PromptColumns(((1, 2),), 0, 4), PromptColumns(((3,),), None, None)]
    found = ReferenceRegulation()(logits, prompts, SQUARE, 0, "layer", {}).probabilities
    plain = logits.softmax(-1)
    assert torch.equal(found[0, :, :, [0, 4]], plain[0, :, :, [0, 4]])
    assert not torch.equal(found[0, :, :, 5], plain[0, :, :, 5])
    assert (found[0].sum(-1) - 1).abs().max() > 0.01
    torch.testing.assert_close(found[1].sum(-1), torch.ones(2, 256))


def test_every_token_is_a_target_of_its_own():
    logits = logits_of(images=1)
    one = ReferenceRegulation()(logits, [PromptColumns(((1, 2), (4,)), 0, 5)], SQUARE, 0, "layer", {})
    apart = ReferenceRegulation()(logits, [PromptColumns(((1,), (2,), (4,)), 0, 5)], SQUARE, 0, "layer", {})
    assert torch.equal(one.probabilities, apart.probabilities)
    assert one.mass_after.shape == (1, 2)
    torch.testing.assert_close(one.mass_after[0, 0], apart.mass_after[0, :2].sum())


def test_images_with_different_numbers_of_tokens_are_separate_batches():
    logits = logits_of()
    prompts = [PromptColumns(((1, 2),), 0, 4), PromptColumns(((3,),), 0, 4)]
    together = ReferenceRegulation()(logits, prompts, SQUARE, 3, "layer", {})
    for image in (0, 1):
        alone = ReferenceRegulation()(logits[image : image + 1], [prompts[image]], SQUARE, 3, "layer", {})
        torch.testing.assert_close(together.probabilities[image], alone.probabilities[0])
        torch.testing.assert_close(together.loss_after[image], alone.loss_after[0])


def test_seed_layer_and_step_decide_the_start_and_the_global_generator_is_left_alone():
    def edited(seed=0, step=0, layer="a"):
        edit = ReferenceRegulation(start_seed=seed)
        return edit(logits_of(), [PromptColumns(((1,),), 0, 4)] * 2, SQUARE, step, layer, {}).probabilities

    state = torch.get_rng_state()
    first = edited()
    assert torch.equal(first, edited())
    assert not torch.equal(first, edited(seed=1))
    assert not torch.equal(first, edited(layer="b"))
    one, other = (ReferenceRegulation().random_start((2, 1, 49), step, "a") for step in (0, 1))
    assert not torch.equal(one, other)
    assert torch.equal(state, torch.get_rng_state())


def test_strength_zero_is_the_unmodified_model():
    logits = logits_of()
    found = ReferenceRegulation(strength=0)(logits, [PromptColumns(((1,),), 0, 4)] * 2, SQUARE, 0, "layer", {})
    assert torch.equal(found.probabilities, logits.softmax(-1))


@pytest.mark.parametrize(("grid", "count"), [((16, 16), 49), ((64, 64), 49), ((8, 8), 9), ((12, 24), 55), ((4, 16), 7)])
def test_published_basis(grid, count):
    grid = Grid(*grid)
    sigma = max(1, grid.width // 16)
    expected = [
        [
            math.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * sigma**2))
            for y in range(grid.height)
            for x in range(grid.width)
        ]
        for cx in range(2 * sigma, grid.width, 2 * sigma)
        for cy in range(2 * sigma, grid.height, 2 * sigma)
    ]
    assert len(expected) == count
    torch.testing.assert_close(published_basis(grid), torch.tensor(expected))


def test_a_map_without_a_centre_is_refused():
    with pytest.raises(AttnregError, match="2 x 2"):
        ReferenceRegulation()(
            logits_of(grid=Grid(2, 2)), [PromptColumns(((1,),), 0, 4)] * 2, Grid(2, 2), 0, "layer", {}
        )


def test_a_diverging_search_keeps_an_iterate_without_nan():
    grid = Grid(4, 4)
    found = ReferenceRegulation()(logits_of(grid=grid), [PromptColumns(((1,),), 0, 4)] * 2, grid, 0, "layer", {})
    assert torch.isfinite(found.probabilities).all()
