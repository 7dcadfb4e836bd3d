"""Phrase regions: which phrases, which regions, and that a layer mixes what it reads as the formula says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import tiny
from attnreg import AttnregError, configure, regulate
from attnreg.methods.phrase_regions import PhraseRegions
from attnreg.regulation.edit import PromptColumns, PromptWords
from attnreg.regulation.kinds import Moment
from attnreg.types import Grid, Target

PROMPT, OTHER = "a cat and a blue balloon", "a dog and a car"


@pytest.fixture(scope="module")
def pipe() -> Any:
    return tiny.stable_diffusion()


def latents_of(pipe: Any, prompts: list[str]) -> Tensor:
    generators = [torch.Generator().manual_seed(i) for i in range(len(prompts))]
    drawn: Tensor = pipe(
        prompts, generator=generators, height=64, width=64, num_inference_steps=2, output_type="latent"
    ).images
    return drawn


def words(prompt: str, *targets: str) -> PromptWords:
    found = tuple(Target(text, (i + 1,)) for i, text in enumerate(targets))
    return PromptWords(PromptColumns(tuple(one.tokens for one in found)), found, prompt)


# --- texts and regions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "targets", "read"),
    [
        (PROMPT, ("cat", "blue balloon"), ("a cat", "a blue balloon")),
        ("An elephant, the dog and cats", ("elephant", "dog", "cats"), ("An elephant", "the dog", "cats")),
        ("a dog and a dog", ("dog#1", "dog#2"), ("a dog", "a dog")),
        ("a cat", ("cat",), ()),
        ("a (big) cat and (big) dogs", ("cat", "(big) dogs"), ("cat", "(big) dogs")),
    ],
)
def test_each_target_is_read_alone_with_its_article(
    prompt: str, targets: tuple[str, ...], read: tuple[str, ...]
) -> None:
    assert PhraseRegions().texts(words(prompt, *targets)) == read


def shares_of(edit: PhraseRegions, attended: Tensor, grid: Grid, steps: int = 2) -> Tensor:
    """What a layer is told in the last of so many steps of the same attention."""
    memory: dict[str, Any] = {}
    for step in range(steps):
        shares = edit.shares(attended, Moment(step, steps, 0.5, "layer", grid), memory)
    return shares


@given(
    targets=st.integers(2, 4), height=st.integers(1, 6), width=st.integers(1, 20), steps=st.integers(1, 3),
    share=st.floats(0, 1), strength=st.floats(0, 2), seed=st.integers(0, 99),
)  # fmt: skip
def test_shares_are_the_level_everywhere(
    targets: int, height: int, width: int, steps: int, share: float, strength: float, seed: int
) -> None:
    attended = torch.rand(2, targets, height * width, generator=torch.Generator().manual_seed(seed))
    shares = shares_of(PhraseRegions(share=share, strength=strength), attended, Grid(height, width), steps)
    assert shares.shape == attended.shape
    assert shares.min() >= 0
    torch.testing.assert_close(shares.sum(1), torch.full_like(shares[:, 0], min(share * strength, 1)))


def test_regions_follow_attention_and_are_evened_out() -> None:
    """A thing that is attended to ten times as much everywhere has no larger region; where each is, it stays."""
    left = torch.linspace(1, 0.1, 8).repeat(8, 1).flatten()
    attended = torch.stack([10 * left, left.flip(0)])[None]
    shares = shares_of(PhraseRegions(share=1.0), attended, Grid(8, 8))
    first = shares[0, 0].unflatten(0, (8, 8))
    assert first[:, :3].min() > 0.9
    assert first[:, 5:].max() < 0.1
    assert first.mean().item() == pytest.approx(0.5, abs=0.02)
    again = shares_of(PhraseRegions(share=1.0), attended.flip(1), Grid(8, 8))
    torch.testing.assert_close(again.flip(1), shares, rtol=0, atol=1e-5)


def test_layers_agree_whatever_their_size_and_steps_are_remembered() -> None:
    """A small layer is told the same regions as a large one, and a step changes them by half."""
    edit, memory = PhraseRegions(share=1.0), {}
    left = torch.linspace(1, 0.1, 16).repeat(16, 1)
    here = torch.stack([left, left.flip(1)])[None]

    def told(maps: Tensor, step: int) -> Tensor:
        grid = Grid(*maps.shape[2:])
        return edit.shares(maps.flatten(2), Moment(step, 9, 0.5, "layer", grid), memory).unflatten(-1, tuple(grid))

    small = torch.nn.functional.avg_pool2d(here, 2)
    first = torch.nn.functional.avg_pool2d(told(here, 0), 2)
    large = told(here, 1)
    assert torch.nn.functional.avg_pool2d(large, 2).sub(first).abs().max() < 0.2, "seen by one layer so far"
    torch.testing.assert_close(told(small, 1), torch.nn.functional.avg_pool2d(large, 2))
    for step in range(2, 12):
        told(here.flip(1), step - 1)
    swapped = told(here, 12)
    torch.testing.assert_close(swapped, large.flip(1), rtol=0, atol=0.01)


def test_a_target_that_nothing_attends_to_gets_its_part() -> None:
    attended = torch.stack([torch.rand(16, generator=torch.Generator().manual_seed(0)), torch.zeros(16)])[None]
    shares = shares_of(PhraseRegions(share=1.0), attended, Grid(4, 4))
    assert shares.isfinite().all()
    assert shares[0, 1].mean() > 0.1


# --- what a layer makes of them -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reads:
    """Reads texts of the test's own, in equal shares."""

    reads: Callable[[PromptWords], tuple[str, ...]]
    share: float
    strength: float = 1.0
    window: tuple[float, float] = (0.0, 1.0)
    layers: tuple[str, ...] = ("all",)

    def texts(self, words: PromptWords) -> tuple[str, ...]:
        return self.reads(words)

    def shares(self, attended: Tensor, moment: Moment, memory: dict[str, Any]) -> Tensor:
        assert attended.shape[-1] == moment.grid.pixels
        return torch.full_like(attended, self.share / attended.shape[1])


def test_to_read_the_prompt_once_more_changes_nothing(pipe: Any) -> None:
    plain = latents_of(pipe, [PROMPT, OTHER])
    with regulate(pipe, config=Reads(lambda words: (words.prompt,) * 2, 0.7)):
        again = latents_of(pipe, [PROMPT, OTHER])
    torch.testing.assert_close(again, plain, rtol=1e-4, atol=1e-4)


def test_to_read_another_text_alone_draws_that_text(pipe: Any) -> None:
    plain = latents_of(pipe, [OTHER, "a frog"])
    with regulate(pipe, config=Reads(lambda words: (OTHER if "cat" in words.prompt else "a frog",) * 2, 1.0)):
        again = latents_of(pipe, [PROMPT, "a bear and a bow"])
    torch.testing.assert_close(again, plain, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(again, latents_of(pipe, [PROMPT, "a bear and a bow"]), rtol=0, atol=1e-2)


def test_a_single_target_is_drawn_unmodified_beside_others(pipe: Any) -> None:
    plain = latents_of(pipe, ["a cat", PROMPT])
    edit = PhraseRegions(window=(0.0, 1.0))
    with regulate(pipe, config=edit):
        alone = latents_of(pipe, ["a cat"])
        drawn = latents_of(pipe, ["a cat", PROMPT])
    torch.testing.assert_close(drawn[0], plain[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(alone[0], plain[0], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(drawn[1], plain[1], rtol=0, atol=1e-3)


def test_the_trace_tells_what_each_target_got(pipe: Any) -> None:
    """Of its words in the prompt and of its own phrase together."""
    with regulate(pipe, config=PhraseRegions(window=(0.0, 1.0), share=0.6), maps=True) as trace:
        latents_of(pipe, [PROMPT])
    assert trace.records
    for record in trace.records:
        assert all(after > before for before, after in zip(record.mass_before, record.mass_after, strict=True))
        assert 0.6 <= sum(record.mass_after) <= 1
    assert trace.maps()


def test_it_composes_with_what_edits_the_prompts_own_attention(pipe: Any) -> None:
    plain = latents_of(pipe, [PROMPT])
    drawn = {}
    for name in ("phrase-regions(window=(0.0, 1.0))", "attention-balance(layers=('all',))"):
        with regulate(pipe, config=configure(name.split("(")[0], {"window": (0.0, 1.0), "layers": ("all",)})):
            drawn[name] = latents_of(pipe, [PROMPT])
    both = configure("phrase-regions+attention-balance", {"window": (0.0, 1.0), "layers": ("all",)})
    with regulate(pipe, config=both) as trace:
        composed = latents_of(pipe, [PROMPT])
    assert trace.regulated_steps == 2
    assert all(not torch.allclose(composed, one, rtol=0, atol=1e-4) for one in (plain, *drawn.values()))
    with pytest.raises(AttnregError, match="how the prompt is heard"):
        regulate(pipe, config=configure("phrase-regions+composable-diffusion", {})).__enter__()


def test_fused_projections_are_refused(pipe: Any) -> None:
    module = pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn2
    module.fused_projections = True
    try:
        with (
            regulate(pipe, config=PhraseRegions(window=(0.0, 1.0))),
            pytest.raises(AttnregError, match="unfuse_qkv_projections"),
        ):
            latents_of(pipe, [PROMPT])
    finally:
        module.fused_projections = False
