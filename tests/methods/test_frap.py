"""FRAP: its loss by hand, its weights against finite differences, and what a pipeline reads of them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import by_hand
import tiny
from attnreg import AttnregError, regulate
from attnreg.methods.frap import Frap
from attnreg.passes import counted
from attnreg.regulation.edit import LatentUpdated, Maps
from attnreg.regulation.sight import Sight
from attnreg.types import Grid

PROMPT = "a cat and a blue balloon"
WORDS = by_hand.words_of(PROMPT)
SMALL = {"height": 64, "width": 80, "num_inference_steps": 2, "output_type": "latent"}


def loss_by_hand(maps: Maps, words: Any, padding: bool, binding: float) -> float:
    sharp = by_hand.sharp_rows(maps, words, padding)
    nouns = by_hand.noun_maps(maps, words, padding)
    presence = [1 - max(by_hand.flat(noun)) for noun in nouns]
    bound = []
    for noun, modifiers in zip(nouns, by_hand.pieces(words, noun=False), strict=True):
        for modifier in modifiers:
            one = by_hand.share(by_hand.flat(noun))
            other = by_hand.share(by_hand.flat(by_hand.word_map(sharp, modifier, maps.grid)))
            bound.append(sum(min(a, b) for a, b in zip(one, other, strict=True)))
    return sum(presence) / len(presence) - (binding * sum(bound) / len(bound) if bound else 0.0)


@given(by_hand.SEEDS, by_hand.GRIDS, st.booleans(), st.sampled_from(by_hand.PROMPTS), st.floats(0, 2))
def test_loss_by_hand(seed: int, grid: Grid, padding: bool, prompt: str, binding: float) -> None:
    words, maps = by_hand.words_of(prompt), by_hand.attention(seed, grid)
    aim = Frap(padding=padding, binding=binding).aim(maps, words, 0, 50, {})
    assert float(aim.loss) == pytest.approx(loss_by_hand(maps, words, padding, binding), abs=1e-6)


class ToySight(Sight):
    """Positions of the latent attend to the tokens of whatever text they are shown."""

    level, channel_axis = (0.6, 0.8), 0

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        generator = torch.Generator().manual_seed(3)
        made = torch.randn(3, by_hand.TOKENS, 4, generator=generator, dtype=torch.float64).to(dtype)
        self.own, self.none, _ = made
        self.texts: list[Tensor] = []

    @property
    def prompt(self) -> Tensor:
        return self.own

    @property
    def nothing(self) -> Tensor:
        return self.none

    def picture(self, latent: Tensor) -> Tensor:
        raise AssertionError("nobody asked")

    def __call__(self, latent: Tensor) -> Maps:
        return self.under(self.own, latent)

    def under(self, text: Tensor, latent: Tensor) -> Maps:
        self.texts.append(text.detach())
        return Maps((latent.flatten(1).T.to(text) @ text.T).softmax(-1), None, Grid(*latent.shape[1:]))


def read_by_hand(toy: ToySight, weights: list[float]) -> Tensor:
    """The words of the prompt stand in columns 1 to 6, behind the start token."""
    rows = [list(row) for row in toy.own.tolist()]
    for column, weight in enumerate(weights, 1):
        for channel in range(4):
            none = float(toy.none[column, channel])
            rows[column][channel] = none + weight * (float(toy.own[column, channel]) - none)
    return torch.tensor(rows, dtype=torch.float64)


def test_weights_go_downhill_by_finite_differences() -> None:
    """Three steps with one memory; the second one holds some weights at their bounds."""
    latent, toy, memory = by_hand.noise(0, 4, 5), ToySight(), dict[str, Any]()
    weights = [1.0] * 6
    for step, size in enumerate((0.05, 3.0, 0.05)):
        edit = Frap(step_size=size, reach=0.25)

        def loss(weights: list[float], edit: Frap = edit) -> float:
            return float(edit.aim(toy.under(read_by_hand(toy, weights), latent), WORDS, 0, 9, {}).loss)

        updated = edit.update(latent, toy, WORDS, step, 9, memory)
        assert (updated.latent is latent, updated.passes, updated.push) == (True, 1, None)
        assert updated.loss_before == pytest.approx(loss(weights), abs=1e-6)
        moved = []
        for index, weight in enumerate(weights):
            up, down = ([*weights[:index], weight + sign * 1e-6, *weights[index + 1 :]] for sign in (1, -1))
            slope = (loss(up) - loss(down)) / 2e-6
            moved.append(min(max(weight - size * slope, 0.75), 1.25))
        weights = moved
        torch.testing.assert_close(updated.text.double(), read_by_hand(toy, weights), rtol=0, atol=2e-6)
    assert {0.75, 1.25} & set(weights) or any(abs(w - 1) > 0.1 for w in weights)


def test_a_step_lowers_the_loss() -> None:
    latent, toy = by_hand.noise(0, 4, 5), ToySight()
    edit, memory = Frap(step_size=0.02), dict[str, Any]()
    losses = [edit.update(latent, toy, WORDS, step, 9, memory).loss_before for step in range(6)]
    assert all(after < before for before, after in pairwise(losses)), losses


def test_nothing_is_done_without_strength_and_texts_of_other_lengths_are_refused() -> None:
    latent, toy = by_hand.noise(0, 4, 5), ToySight()
    for off in ({"strength": 0.0}, {"step_size": 0.0}):
        assert Frap(**off).update(latent, toy, WORDS, 0, 10, {}) == LatentUpdated(latent)
    toy.none = toy.none[:5]
    with pytest.raises(AttnregError, match="got 5; texts of this model differ"):
        Frap().update(latent, toy, WORDS, 0, 10, {})
    with pytest.raises(AttnregError, match="expected a Sight"):
        Frap().update(latent, by_hand.Toy(), WORDS, 0, 10, {})


# --- in a pipeline ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def pipe(request: pytest.FixtureRequest) -> Any:
    return {"sd1": tiny.stable_diffusion, "sdxl": tiny.stable_diffusion_xl}[request.param]()


def draw(pipe: Any, **options: Any) -> Tensor:
    return pipe(generator=torch.Generator().manual_seed(0), **(SMALL | options)).images


def test_what_is_read_is_what_a_pipeline_draws_from(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the same pipeline given the weighted embedding as prompt_embeds; what is seen is of that text too."""
    read: list[Tensor] = []
    original = Frap.update

    def noting(self: Frap, latent: Tensor, see: Any, *args: Any) -> LatentUpdated:
        updated = original(self, latent, see, *args)
        read.append(updated.text)
        own = see(latent).cross.detach()
        torch.testing.assert_close(see.under(see.prompt, latent).cross.detach(), own)
        assert not torch.allclose(see.under(updated.text, latent).cross.detach(), own, rtol=0, atol=1e-7)
        return updated

    monkeypatch.setattr(Frap, "update", noting)
    with regulate(pipe, config=Frap(step_size=5.0)) as trace:
        drawn = draw(pipe, prompt=PROMPT, num_inference_steps=1)
    assert [one.passes for one in trace.updates] == [1]
    given = pipe.encode_prompt(PROMPT, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=True)
    assert not torch.allclose(read[0], given[0][0], rtol=0, atol=1e-4)
    hand = {"prompt_embeds": read[0][None], "negative_prompt_embeds": given[1]}
    if len(given) > 2:
        hand |= {"pooled_prompt_embeds": given[2], "negative_pooled_prompt_embeds": given[3]}
    torch.testing.assert_close(drawn, draw(pipe, num_inference_steps=1, **hand), rtol=1e-4, atol=1e-4)


def test_backward_passes_to_the_embedding_are_counted() -> None:
    """Two steps of two rows, and one pass forward and back in the first."""
    pipe = tiny.stable_diffusion()
    with counted(pipe) as passes, regulate(pipe, config=Frap(window=(0.0, 0.5))):
        draw(pipe, prompt=PROMPT)
    assert passes.count == 2 * 2 + 3


def test_beside_prompt_weighting_the_weighted_prompt_is_weighed() -> None:
    from attnreg import configure

    pipe = tiny.stable_diffusion()
    drawn = {}
    for name in ("prompt-weighting", "frap", "prompt-weighting+frap"):
        with regulate(pipe, config=configure(name, {"window": (0.0, 1.0)})):
            drawn[name] = draw(pipe, prompt=PROMPT)
    both = drawn.pop("prompt-weighting+frap")
    assert not any(torch.allclose(both, one, rtol=0, atol=1e-6) for one in drawn.values())
