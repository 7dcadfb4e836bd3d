"""Modular pipelines: regulated as the ordinary ones are, whatever their guider asks, and nothing left behind."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import ClassifierFreeGuidance, LayerSkipConfig, SkipLayerGuidance
from PIL import Image
from torch import Tensor

import tiny_flux_like
import tiny_modular
from attnreg import (
    AttentionBalance,
    AttnregError,
    apply_attention_regulation,
    configure,
    regulate,
    remove_attention_regulation,
    watch,
)
from attnreg.attention.families import family_of
from tiny_modular import CLASSES, SMALL

PROMPT = "a cat and a blue balloon"
Draw = Callable[..., Tensor]


@pytest.fixture(scope="module", params=CLASSES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def ordinary(name: str) -> Any:
    return CLASSES[name][1]()


@pytest.fixture(scope="module")
def pipe(name: str, ordinary: Any) -> Any:
    return tiny_modular.modular(CLASSES[name][0], ordinary.components)


@pytest.fixture
def draw(name: str, pipe: Any) -> Draw:
    return drawing(name, pipe)


@pytest.fixture(scope="module")
def sdxl() -> Any:
    kind, make = CLASSES["SDXL"]
    return tiny_modular.modular(kind, make().components)


def drawing(name: str, pipe: Any) -> Draw:
    def drawn(prompt: Any = PROMPT, **options: Any) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        given = {"num_inference_steps": 3, "output_type": "pt"} | SMALL[name] | options
        latents = pipe(prompt=prompt, generator=generator, output="latents", **given)
        assert isinstance(latents, Tensor)
        return latents

    return drawn


def everything_in(pipe: Any) -> list[Any]:
    """The very objects that a regulation might leave behind or replace."""
    found: list[Any] = [pipe.scheduler, sorted(vars(pipe))]
    for block in tiny_modular.leaves(pipe._blocks):
        found.append((block, sorted(vars(block)), list((getattr(block, "sub_blocks", None) or {}).items())))
    for module in family_of(pipe)[1].modules():
        found.append((module, getattr(module, "processor", None), sorted(vars(module)), module.forward.__func__))
    return found


def test_before_during_after(pipe: Any, draw: Draw) -> None:
    before, objects = draw(), everything_in(pipe)
    with regulate(pipe, config=AttentionBalance()) as trace:
        during, again = draw(), draw()
    assert objects == everything_in(pipe)
    assert torch.equal(before, draw())
    assert torch.equal(during, again)
    assert not torch.allclose(before, during)
    assert (trace.steps, trace.regulated_steps) == (3, 3), "what a guider asks beside the prompt's is no step"
    assert {record.layer for record in trace.records} == set(trace.layers)
    with regulate(pipe, config=AttentionBalance(strength=0.0)):
        assert torch.equal(draw(), before)
    with regulate(pipe, config=AttentionBalance(window=(0.5, 0.5))):
        assert torch.equal(draw(), before)
    with watch(pipe) as trace:
        assert torch.equal(draw(), before)
    assert trace.seen()


def test_words_fill_the_columns_of_the_ordinary_pipeline(name: str, ordinary: Any, pipe: Any, draw: Draw) -> None:
    with regulate(ordinary, config=AttentionBalance()) as trace:
        ordinary(prompt=PROMPT, num_inference_steps=2, output_type="latent", **SMALL[name])
    with regulate(pipe, config=AttentionBalance()) as modular:
        draw()
    assert [target.text for target in modular.targets[0]] == ["cat", "blue balloon"]
    assert modular.targets == trace.targets


def test_the_default_balances_and_says_so(pipe: Any, draw: Draw) -> None:
    with regulate(pipe) as trace:
        draw()
    (decision,) = trace.decisions
    assert decision.method == "attention-balance"
    assert "in a modular pipeline leads to cannot be foreseen yet" in decision.reason
    assert trace.regulated_steps > 0


def test_several_prompts_and_pictures(name: str, pipe: Any) -> None:
    """Each heeds its own words: two prompts of two pictures, one of which is left alone."""

    def draw() -> Tensor:
        # Z-Image's block writes into these lists; Qwen-Image's own negative prompt is one for all.
        options = {} if name == "FLUX" else {"negative_prompt": ["", ""]}
        prompts = ["a cat and a blue balloon", "a dog with a red car"]
        return drawing(name, pipe)(prompts, num_images_per_prompt=2, **options)

    before = draw()
    with regulate(pipe, targets=[["cat"], []], config=AttentionBalance()) as trace:
        during = draw()
    assert [[target.text for target in targets] for targets in trace.targets] == [["cat"], []]
    assert {record.image for record in trace.records} == {0, 1}
    assert not torch.allclose(before[:2], during[:2])
    assert torch.allclose(before[2:], during[2:], atol=1e-5)


def test_nothing_is_left_after_an_error(pipe: Any, draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    before, objects = draw(), everything_in(pipe)
    with pytest.raises(AttnregError, match="appel"), regulate(pipe, ["appel"]):
        draw()
    step, taken = pipe.scheduler.step, []

    def failing(*args: Any, **kwargs: Any) -> Any:
        taken.append(args)
        if len(taken) > 1:
            raise ValueError("stopped")
        return step(*args, **kwargs)

    monkeypatch.setattr(pipe.scheduler, "step", failing)
    with pytest.raises(ValueError, match="stopped"), regulate(pipe):
        draw()
    monkeypatch.undo()
    assert objects == everything_in(pipe)
    assert torch.equal(before, draw())


def test_without_guidance(name: str, pipe: Any, draw: Draw) -> None:
    if name == "SDXL":
        pytest.skip("diffusers' own blocks fail without guidance")
    if getattr(pipe, "guider", None) is None:
        pytest.skip("it has no guider")
    pipe.guider.disable()
    try:
        before = draw()
        with regulate(pipe, config=AttentionBalance()) as trace:
            assert not torch.allclose(before, draw())
        assert (trace.steps, trace.regulated_steps) == (3, 3)
    finally:
        pipe.guider.enable()


def test_predictions_with_perturbed_attention_are_no_steps() -> None:
    """The guider asks three times a step, twice with the prompt's own embeddings; its hooks come and go."""
    kind, make = CLASSES["Qwen-Image"]
    guider = SkipLayerGuidance(
        skip_layer_config=LayerSkipConfig(
            [1], fqn="transformer_blocks", skip_attention=False, skip_attention_scores=True, skip_ff=False
        ),
        skip_layer_guidance_start=0.0,
        skip_layer_guidance_stop=1.0,
    )
    pipe = tiny_modular.modular(kind, make().components, guider=guider)
    draw = drawing("Qwen-Image", pipe)
    before, objects = draw(), everything_in(pipe)
    with regulate(pipe, config=AttentionBalance(window=(0.3, 1.0))) as trace:
        during = draw()
    assert (trace.steps, trace.regulated_steps) == (3, 2)
    assert not torch.allclose(before, during)
    assert torch.equal(before, draw())
    assert objects == everything_in(pipe)


def test_a_negative_prompt_that_is_the_prompt(sdxl: Any) -> None:
    with regulate(sdxl, config=AttentionBalance()) as trace:
        drawing("SDXL", sdxl)(negative_prompt=PROMPT)
    assert (trace.steps, trace.regulated_steps) == (3, 3)


def test_a_window_is_of_the_steps_that_are_taken(sdxl: Any) -> None:
    """A run that begins from a picture takes the last of its scheduler's steps alone."""
    start = Image.new("RGB", (192, 128), "red")
    with regulate(sdxl, config=AttentionBalance(window=(0.0, 0.5))) as trace:
        drawing("SDXL", sdxl)(image=start, strength=0.5, num_inference_steps=4)
    assert (trace.steps, trace.regulated_steps) == (2, 1)


@pytest.mark.parametrize("method", ["attention-regulation:reference", "dense-diffusion", "attention-scaling"])
def test_methods_that_act_in_layers_alone(sdxl: Any, method: str) -> None:
    before = drawing("SDXL", sdxl)()
    with regulate(sdxl, config=configure(method)):
        assert not torch.allclose(drawing("SDXL", sdxl)(), before)


@pytest.mark.parametrize("method", ["best-start", "attend-and-excite", "prompt-weighting", "composable-diffusion"])
def test_other_kinds_are_refused(sdxl: Any, method: str) -> None:
    message = "expected a method that works on Stable Diffusion in a modular pipeline"
    with pytest.raises(AttnregError, match=message), regulate(sdxl, config=configure(method)):
        pass


def test_applied_until_removed_and_applied_anew(sdxl: Any) -> None:
    draw, objects = drawing("SDXL", sdxl), everything_in(sdxl)
    before = draw()
    apply_attention_regulation(sdxl, AttentionBalance())
    during = draw()
    with regulate(sdxl, config=AttentionBalance(strength=0.0)):
        assert torch.equal(draw(), before)
    assert torch.equal(draw(), during), "what was applied before a block is there again after it"
    apply_attention_regulation(sdxl, AttentionBalance(strength=0.0))
    assert torch.equal(draw(), before)
    remove_attention_regulation(sdxl)
    assert objects == everything_in(sdxl)
    remove_attention_regulation(sdxl)


def test_copies_and_pipelines_that_share_blocks(sdxl: Any) -> None:
    """A shallow copy is refused, a deep one comes without; another pipeline over the same blocks is left alone."""
    other = copy.copy(sdxl)
    other.unet = copy.deepcopy(sdxl.unet)
    objects, before = everything_in(sdxl), drawing("SDXL", other)()
    with regulate(sdxl, config=AttentionBalance()):
        with pytest.raises(AttnregError, match="got a copy"):
            drawing("SDXL", copy.copy(sdxl))()
        assert torch.equal(drawing("SDXL", other)(), before)
        assert torch.equal(drawing("SDXL", copy.deepcopy(sdxl))(), before)
        with regulate(other, config=AttentionBalance()):
            during = drawing("SDXL", other)()
            assert torch.equal(drawing("SDXL", sdxl)(), during)
        assert torch.equal(drawing("SDXL", other)(), before)
        assert torch.equal(drawing("SDXL", sdxl)(), during)
    assert objects == everything_in(sdxl)


def test_what_cannot_be_told_is_refused_in_a_line(sdxl: Any) -> None:
    with pytest.raises(AttnregError, match="prompt: expected none"), regulate(sdxl, prompt=PROMPT):
        pass
    blocks = sdxl.blocks
    blocks.sub_blocks.pop("text_encoder")
    denoising = blocks.init_pipeline()
    denoising.update_components(unet=sdxl.unet, vae=sdxl.vae, scheduler=sdxl.scheduler, guider=ClassifierFreeGuidance())
    with pytest.raises(AttnregError, match="a block that encodes the prompt"), regulate(denoising):
        pass
    with pytest.raises(AttnregError, match="whose blocks have not been tried"), regulate(sdxl, family="probe"):
        pass


def test_other_families_are_sent_to_their_ordinary_pipelines() -> None:
    from diffusers import Flux2ModularPipeline

    pipe = tiny_modular.modular(Flux2ModularPipeline, tiny_flux_like.flux_2().components)
    with (
        pytest.raises(AttnregError, match="make the family's ordinary pipeline of the same components"),
        regulate(pipe),
    ):
        pass
