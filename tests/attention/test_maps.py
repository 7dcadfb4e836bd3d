"""Where attention lay: against loops over what the edits were given, and at no cost where nobody asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
from attnreg import AttnregError, apply_attention_regulation, regulate, remove_attention_regulation
from attnreg.attention import attending, effects
from attnreg.methods import METHODS
from attnreg.methods.attention_scaling import AttentionScaling
from attnreg.regulation.balance import AttentionBalance
from attnreg.regulation.columns import Bias, ColumnAttention
from attnreg.regulation.config import AttentionRegulation
from attnreg.regulation.kinds import Composed
from attnreg.sampling import configure, generate
from attnreg.trace import Trace
from attnreg.types import Grid, Target

PROMPT = "a cat and a blue balloon"
SMALL: dict[str, Any] = {"height": 64, "width": 96, "num_inference_steps": 4}


@pytest.fixture(scope="module")
def pipe() -> Any:
    return tiny.stable_diffusion()


@dataclass(frozen=True, kw_only=True)
class Told(AttentionScaling):
    """Scales attention, and remembers what it was given and what it gave back."""

    seen: list[tuple[str, ColumnAttention, Bias]] = field(default_factory=list)

    def bias(self, attention: ColumnAttention, step: int, layer: str, memory: dict[str, Any]) -> Bias:
        bias = super().bias(attention, step, layer, memory)
        self.seen.append((layer, attention, bias))
        return bias


def by_loops(
    seen: Sequence[tuple[str, ColumnAttention, Bias]], grid: Grid, image: int, target: int
) -> tuple[Tensor, Tensor]:
    """The mean maps, one position at a time, in float64."""
    maps = torch.zeros(2, grid.height, grid.width, dtype=torch.float64)
    calls = [(attention, bias) for _, attention, bias in seen if attention.grid == grid]
    for attention, bias in calls:
        members = attention.columns.members[image]
        heads = attention.probabilities.shape[1]
        for y in range(grid.height):
            for x in range(grid.width):
                for head in range(heads):
                    row = attention.probabilities[image, head, y * grid.width + x].double()
                    grown = row * bias.columns[image, head, 0].double().exp() * (members.sum(-1) > 0)
                    others = 1 - float((row * (members.sum(-1) > 0)).sum())
                    own = members[:, target] > 0
                    maps[0, y, x] += row[own].sum() / heads / len(calls)
                    maps[1, y, x] += grown[own].sum() / (others + grown.sum()) / heads / len(calls)
    return maps[0], maps[1]


def test_maps_are_the_mean_over_heads_layers_and_steps(pipe: Any) -> None:
    """Two prompts, two images of each, with the targets in other columns; layers whose maps differ in size.

    None is of the family's own choice, so it is those in which the edit acts that are looked at.
    """
    edit = Told(shift=2.0, layers=("down_blocks.0", "down_blocks.1", "up_blocks.3"), window=(0.0, 0.5))
    prompts = [PROMPT, "a blue balloon and a cat"]
    with regulate(pipe, [["cat", "blue balloon"]] * 2, edit, maps=True) as trace:
        generators = [torch.Generator().manual_seed(i) for i in range(4)]
        pipe(prompts, generator=generators, num_images_per_prompt=2, output_type="latent", **SMALL)
    by_grid: dict[Grid, set[str]] = {}
    for layer, attention, _ in edit.seen:
        by_grid.setdefault(attention.grid, set()).add(layer)
    assert len(by_grid) > 1, "else the choice of a grid would not be tested"
    common = max(by_grid, key=lambda grid: (len(by_grid[grid]), grid.pixels))
    assert trace.regulated_steps == 2
    found = trace.maps()
    assert [list(one) for one in found] == [["cat", "blue balloon"]] * 4
    for image in (0, 3):
        for target, (before, after) in enumerate(found[image].values()):
            assert before.dtype == after.dtype == torch.float32
            assert not before.requires_grad
            slow_before, slow_after = by_loops(edit.seen, common, image, target)
            torch.testing.assert_close(before.double(), slow_before, rtol=1e-4, atol=1e-7)
            torch.testing.assert_close(after.double(), slow_after, rtol=1e-4, atol=1e-7)
            assert after.mean() > before.mean()
    assert not torch.equal(found[0]["cat"][0], found[1]["cat"][0]), "two images, two maps"


def test_of_two_grids_as_common_the_finer_one() -> None:
    trace = Trace(("low", "high"), keeps_maps=True)
    trace.begin([(Target("cat", (2,)),)], images_per_prompt=1)
    for layer, grid, value in (("low", Grid(1, 2), 0.5), ("high", Grid(2, 3), 0.25)):
        flat = torch.full((1, 1, grid.pixels), value)
        trace.note_maps(0, layer, [0], grid, flat, 2 * flat)
    before, after = trace.maps()[0]["cat"]
    assert (before.tolist(), after.tolist()) == ([[0.25] * 3] * 2, [[0.5] * 3] * 2)
    trace.begin([], images_per_prompt=1)
    assert trace.maps() == [], "a new call of the pipeline forgets the last"


@pytest.mark.parametrize("method", ["attention-regulation", "attention-balance", "dense-diffusion"])
def test_their_mean_is_the_attention_that_the_edit_tells(pipe: Any, method: str) -> None:
    edit: Any = replace(configure(method), layers=("down_blocks.0", "up_blocks.3"))  # type: ignore[type-var]
    drawn = generate(pipe, PROMPT, edit, maps=True, **SMALL)
    assert {record.grid for record in drawn.trace.records} == {Grid(8, 12)}
    ((maps,), (told,)) = drawn.trace.maps(), drawn.trace.attention()
    assert maps.keys() == told.keys() == {"cat", "blue balloon"}
    for name, (before, after) in maps.items():
        assert (before.mean().item(), after.mean().item()) == pytest.approx(told[name], rel=1e-4)


@pytest.mark.parametrize("method", ["attention-regulation", "attention-balance", "dense-diffusion"])
def test_the_picture_is_the_same_to_the_bit(pipe: Any, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn last without maps, where computing one would be an error."""
    edit = configure(method)
    latents = [generate(pipe, PROMPT, edit, maps=True, output_type="latent", **SMALL)]

    def never(*_: Any) -> None:
        raise AssertionError("a map was computed that nobody asked for")

    monkeypatch.setattr(attending, "target_maps", never)
    monkeypatch.setattr(effects, "column_maps", never)
    latents.append(generate(pipe, PROMPT, edit, output_type="latent", **SMALL))
    assert torch.equal(latents[0].picture, latents[1].picture)
    assert (len(latents[0].trace.maps()), latents[1].trace.maps()) == (1, [])
    with pytest.raises(AssertionError, match="nobody asked for"):
        generate(pipe, PROMPT, edit, maps=True, **SMALL)


@pytest.mark.parametrize("method", ["none", "attend-and-excite", "prompt-weighting", "composable-diffusion"])
def test_what_leaves_the_logits_alone_is_watched(pipe: Any, method: str) -> None:
    """Every step is seen, none is edited, and to look changes no bit of the picture."""
    settings = {"refinements": 0} if method == "attend-and-excite" else {}
    edit = configure(method, settings)
    drawn = [generate(pipe, PROMPT, edit, maps=maps, output_type="latent", **SMALL) for maps in (True, False)]
    assert torch.equal(drawn[0].picture, drawn[1].picture)
    seen = drawn[0].trace.seen()
    assert (seen.words, seen.steps, seen.is_edited) == (("cat", "blue balloon"), (0, 1, 2, 3), False)
    assert seen.before is seen.after
    assert method in METHODS
    with pytest.raises(AttnregError, match="draw with regulate"):
        drawn[1].trace.seen()


def test_in_company_the_edit_of_logits_tells_its_maps(pipe: Any) -> None:
    edit = configure("prompt-weighting+attention-regulation")
    assert isinstance(edit, Composed)
    (maps,) = generate(pipe, PROMPT, edit, maps=True, **SMALL).trace.maps()
    assert maps.keys() == {"cat", "blue balloon"}


def test_in_half_precision_they_are_float32() -> None:
    half = tiny.stable_diffusion().to(dtype=torch.bfloat16)
    (maps,) = generate(half, PROMPT, AttentionRegulation(), maps=True, **SMALL).trace.maps()
    assert {one.dtype for pair in maps.values() for one in pair} == {torch.float32}


def test_applied_for_good(pipe: Any) -> None:
    trace = apply_attention_regulation(pipe, AttentionBalance(), maps=True)
    try:
        pipe(PROMPT, generator=torch.Generator().manual_seed(0), **SMALL)
    finally:
        remove_attention_regulation(pipe)
    assert trace.maps()[0].keys() == {"cat", "blue balloon"}
