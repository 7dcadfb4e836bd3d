import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attnreg.regulation.columns import LogitEdit
from attnreg.regulation.config import AttentionRegulation
from attnreg.regulation.edit import ProbabilityEdit, PromptColumns
from attnreg.regulation.reference import ReferenceRegulation
from attnreg.types import AttnregError, Grid
from materialised import edited as materialised

BOTH = [AttentionRegulation, ReferenceRegulation]


GRID = Grid(8, 8)


def example(images=2, heads=3, grid=GRID, tokens=8, seed=0, dtype=torch.float32):
    logits = 2 * torch.randn(images, heads, grid.pixels, tokens, generator=torch.Generator().manual_seed(seed))
    logits[..., 0] += 3
    return logits.to(dtype)


PROMPTS = [PromptColumns(((1, 2), (4,))), PromptColumns(((5,), (3,)))]


def run(logits, prompts=PROMPTS, grid=GRID, step=0, memory=None, **settings):
    edit = AttentionRegulation(**settings)
    return materialised(edit, logits, prompts, grid, step, "layer", {} if memory is None else memory)


def build(kind, **settings):
    """As users build it: the type checks of a test run would refuse wrong types before the library can."""
    config = object.__new__(kind)
    for field in dataclasses.fields(kind):
        object.__setattr__(config, field.name, settings.get(field.name, field.default))
    config.__post_init__()
    return config


@pytest.mark.parametrize("kind", BOTH)
def test_settings_can_be_had_from_a_command_line(kind):
    assert isinstance(kind(), LogitEdit | ProbabilityEdit)
    for field in dataclasses.fields(kind):
        assert field.metadata["help"]
        assert "\n" not in field.metadata["help"]
        assert field.default is not dataclasses.MISSING
    with pytest.raises(dataclasses.FrozenInstanceError):
        kind().strength = 2.0


def test_whole_numbers_become_floats():
    config = build(AttentionRegulation, strength=2, window=(0, 1), layers=["mid", "up.*"])
    assert (config.strength, config.window, config.layers) == (2.0, (0.0, 1.0), ("mid", "up.*"))
    assert isinstance(config.strength, float)
    assert hash(config) != hash(AttentionRegulation())


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strength": -1.0}, "strength: expected a finite number of at least 0, got -1.0; choose"),
        ({"strength": float("nan")}, "strength: .* got nan"),
        ({"area_weight": float("inf")}, "area_weight: .* got inf"),
        ({"strength": "1"}, r"strength: expected a number of at least 0, got '1' \(str\); give one"),
        ({"smoothing": True}, r"smoothing: .* got True \(bool\)"),
        ({"area": 0.0}, "area: expected a finite number above 0 and at most 1, got 0.0"),
        ({"decay": 1.01}, "decay: expected a finite number of at least 0 and at most 1, got 1.01"),
        ({"peak_quantile": 90.0}, "peak_quantile: .* got 90.0"),
        ({"iterations": 20.0}, r"iterations: expected a whole number, got 20.0 \(float\); write it without a point"),
        ({"iterations": -1}, "iterations: expected a whole number from [01] to 10000, got -1"),
        ({"window": (0.6, 0.5)}, r"window: expected start <= end, got \(0.6, 0.5\); swap"),
        ({"window": (0.0, 1.5)}, "window: .* got 1.5"),
        ({"window": 0.5}, r"window: expected two fractions \(start, end\), got 0.5"),
        ({"layers": "auto"}, r"layers: expected a tuple of names, one to 100, got 'auto'; write for example"),
        ({"layers": ()}, r"layers: .* got \(\)"),
        ({"layers": ("",)}, "layers: .* got ''"),
        ({"layers": ("up(",)}, r"layers: expected names of layers .*, got 'up\('; write for example up_blocks.1"),
        ({"layers": ("(.*)*(.*)*x",)}, "layers: .* with no signs of regular expressions"),
        ({"layers": ("down_blocks|up_blocks",)}, "layers: expected names of layers"),
        ({"layers": ("x" * 201,)}, "layers: expected names of layers"),
        ({"layers": ("auto",) * 101}, "layers: expected a tuple of names, one to 100"),
        ({"strength": 10**400}, "strength: expected a finite number"),
        ({"strength": 10**6000}, "strength: expected a finite number .* too large to be written"),
        ({"iterations": 10**6000}, "iterations: expected a whole number .* too large to be written"),
    ],
)
def test_wrong_settings_are_refused(kind, settings, message):
    with pytest.raises(AttnregError, match=message):
        build(kind, **settings)


def test_own_settings_are_checked_too():
    with pytest.raises(AttnregError, match=r"spacing: .* above 0 and at most 1"):
        AttentionRegulation(spacing=0.0)
    with pytest.raises(AttnregError, match="seed: expected a whole number from 0"):
        ReferenceRegulation(start_seed=-1)


def test_heeds_neglected_targets():
    logits = example()
    logits[..., 4] -= 3
    found = run(logits)
    assert (found.mass_after[0] > found.mass_before[0]).all()
    assert (found.loss_after < found.loss_before).all()
    torch.testing.assert_close(found.mass_before[0, 0], logits.softmax(-1)[0, :, :, [1, 2]].sum(-1).mean())
    torch.testing.assert_close(found.mass_after[1, 1], found.probabilities[1, :, :, 3].mean())


def test_strength_scales_the_edit():
    logits = example()
    off = run(logits, strength=0.0)
    assert torch.equal(off.probabilities, logits.softmax(-1))
    assert (off.loss_after < off.loss_before).all()

    def edit(strength):
        ratio = run(logits, strength=strength).probabilities.log() - logits
        return ratio[0, ..., 4] - ratio[0, ..., 0]

    torch.testing.assert_close(2 * edit(0.5), edit(1.0), rtol=1e-3, atol=1e-4)


def edit_of(found, logits):
    ratio = found.probabilities.log() - logits
    return (ratio[..., 4] - ratio[..., 0])[0]


def test_smoothing_and_decay():
    first, second = (example(dtype=torch.float64, seed=seed) for seed in (0, 1))
    settings = {"smoothing": 0.25, "decay": 0.9}
    memory: dict = {}
    begin = run(first, memory=memory, step=2, **settings)
    weights = memory["weights"]
    follow = run(second, memory=memory, step=3, **settings)
    # The best edits by themselves, from the same starts.
    best = [
        edit_of(run(second, memory={"weights": weights}, smoothing=0.0, decay=1.0), second),
        edit_of(run(first, decay=1.0), first),
    ]
    torch.testing.assert_close(edit_of(begin, first), 0.9**2 * best[1])
    torch.testing.assert_close(edit_of(follow, second), 0.9**3 * (0.75 * best[0] + 0.25 * best[1]))


def test_a_memory_of_another_layer_is_refused():
    memory: dict = {}
    run(example(), memory=memory)
    with pytest.raises(AttnregError, match=r"layer: expected a memory of shape .* its own memory"):
        run(example(grid=Grid(4, 4)), grid=Grid(4, 4), memory=memory)


@pytest.mark.parametrize("kind", BOTH)
def test_what_does_not_fit_is_refused(kind):
    with pytest.raises(AttnregError, match=r"one prompt per image \(2\), got 1"):
        materialised(kind(), example(), PROMPTS[:1], GRID, 0, "layer", {})
    with pytest.raises(AttnregError, match="map of 64 pixels, got 4 x 4 = 16"):
        materialised(kind(), example(), PROMPTS, Grid(4, 4), 0, "layer", {})


def test_several_tokens_equal_their_merger():
    logits = example(images=1, dtype=torch.float64)
    merged = logits.clone()
    merged[..., 1] = logits[..., [1, 2]].logsumexp(-1)
    merged[..., 2] = -torch.inf
    pieces = run(logits, [PromptColumns(((1, 2), (4,)))])
    whole = run(merged, [PromptColumns(((1,), (4,)))])
    torch.testing.assert_close(pieces.probabilities[..., [1, 2]].sum(-1), whole.probabilities[..., 1])
    torch.testing.assert_close(pieces.probabilities[..., 3:], whole.probabilities[..., 3:])
    torch.testing.assert_close(pieces.loss_after, whole.loss_after)


shapes = given(
    images=st.integers(1, 4),
    heads=st.integers(1, 8),
    targets=st.integers(1, 3),
    grid=st.tuples(st.integers(4, 32), st.integers(4, 24)),
    seed=st.integers(0, 99),
)


@shapes
def test_properties_of_every_shape(images, heads, targets, grid, seed):
    grid = Grid(*grid)
    logits = example(images, heads, grid, seed=seed)
    prompts = [PromptColumns(tuple((1 + (image + t) % 6,) for t in range(targets))) for image in range(images)]
    memory: dict = {}
    for step in (0, 1):
        found = run(logits, prompts, grid, step, memory)
        assert torch.isfinite(found.probabilities).all()
        torch.testing.assert_close(found.probabilities.sum(-1), torch.ones(logits.shape[:-1]), rtol=0, atol=1e-5)
        assert (found.loss_after <= found.loss_before).all()
        if step == 0:
            alone = run(logits[-1:], prompts[-1:], grid)
            torch.testing.assert_close(found.probabilities[-1:], alone.probabilities, rtol=0, atol=1e-6)
            torch.testing.assert_close(found.loss_after[-1:], alone.loss_after, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_full(kind, dtype):
    logits = example(dtype=dtype)
    half = materialised(kind(), logits, PROMPTS, GRID, 0, "layer", {})
    full = materialised(kind(), logits.float(), PROMPTS, GRID, 0, "layer", {})
    assert half.probabilities.dtype == torch.float32
    assert torch.equal(half.probabilities, full.probabilities)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = materialised(kind(), logits, PROMPTS, GRID, 0, "layer", {})
    assert torch.equal(inside.probabilities, full.probabilities)
    assert torch.equal(inside.mass_after, full.mass_after)


@pytest.mark.parametrize("kind", BOTH)
def test_the_callers_modes_and_generator_are_left_alone(kind):
    logits = example()
    plain = materialised(kind(), logits, PROMPTS, GRID, 0, "layer", {}).probabilities
    memory: dict = {}
    for mode in (torch.inference_mode, torch.no_grad, torch.enable_grad):
        with mode():
            before = (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_rng_state())
            found = materialised(kind(), logits, PROMPTS, GRID, 0, "layer", memory).probabilities
            assert before[:2] == (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
            assert torch.equal(before[2], torch.get_rng_state())
            assert memory or torch.equal(found, plain)


def test_gradients_pass_through_the_softmax_with_the_edit_as_a_constant():
    logits = example(images=1).requires_grad_()
    found = run(logits, PROMPTS[:1])
    (gradient,) = torch.autograd.grad(found.probabilities[..., 4].sum(), logits)
    assert torch.isfinite(gradient).all()
    assert (gradient[..., 4] > 0).all()
    assert not found.mass_after.requires_grad


@pytest.mark.parametrize("kind", BOTH)
def test_masked_columns_give_no_nan(kind):
    logits = example(images=3)
    logits[0, ..., 6:] = -torch.inf
    logits[1, ..., 4] = -torch.inf
    logits[2, ..., [0, 3, 5, 6, 7]] = -torch.inf
    found = materialised(kind(), logits, [PromptColumns(((1, 2), (4,)))] * 3, GRID, 0, "layer", {})
    for value in (found.probabilities, found.mass_before, found.mass_after, found.loss_before, found.loss_after):
        assert torch.isfinite(value).all()
    assert (found.probabilities[1, ..., 4] == 0).all()


def test_shapes_are_checked_while_tests_run():
    with pytest.raises(Exception, match=r"logits|Type-check"):
        run(example()[0])
