"""Before, during and after: the promises that hold for every supported pipeline."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor

import tiny
from attnreg import (
    AttentionRegulation,
    AttnregError,
    apply_attention_regulation,
    configure,
    regulate,
    remove_attention_regulation,
)
from attnreg.attention.families import family_of, select_layers
from attnreg.attention.installation import Installation
from attnreg.methods.attention_scaling import AttentionScaling
from attnreg.regulation.balance import AttentionBalance
from attnreg.regulation.settings import layer_patterns

FAMILIES = {
    "sd1": tiny.stable_diffusion,
    "sd2": tiny.stable_diffusion_2,
    "sdxl": tiny.stable_diffusion_xl,
}
PROMPT = "a cat and a blue balloon"


@pytest.fixture(scope="module", params=FAMILIES)
def pipe(request: pytest.FixtureRequest) -> Any:
    return FAMILIES[request.param]()


@pytest.fixture(scope="module")
def sd1() -> Any:
    return tiny.stable_diffusion()


def draw(pipe: Any, prompt: Any = PROMPT, seed: int = 0, **options: Any) -> Tensor:
    """Final latents, small and quick unless the caller asks for more."""
    options = {"height": 64, "width": 96, "num_inference_steps": 4, "output_type": "latent"} | options
    prompts = 1 if isinstance(prompt, str) else len(prompt)
    count = prompts * options.get("num_images_per_prompt", 1)
    generators = [torch.Generator().manual_seed(seed + i) for i in range(count)]
    return pipe(prompt, generator=generators, **options).images


def everything_in(pipe: Any) -> list[Any]:
    """The very objects that a regulation might leave behind or replace: processors and instance attributes."""
    _, denoiser = family_of(pipe)
    found = [pipe.__dict__.get("encode_prompt"), pipe.scheduler, pipe.unet]
    for name, module in denoiser.named_modules():
        found.append((name, module, getattr(module, "processor", None), sorted(vars(module)), module.forward.__func__))
        found.append((len(module._forward_hooks), len(module._forward_pre_hooks)))
    return found


def test_before_during_after(pipe: Any) -> None:
    objects, before = everything_in(pipe), draw(pipe)
    with regulate(pipe, config=AttentionBalance()) as trace:
        during = draw(pipe)
        again = draw(pipe)
    assert torch.equal(before, draw(pipe))
    assert objects == everything_in(pipe)
    assert torch.equal(during, again)
    assert not torch.allclose(before, during)
    assert [target.text for target in trace.targets[0]] == ["cat", "blue balloon"]
    assert (trace.steps, trace.regulated_steps) == (4, 3)
    assert {record.layer for record in trace.records} == set(trace.layers)


def test_attention_moves_towards_the_target(pipe: Any) -> None:
    with regulate(pipe, config=AttentionRegulation()) as trace:
        draw(pipe)
    for record in trace.records:
        assert record.loss_after is not None
        assert record.loss_before is not None
        assert record.loss_after <= record.loss_before
    for before, after in trace.attention()[0].values():
        assert after > 2 * before


def test_strength_0_is_the_unmodified_model(pipe: Any) -> None:
    with regulate(pipe, config=AttentionRegulation(strength=0.0)) as trace:
        assert torch.equal(draw(pipe), draw_plain(pipe))
    assert trace.regulated_steps == 0


def draw_plain(pipe: Any) -> Tensor:
    """The unmodified picture, drawn in the middle of whatever is installed."""
    with regulate(pipe, config=AttentionRegulation(window=(0.0, 0.0))):
        return draw(pipe)


def test_outside_the_window_bit_identical(sd1: Any) -> None:
    """With a late window, the latents of the steps before it are those of the unmodified model."""
    kept: dict[str, list[Tensor]] = {"plain": [], "late": []}

    def keep(name: str) -> Callable[..., Any]:
        def callback(pipe: Any, step: int, timestep: Any, values: dict[str, Tensor]) -> dict[str, Tensor]:
            kept[name].append(values["latents"].clone())
            return values

        return callback

    draw(sd1, callback_on_step_end=keep("plain"))
    with regulate(sd1, config=AttentionRegulation(window=(0.5, 1.0))) as trace:
        draw(sd1, callback_on_step_end=keep("late"))
    same = [torch.equal(a, b) for a, b in zip(kept["plain"], kept["late"], strict=True)]
    assert same == [True, True, False, False]
    assert trace.regulated_steps == 2


@pytest.mark.parametrize("guidance_scale", [0.0, 1.0, 7.5])
def test_with_and_without_guidance(pipe: Any, guidance_scale: float) -> None:
    before = draw(pipe, guidance_scale=guidance_scale)
    with regulate(pipe, config=AttentionBalance()) as trace:
        during = draw(pipe, guidance_scale=guidance_scale)
    assert not torch.allclose(before, during)
    assert {record.image for record in trace.records} == {0}


def test_unconditional_rows_are_untouched(sd1: Any) -> None:
    """Guidance 0 keeps the unconditional prediction only: regulating the prompt's rows cannot show."""
    seen: list[Tensor] = []
    sd1.unet.register_forward_hook(lambda *args: seen.append(args[2][0].clone()))
    try:
        draw(sd1, num_inference_steps=1)
        with regulate(sd1, config=AttentionRegulation(window=(0.0, 1.0))):
            draw(sd1, num_inference_steps=1)
    finally:
        sd1.unet._forward_hooks.clear()
    plain, regulated = seen
    assert torch.equal(plain[0], regulated[0])
    assert not torch.allclose(plain[1], regulated[1])


def test_a_picture_does_not_depend_on_its_batch_mates(pipe: Any) -> None:
    """Three prompts with different targets (one, two, three of them), two images each, against each drawn alone."""
    prompts = ["a cat", "a dog and a red car", "a bird, a frog and a bear"]
    targets = [["cat"], ["dog", "car"], None]
    with regulate(pipe, targets, AttentionBalance()) as trace:
        together = draw(pipe, prompts, num_images_per_prompt=2)
    assert [len(found) for found in trace.targets] == [1, 2, 3]
    for i, (prompt, wanted) in enumerate(zip(prompts, targets, strict=True)):
        with regulate(pipe, wanted, AttentionBalance()):
            for copy in range(2):
                alone = draw(pipe, prompt, seed=2 * i + copy)
                torch.testing.assert_close(together[2 * i + copy], alone[0], rtol=1e-4, atol=1e-4)


def test_prompt_equal_to_negative_prompt(sd1: Any) -> None:
    with regulate(sd1, config=AttentionBalance()) as trace:
        draw(sd1, negative_prompt=PROMPT)
    assert trace.regulated_steps == 3


@pytest.mark.parametrize("size", [(64, 64), (64, 96), (72, 104), (128, 32)])
def test_any_size(sd1: Any, size: tuple[int, int]) -> None:
    with regulate(sd1, config=AttentionRegulation(layers=("all",))) as trace:
        draw(sd1, height=size[0], width=size[1], num_inference_steps=2)
    heights = {record.grid.height for record in trace.records}
    expected, height = set(), size[0] // 8
    for _ in range(4):
        expected.add(height)
        height = -(-height // 2)
    assert heights == expected


def test_latent_64_by_96(sd1: Any) -> None:
    with regulate(sd1, config=AttentionRegulation()) as trace:
        draw(sd1, height=512, width=768, num_inference_steps=1)
    assert {tuple(record.grid) for record in trace.records} == {(16, 24)}


def test_inference_mode(sd1: Any) -> None:
    with regulate(sd1, config=AttentionBalance()), torch.inference_mode():
        inside = draw(sd1)
    with regulate(sd1, config=AttentionBalance()):
        assert torch.equal(inside, draw(sd1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    pipe = tiny.stable_diffusion().to(dtype=dtype)
    before = draw(pipe)
    with regulate(pipe, config=AttentionBalance()):
        during = draw(pipe)
    assert during.dtype == dtype
    assert during.isfinite().all()
    assert not torch.equal(before, during)


def test_global_generator_is_left_alone(sd1: Any) -> None:
    state = torch.get_rng_state()
    with regulate(sd1, config=AttentionBalance()):
        draw(sd1)
    assert torch.equal(state, torch.get_rng_state())


def test_apply_and_remove(pipe: Any) -> None:
    objects, before = everything_in(pipe), draw(pipe)
    trace = apply_attention_regulation(pipe, AttentionRegulation(area=0.3), targets=["cat"])
    once = draw(pipe)
    apply_attention_regulation(pipe, AttentionRegulation(area=0.3), targets=["cat"])
    twice = draw(pipe)
    remove_attention_regulation(pipe)
    remove_attention_regulation(pipe)
    assert torch.equal(once, twice), "applying again must replace, not stack"
    assert not torch.allclose(before, once)
    assert torch.equal(before, draw(pipe))
    assert objects == everything_in(pipe)
    assert trace.steps == 4


def test_a_block_inside_an_applied_regulation_gives_it_back(sd1: Any) -> None:
    objects = everything_in(sd1)
    apply_attention_regulation(sd1, AttentionBalance(), targets=["cat"])
    applied = draw(sd1)
    with regulate(sd1, ["balloon"], AttentionBalance()) as trace:
        draw(sd1)
    assert [target.text for target in trace.targets[0]] == ["balloon"]
    assert torch.equal(applied, draw(sd1))
    remove_attention_regulation(sd1)
    assert objects == everything_in(sd1)


class Stop(BaseException):
    pass


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, Stop])
def test_everything_is_restored_when_the_call_raises(pipe: Any, error: type[BaseException]) -> None:
    objects, before = everything_in(pipe), draw(pipe)

    def fail(*args: Any) -> Any:
        raise error("on purpose")

    with pytest.raises(error, match="on purpose"), regulate(pipe, config=AttentionBalance()):
        draw(pipe, callback_on_step_end=fail)
    assert objects == everything_in(pipe)
    assert torch.equal(before, draw(pipe))


def test_1000_random_cycles_leave_no_trace(sd1: Any) -> None:
    """Install, sometimes raise, sometimes nest or replace, remove: the objects and the output stay."""
    objects, before = everything_in(sd1), draw(sd1, num_inference_steps=1)
    layers = ("auto", "all", "mid_block", "up_blocks.1", "down_blocks.2")
    for cycle in range(1000):
        rng = random.Random(cycle)
        config = AttentionRegulation(layers=(rng.choice(layers),))
        kind = rng.randrange(5)
        if kind == 0:
            with pytest.raises(Stop), regulate(sd1, config=config):
                raise Stop
        elif kind == 1:
            with regulate(sd1, config=config), regulate(sd1, ["cat"]):
                pass
        elif kind == 2:
            apply_attention_regulation(sd1, config)
            with regulate(sd1, config=AttentionBalance()):
                pass
            apply_attention_regulation(sd1, AttentionBalance())
        elif kind == 3:
            with pytest.raises(AttnregError), regulate(sd1, ["zebra"], config):
                sd1.encode_prompt(PROMPT, "cpu", 1, True)
        else:
            with pytest.raises(AttnregError):
                apply_attention_regulation(sd1, AttentionRegulation(layers=("nowhere",)))
        remove_attention_regulation(sd1)
        assert objects == everything_in(sd1)
    assert torch.equal(before, draw(sd1, num_inference_steps=1))


def test_nothing_matched_lists_what_there_is(sd1: Any) -> None:
    with pytest.raises(AttnregError, match=r"'up_block\.7'.*down_blocks\.0.*mid_block.*up_blocks\.3"):
        apply_attention_regulation(sd1, AttentionRegulation(layers=("up_block.7",)))


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("up_blocks.1", ["up_blocks.1.", "up_blocks.1."]),
        ("up_blocks.*", ["up_blocks."] * 6),
        ("*_blocks.1", ["down_blocks.1.", "up_blocks.1.", "up_blocks.1."]),
        ("up_blocks.[12].attentions.0", ["up_blocks.1.attentions.0.", "up_blocks.2.attentions.0."]),
    ],
)
def test_layers_are_named_with_stars_as_in_a_shell(sd1: Any, word: str, names: list[str]) -> None:
    family, denoiser = family_of(sd1)
    chosen = list(select_layers(family, denoiser, [word]))
    assert len(chosen) == len(names), chosen
    assert all(one.startswith(name) for one, name in zip(chosen, names, strict=True)), chosen


def test_no_name_of_layers_takes_long(sd1: Any) -> None:
    family, denoiser = family_of(sd1)
    began = time.monotonic()
    for word in ("*a" * 100, "*?" * 100, "*[a-z]" * 30 + "x", "?*" * 99 + "x", "[" * 200, "*" * 199 + "x"):
        with pytest.raises(AttnregError, match="which selects none"):
            select_layers(family, denoiser, layer_patterns("layers", (word,)))
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["zebra"], "zebra"),
        ([], "empty"),
        (["cat", "cat"], "cat"),
        ([["cat"], ["dog"]], "1 prompts, got 2"),
        (["dog#2"], "dog"),
    ],
)
def test_bad_targets_stop_before_any_step(sd1: Any, targets: Any, message: str) -> None:
    calls: list[int] = []
    handle = sd1.unet.register_forward_pre_hook(lambda *args: calls.append(1))
    try:
        with pytest.raises(AttnregError, match=message), regulate(sd1, targets, AttentionBalance()):
            draw(sd1)
    finally:
        handle.remove()
    assert not calls


def test_embeddings_without_words_are_refused(sd1: Any) -> None:
    embeddings, negative = sd1.encode_prompt(PROMPT, "cpu", 1, True)
    with pytest.raises(AttnregError, match="prompt_embeds"), regulate(sd1, config=AttentionBalance()):
        sd1(prompt_embeds=embeddings, negative_prompt_embeds=negative, num_inference_steps=1, output_type="latent")


def test_a_second_prompt_that_differs_is_refused() -> None:
    with pytest.raises(AttnregError, match="prompt_2"), regulate(pipe := tiny.stable_diffusion_xl()):
        pipe(PROMPT, prompt_2="a dog", num_inference_steps=1)


def test_what_is_no_pipeline_is_refused(sd1: Any) -> None:
    with pytest.raises(AttnregError, match=r"Stable Diffusion, Stable Diffusion 3, FLUX.*no model"), regulate(sd1.vae):
        pass


def test_a_shared_denoiser_cannot_be_regulated_twice(sd1: Any) -> None:
    from diffusers import StableDiffusionImg2ImgPipeline

    other = StableDiffusionImg2ImgPipeline(**sd1.components, requires_safety_checker=False)
    with (
        regulate(sd1, config=AttentionBalance()),
        pytest.raises(AttnregError, match="another pipeline"),
        regulate(other),
    ):
        pass


def test_encoding_without_drawing_warns(sd1: Any) -> None:
    with pytest.warns(UserWarning, match="never ran"), regulate(sd1, config=AttentionBalance()):
        sd1.encode_prompt(PROMPT, "cpu", 1, True)


def test_a_failed_call_leaves_no_grudge() -> None:
    """The advice of an error can be followed: the next call works, and so does removing."""
    pipe = tiny.stable_diffusion()
    trace = apply_attention_regulation(pipe, AttentionBalance())
    pipe.enable_attention_slicing(1)
    with pytest.raises(AttnregError, match="AttnProcessor2_0"):
        draw(pipe)
    pipe.unet.set_attn_processor(AttnProcessor2_0())
    draw(pipe)
    assert trace.regulated_steps == 3
    remove_attention_regulation(pipe)


def test_a_window_between_two_steps_is_refused(sd1: Any) -> None:
    with (
        pytest.raises(AttnregError, match=r"window: .*\(0\.3, 0\.4\).*4 steps"),
        regulate(sd1, config=AttentionRegulation(window=(0.3, 0.4))),
    ):
        draw(sd1)


def test_embeddings_of_the_regulated_block_may_be_handed_back(pipe: Any) -> None:
    if not isinstance(pipe, tiny.StableDiffusionPipeline):
        pytest.skip("SDXL's pooled embeddings are handed over the same way")
    with regulate(pipe, config=AttentionBalance()):
        expected = draw(pipe)
        embeddings, negative = pipe.encode_prompt(PROMPT, "cpu", 1, True)
        again = draw_embedded(pipe, embeddings, negative)
    torch.testing.assert_close(again, expected)


def draw_embedded(pipe: Any, embeddings: Tensor, negative: Tensor, **options: Any) -> Tensor:
    defaults = {"generator": torch.Generator().manual_seed(0), "num_inference_steps": 4, "output_type": "latent"}
    given = {"prompt_embeds": embeddings, "negative_prompt_embeds": negative, "height": 64, "width": 96}
    return pipe(**given | defaults | options).images


@pytest.mark.parametrize("method", ["attention-balance", "composable-diffusion", "prompt-weighting", "best-start"])
def test_embeddings_may_be_handed_back_for_several_images_each(sd1: Any, method: str) -> None:
    """And once more for another number of them."""
    with regulate(sd1, config=configure(method)) as trace:
        embeddings, negative = sd1.encode_prompt(PROMPT, "cpu", 1, True)
        for count in (2, 1, 3):
            generators = [torch.Generator().manual_seed(seed) for seed in range(count)]
            again = draw_embedded(sd1, embeddings, negative, num_images_per_prompt=count, generator=generators)
            assert trace.images_per_prompt == count
            with regulate(sd1, config=configure(method)):
                expected = draw(sd1, num_images_per_prompt=count)
            torch.testing.assert_close(again, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("before", [None, AttentionScaling()])
def test_what_is_applied_or_removed_inside_of_a_block_ends_with_it(before: Any) -> None:
    pipe = tiny.stable_diffusion()
    objects = everything_in(pipe)
    if before:
        apply_attention_regulation(pipe, before)
    expected = draw(pipe)
    for inside in (
        lambda: apply_attention_regulation(pipe, AttentionBalance()),
        lambda: remove_attention_regulation(pipe),
    ):
        with regulate(pipe, config=AttentionRegulation()):
            inside()
        assert torch.equal(draw(pipe), expected)
    remove_attention_regulation(pipe)
    assert objects == everything_in(pipe)


def test_a_unet_whose_attention_is_all_over_text() -> None:
    """As the one of the upscaler: both attentions of a block are regulated; what wants the other kind says so."""
    pipe = tiny.stable_diffusion(only_cross_attention=True)
    with regulate(pipe, config=AttentionBalance(layers=("all",))) as trace:
        draw(pipe)
    over_text = [name for name, module in pipe.unet.named_modules() if getattr(module, "is_cross_attention", False)]
    assert trace.layers == tuple(over_text)
    assert any(name.endswith("attn1") for name in over_text)
    for method in ("dense-diffusion", "self-cross"):
        with pytest.raises(AttnregError, match="look at one another"), regulate(pipe, config=configure(method)):
            draw(pipe)


@pytest.mark.parametrize("targets", [5, "cat", {"cat", "dog"}, (word for word in ["cat"])])
def test_targets_that_are_no_list(sd1: Any, targets: Any) -> None:
    with pytest.raises(AttnregError, match=r"targets: expected a list of words"):
        Installation(sd1, None, targets)


@pytest.mark.parametrize(("config", "targets"), [(None, AttentionRegulation()), (["cat"], None)])
def test_arguments_in_the_wrong_place(sd1: Any, config: Any, targets: Any) -> None:
    """(Of `Installation`, for the shape checks of the tests refuse wrong types of the public verbs before we can.)"""
    with pytest.raises(AttnregError, match=r"config=AttentionBalance.*name both arguments"):
        Installation(sd1, config, targets)


def test_under_autocast_logits_stay_exact(sd1: Any) -> None:
    """Large queries and keys overflow float16 products; the edited rows are computed outside of autocast."""
    from attnreg.attention.layers.catch import attend_with

    query = torch.full((1, 1, 4, 64), 40.0)
    seen: list[Tensor] = []

    def keep(logits: Tensor) -> Tensor:
        seen.append(logits)
        return logits.softmax(-1)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        attend_with(keep, torch.tensor([0]), query, query, query)
    assert seen[0].dtype == torch.float32
    assert seen[0].unique().tolist() == [40.0 * 40.0 * 64 / 8]
