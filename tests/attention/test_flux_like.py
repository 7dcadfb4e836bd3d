"""What the pipelines of FLUX's build do beside drawing a picture from text: references, rewriting, caches, layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from PIL import Image
from torch import Tensor, nn

import tiny_families
import tiny_flux_like
import tiny_single_stream
import tiny_transformers
from attnreg import AttentionBalance, AttnregError, regulate
from attnreg.attention.families.refused import REFUSED
from attnreg.trace import Trace

PROMPT = "a cat and a blue balloon"
PICTURE = Image.new("RGB", (64, 64), (90, 140, 200))
ALWAYS = AttentionBalance(window=(0.0, 1.0))


def drawn(pipe: Any, name: str, prompt: str = PROMPT, **options: Any) -> Tensor:
    settings = {"num_inference_steps": 3, "output_type": "latent"} | tiny_families.SMALL[name] | options
    images = pipe(prompt=prompt, generator=torch.Generator().manual_seed(0), **settings).images
    return images


def regulated(pipe: Any, name: str, prompt: str = PROMPT, **options: Any) -> tuple[Trace, Tensor]:
    with regulate(pipe, config=ALWAYS) as trace:
        image = drawn(pipe, name, prompt, **options)
    assert trace.steps == trace.regulated_steps == 3
    assert {(record.grid.height, record.grid.width) for record in trace.records} == {(8, 12)}
    return trace, image


@pytest.mark.parametrize("image", [None, [PICTURE, PICTURE]])
def test_kept_keys_of_no_reference_and_of_two(image: Any) -> None:
    pipe = tiny_flux_like.flux_2_klein_kv()
    plain = drawn(pipe, "FLUX.2 klein KV", image=image)
    _, edited = regulated(pipe, "FLUX.2 klein KV", image=image)
    assert not torch.equal(plain, edited)
    assert torch.equal(drawn(pipe, "FLUX.2 klein KV", image=image), plain)


@pytest.mark.parametrize("name", ["FLUX.2", "FLUX.2 klein"])
def test_references_lie_behind_the_picture(name: str) -> None:
    pipe = tiny_families.FAMILIES[name]()
    assert not torch.equal(drawn(pipe, name, image=[PICTURE]), regulated(pipe, name, image=[PICTURE])[1])


def test_an_empty_negative_prompt_is_no_prompt_that_names_nothing() -> None:
    """Where it is encoded on its own it is told apart by being never drawn: warnings are errors here."""
    pipe = tiny_flux_like.flux_2_klein()
    regulated(pipe, "FLUX.2 klein")
    with pytest.warns(UserWarning, match="drawn unmodified: no noun found in 'best quality'"), regulate(pipe):
        assert torch.equal(drawn(pipe, "FLUX.2 klein", "best quality"), drawn(pipe, "FLUX.2 klein", "best quality"))


def test_quoted_words_are_read_letter_by_letter() -> None:
    pipe = tiny_flux_like.longcat_image()
    with regulate(pipe, ["cat"], ALWAYS) as trace:
        drawn(pipe, "LongCat-Image", "a sign that says 'cat'")
    assert len(trace.targets[0][0].tokens) == 3


def test_several_images_of_a_prompt() -> None:
    for name in ("Chroma", "Ernie-Image"):
        pipe = tiny_families.FAMILIES[name]()
        with regulate(pipe, config=ALWAYS) as trace:
            images = drawn(pipe, name, num_images_per_prompt=2)
        assert len(images) == 2
        assert {record.image for record in trace.records} == {0, 1}


def test_keys_that_are_kept_or_not_are_edited_alike() -> None:
    """The text does not see the picture, so that its keys are the same in every step."""
    pipe = tiny_single_stream.qwen_image_21()
    with regulate(pipe, config=ALWAYS):
        kept, anew = (drawn(pipe, "Qwen-Image 2.1", use_kv_cache=keeps) for keeps in (True, False))
    torch.testing.assert_close(kept, anew, rtol=1e-3, atol=1e-4)


def test_layers_of_a_picture_are_refused() -> None:
    pipe = tiny_transformers.qwen_image()
    given = {
        "hidden_states": torch.zeros(1, 48, 16), "encoder_hidden_states": torch.zeros(1, 4, 16),
        "img_shapes": [[(1, 4, 6), (1, 4, 6)]], "additional_t_cond": torch.zeros(1, dtype=torch.long),
    }  # fmt: skip
    from attnreg.attention.families import family_of

    family, denoiser = family_of(pipe)
    with pytest.raises(AttnregError, match="got the layers of one"):
        family.places("transformer_blocks.0.attn", given, denoiser, 52, 52)


@pytest.mark.parametrize("name", REFUSED)
def test_a_denoiser_that_cannot_be_regulated_is_refused_with_the_reason(name: str) -> None:
    class Pipeline(DiffusionPipeline):  # type: ignore[misc]
        def __init__(self, transformer: Any, scheduler: Any) -> None:
            super().__init__()
            self.register_modules(transformer=transformer, scheduler=scheduler)

    pipe = Pipeline(type(name, (nn.Module,), {})(), FlowMatchEulerDiscreteScheduler())
    with pytest.raises(AttnregError, match=rf"got {name}: {REFUSED[name]}; choose another model"):
        regulate(pipe).__enter__()
