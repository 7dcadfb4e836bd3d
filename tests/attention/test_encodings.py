"""What was encoded is known again: several prompts, in any order, row by row; and who may call."""

from __future__ import annotations

import asyncio
import copy
import inspect
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
import tiny_transformers
from attnreg import AttentionBalance, AttnregError, regulate
from attnreg.regulation.auto import Auto

PROMPTS = ("a cat and a blue balloon", "a dog with a red car")
SMALL: dict[str, Any] = {"height": 64, "width": 64, "num_inference_steps": 3, "output_type": "latent"}


@pytest.fixture(scope="module")
def pipe() -> Any:
    return tiny.stable_diffusion()


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def draw(pipe: Any, prompt: Any = None, seeds: tuple[int, ...] = (0,), **options: Any) -> Tensor:
    images: Tensor = pipe(prompt, generator=seeded(*seeds), **(SMALL | options)).images
    return images


def test_several_prompts_are_encoded_first_and_drawn_later(pipe: Any) -> None:
    with regulate(pipe, config=AttentionBalance()) as trace:
        expected, named = [], []
        for prompt in PROMPTS:
            expected.append(draw(pipe, prompt))
            named.append([target.text for target in trace.targets[0]])
        encoded = [pipe.encode_prompt(prompt, "cpu", 1, True) for prompt in PROMPTS]
        for number in (0, 1, 0):
            embeddings, negative = encoded[number]
            again = draw(pipe, prompt_embeds=embeddings, negative_prompt_embeds=negative)
            assert torch.equal(again, expected[number])
            assert [target.text for target in trace.targets[0]] == named[number]
        together = draw(
            pipe,
            seeds=(0, 0),
            prompt_embeds=torch.cat([encoded[1][0], encoded[0][0]]),
            negative_prompt_embeds=torch.cat([encoded[1][1], encoded[0][1]]),
        )
        assert [[target.text for target in one] for one in trace.targets] == named[::-1]
    for drawn, alone in zip(together, expected[::-1], strict=True):
        torch.testing.assert_close(drawn, alone[0], rtol=1e-3, atol=1e-3)


def test_the_same_where_negative_prompts_are_encoded_on_their_own() -> None:
    """What is wrong with a text counts only if it is drawn: the negative prompt names none of the targets."""
    pipe = tiny_transformers.flux()
    options = {"height": 32, "width": 32, "num_inference_steps": 2, "output_type": "latent", "max_sequence_length": 16}
    with regulate(pipe, ["cat"], AttentionBalance()) as trace:
        pipe(PROMPTS[0], negative_prompt="a dog", true_cfg_scale=3.0, generator=seeded(0), **options)
        assert trace.regulated_steps == 2
        with pytest.raises(AttnregError, match="no token of the prompt matches 'cat'"):
            pipe(PROMPTS[1], generator=seeded(0), **options)
        pipe.encode_prompt(PROMPTS[0], max_sequence_length=16)
        embeddings, pooled, _ = pipe.encode_prompt(PROMPTS[1], max_sequence_length=16)
        with pytest.raises(AttnregError, match="no token of the prompt matches 'cat'"):
            pipe(prompt_embeds=embeddings, pooled_prompt_embeds=pooled, generator=seeded(0), **options)


def test_embeddings_that_nobody_knows_are_refused(pipe: Any) -> None:
    with regulate(pipe, config=AttentionBalance()):
        embeddings, negative = pipe.encode_prompt(PROMPTS[0], "cpu", 1, True)
        with pytest.raises(AttnregError, match="expected a prompt in words, got prompt_embeds"):
            draw(pipe, prompt_embeds=embeddings + 1, negative_prompt_embeds=negative)
        draw(pipe, prompt_embeds=embeddings, negative_prompt_embeds=negative)


def test_blocks_that_overlap_end_cleanly() -> None:
    """Entered one after the other and left in the same order, as threads and coroutines do."""
    pipe = tiny.stable_diffusion()
    plain, original = draw(pipe, PROMPTS[0]), pipe.encode_prompt.__func__
    first, second = (regulate(pipe, config=AttentionBalance(gain=gain)) for gain in (2.0, 4.0))
    first.__enter__()
    trace = second.__enter__()
    draw(pipe, PROMPTS[0])
    first.__exit__(None, None, None)
    draw(pipe, PROMPTS[0])
    assert trace.regulated_steps > 0, "the second block goes on"
    second.__exit__(None, None, None)
    assert torch.equal(draw(pipe, PROMPTS[0]), plain)
    assert pipe.encode_prompt.__func__ is original
    assert "encode_prompt" not in vars(pipe)


def test_coroutines_that_overlap_leave_nothing_behind() -> None:
    pipe = tiny.stable_diffusion()

    async def regulated(naps: int) -> None:
        with regulate(pipe, config=AttentionBalance()):
            for _ in range(naps):
                await asyncio.sleep(0)
            draw(pipe, PROMPTS[0], num_inference_steps=1)

    async def both() -> None:
        await asyncio.gather(regulated(1), regulated(3))

    asyncio.run(both())
    assert "encode_prompt" not in vars(pipe)
    assert "forward" not in vars(pipe.unet)


def test_a_copy_of_a_regulated_pipeline_is_refused(pipe: Any) -> None:
    """It has the stand-ins of the original and steps of its own: an asynchronous server copies pipelines so."""
    with regulate(pipe, config=AttentionBalance()):
        copied = copy.copy(pipe)
        copied.scheduler = copy.deepcopy(pipe.scheduler)
        with pytest.raises(AttnregError, match=r"got a copy.*apply the regulation to the copy"):
            draw(copied, PROMPTS[0])
        draw(pipe, PROMPTS[0])


def test_a_wrapper_that_does_not_say_what_it_takes(pipe: Any) -> None:
    """DeepCache, profilers and tracers put such ones over the denoiser and the encoder."""
    with regulate(pipe, config=AttentionBalance()):
        expected = draw(pipe, PROMPTS[0])

    def wrapped(original: Any) -> Any:
        return lambda *args, **kwargs: original(*args, **kwargs)

    pipe.unet.forward, pipe.encode_prompt = wrapped(pipe.unet.forward), wrapped(pipe.encode_prompt)
    assert "sample" not in inspect.signature(pipe.unet.forward).parameters
    try:
        with regulate(pipe, config=AttentionBalance()) as trace:
            assert torch.equal(draw(pipe, PROMPTS[0]), expected)
        assert trace.regulated_steps > 0
    finally:
        del pipe.unet.forward, pipe.encode_prompt


@pytest.mark.parametrize("edit", [AttentionBalance(), Auto()])
def test_an_image_whose_prompt_names_nothing_is_left_alone_in_its_batch(pipe: Any, edit: Any) -> None:
    prompts = [PROMPTS[0], "best quality"]
    with (
        pytest.warns(UserWarning, match="drawn unmodified: no noun found in 'best quality'"),
        regulate(pipe, None, edit),
    ):
        drawn = draw(pipe, prompts, seeds=(0, 1))
    plain = draw(pipe, prompts, seeds=(0, 1))
    assert torch.equal(drawn[1], plain[1])
    with regulate(pipe, [["cat"], []], edit) as trace:
        assert torch.equal(draw(pipe, prompts, seeds=(0, 1))[1], plain[1])
    assert [[target.text for target in one] for one in trace.targets] == [["cat"], []]
