"""Regulation in company: other pipelines around the same UNet, schedulers, what is shared.

Add-ons: `test_add_ons.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    StableDiffusionAdapterPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPAGPipeline,
    StableDiffusionXLImg2ImgPipeline,
    T2IAdapter,
)
from PIL import Image
from torch import Tensor

import tiny
from attnreg import (
    AttentionRegulation,
    AttnregError,
    regulate,
)
from attnreg.methods.composable_diffusion import ComposableDiffusion
from attnreg.methods.prompt_weighting import PromptWeighting
from attnreg.methods.structured_diffusion import StructuredDiffusion
from attnreg.regulation.balance import AttentionBalance
from attnreg.regulation.best_start import BestStart
from test_regulate import PROMPT, draw, everything_in

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' own, on numpy 2
def test_heun_counts_its_own_steps() -> None:
    """A second-order scheduler calls the denoiser twice a step; the window is a share of all its calls."""
    from diffusers import HeunDiscreteScheduler

    pipe = tiny.stable_diffusion()
    pipe.scheduler = HeunDiscreteScheduler.from_config(pipe.scheduler.config)
    with regulate(pipe, config=AttentionBalance()) as trace:
        draw(pipe, num_inference_steps=4)
    assert (trace.steps, trace.regulated_steps) == (7, 5)


def test_compiled_module_in_place_of_the_unet() -> None:
    """`pipe.unet = torch.compile(pipe.unet)`, the other way to compile."""
    pipe = tiny.stable_diffusion()
    with regulate(pipe, config=AttentionBalance()):
        eager = draw(pipe, num_inference_steps=2)
    pipe.unet = torch.compile(pipe.unet, backend="eager")
    draw(pipe, num_inference_steps=2)
    with regulate(pipe, config=AttentionBalance()):
        torch.testing.assert_close(draw(pipe, num_inference_steps=2), eager, rtol=1e-3, atol=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_model_offload_from_a_gpu() -> None:
    """Without one: `test_add_ons.py`."""
    pipe = tiny.stable_diffusion()
    with regulate(pipe, config=AttentionBalance()):
        expected = draw(pipe)
    pipe.enable_model_cpu_offload(device="cuda")
    with regulate(pipe, config=AttentionBalance()) as trace:
        for _ in range(2):  # it wipes what lies over the denoiser's forward at the end of each picture
            torch.testing.assert_close(draw(pipe).cpu(), expected, rtol=1e-3, atol=1e-3)
            assert trace.regulated_steps == 3


def test_perturbed_attention_guidance() -> None:
    """PAG runs the prompt's row twice, the second time perturbed; both are regulated."""
    pipe = tiny.quiet(
        StableDiffusionPAGPipeline(**tiny.parts(), requires_safety_checker=False, pag_applied_layers="mid")
    )
    before = draw(pipe, pag_scale=3.0)
    with regulate(pipe, config=AttentionBalance()) as trace:
        during = draw(pipe, pag_scale=3.0)
    assert not torch.allclose(before, during)
    assert len(trace.records) == 2 * 3 * len(trace.layers)
    assert torch.equal(before, draw(pipe, pag_scale=3.0))


def test_a_pipeline_with_another_unet_is_refused() -> None:
    pipe = tiny.stable_diffusion()
    with regulate(pipe, config=AttentionBalance()):
        pipe.unet = tiny.unet()
        with pytest.raises(AttnregError, match="another one in its place"):
            draw(pipe)


def test_a_pipeline_that_shares_a_regulated_unet_is_refused() -> None:
    pipe = tiny.stable_diffusion()
    other = tiny.quiet(StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False))
    with regulate(pipe, config=AttentionBalance()):
        draw(pipe)
        with pytest.raises(AttnregError, match=r"one more|encode a prompt"):
            other(PROMPT, image=PICTURE, num_inference_steps=4, output_type="latent")


def test_a_word_of_several_vectors_is_one_target() -> None:
    pipe = tiny.stable_diffusion()
    pipe.load_textual_inversion({"<toy>": torch.randn(3, tiny.CONTEXT)}, token="<toy>")
    for targets in (["<toy>", "cat"], None):
        with regulate(pipe, targets, AttentionBalance()) as trace:
            draw(pipe, "a <toy> and a cat")
        assert [target.tokens for target in trace.targets[0]] == [(2, 3, 4), (7,)]
    with regulate(pipe, [(2, 3, 4), 7], AttentionBalance()) as trace:
        draw(pipe, "a <toy> and a cat")
    assert [target.text for target in trace.targets[0]][1] == "cat"
    objects = everything_in(pipe)
    with pytest.raises(AttnregError, match=r"change places.*<toy>"), regulate(pipe, [7], BestStart()):
        draw(pipe, "a <toy> and a cat")
    assert objects == everything_in(pipe)


def test_placeholders_are_written_out_once() -> None:
    """Methods that encode other texts meet the prompt's own words: one that next to nothing weighs changes nothing."""
    pipe = tiny.stable_diffusion()
    pipe.load_textual_inversion(torch.randn(3, tiny.CONTEXT), token="<toy>")
    prompt, targets = "a <toy> and a cat", [(2, 3, 4), 7]
    plain = draw(pipe, prompt)
    for edit in (PromptWeighting(weight=1 - 1e-6), StructuredDiffusion(strength=1e-6)):
        with regulate(pipe, targets, edit):
            torch.testing.assert_close(draw(pipe, prompt), plain, rtol=1e-3, atol=1e-3)
    with regulate(pipe, [(1, 2, 3)], ComposableDiffusion()):
        alone = draw(pipe, "<toy>")
    torch.testing.assert_close(alone, draw(pipe, "<toy>"), rtol=1e-4, atol=1e-4)


def test_padding_that_the_pipeline_hides_stays_hidden() -> None:
    pipe = tiny.stable_diffusion()
    pipe.text_encoder.config.use_attention_mask = True
    seen: list[Tensor] = []
    pipe.text_encoder.register_forward_pre_hook(
        lambda _module, _args, given: seen.append(given["attention_mask"]), with_kwargs=True
    )
    with regulate(pipe, ["cat"], PromptWeighting(weight=0.5)):
        draw(pipe, num_inference_steps=2)
    masks = {tuple(mask[0].tolist()) for mask in seen}
    without = [mask for mask in masks if mask[2] == 0]
    assert len(without) == 1
    assert all(sum(mask[10:]) == 0 for mask in masks), "of the padding nothing is seen"


def test_an_adapter_whose_features_the_denoiser_takes_out_of_their_list() -> None:
    """A T2I-Adapter's: phrases that are denoised beside the prompt find them there again."""
    torch.manual_seed(9)
    adapter = T2IAdapter(in_channels=3, channels=[32] * 4, num_res_blocks=1, downscale_factor=8).eval()
    parts = tiny.parts() | {"adapter": adapter}
    pipe = tiny.quiet(StableDiffusionAdapterPipeline(**parts, requires_safety_checker=False))
    plain = draw(pipe, "cat", image=PICTURE)
    assert not torch.allclose(plain, draw(pipe, "cat", image=PICTURE, adapter_conditioning_scale=0.0), atol=0.1)
    with regulate(pipe, ["cat"], ComposableDiffusion()):
        torch.testing.assert_close(draw(pipe, "cat", image=PICTURE), plain, rtol=1e-4, atol=1e-4)
    calls: list[int] = []
    pipe.unet.conv_in.register_forward_pre_hook(lambda _, args: calls.append(len(args[0])))
    with regulate(pipe, ["cat"], BestStart(enough=0.0)):
        assert torch.equal(draw(pipe, "cat", image=PICTURE), plain)
    assert len(calls) == 5, "nor are they missing where its steps are foreseen: four and the reading"


def test_embeddings_that_a_callback_writes_to() -> None:
    """An edit of the embeddings does not put its own in their place as if nothing had been written."""

    def fade(_: Any, step: int, _time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if step == 0:
            tensors["prompt_embeds"].mul_(0.5)
        return tensors

    pipe = tiny.stable_diffusion()
    options = {"callback_on_step_end": fade, "callback_on_step_end_tensor_inputs": ["prompt_embeds"]}
    with pytest.raises(AttnregError, match="a callback writes to them"), regulate(pipe, config=PromptWeighting()):
        draw(pipe, **options)


def test_a_denoiser_that_escapes_is_noticed() -> None:
    """Should one of the layers not run (a cached feature, a stale compilation), the picture ends in an error."""
    pipe = tiny.stable_diffusion()
    inner = pipe.unet.down_blocks[2]

    def skip(hidden_states: Tensor, temb: Tensor, **_: Any) -> Any:
        smaller = inner.downsamplers[0](hidden_states)
        return smaller, (hidden_states, smaller)

    inner.forward = skip
    with (
        pytest.raises(AttnregError, match=r"got none of down_blocks\.2"),
        regulate(pipe, config=AttentionRegulation(layers=("down_blocks.2", "mid_block"))),
    ):
        draw(pipe)


def test_a_pipeline_whose_only_tokenizer_is_the_second() -> None:
    """SDXL's refiner."""
    parts = tiny.stable_diffusion_xl().components | {"tokenizer": None, "text_encoder": None}
    parts["unet"] = tiny.unet(
        sample_size=64,
        cross_attention_dim=tiny.CONTEXT,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=5 * 8 + tiny.CONTEXT,
    )
    pipe = tiny.quiet(StableDiffusionXLImg2ImgPipeline(**parts, requires_aesthetics_score=True))
    with regulate(pipe, config=AttentionBalance()) as trace:
        pipe(PROMPT, image=PICTURE, num_inference_steps=4, strength=0.9, output_type="latent")
    assert trace.regulated_steps > 0


def test_a_pipeline_that_encodes_in_private_is_refused() -> None:
    parts = tiny.stable_diffusion().components
    pipe = tiny.quiet(StableDiffusionInstructPix2PixPipeline(**parts, requires_safety_checker=False))
    with pytest.raises(AttnregError, match=r"expected a pipeline with \.encode_prompt, got StableDiffusionInstruct"):
        regulate(pipe).__enter__()


def test_clip_skip_reaches_what_is_read() -> None:
    """What encode_prompt makes with fewer layers is what the denoiser is given: its rows are found.

    In SDXL. In Stable Diffusion 1 and 2 it is diffusers that cannot, with a transformers of today: it asks the text
    encoder for a part that is no longer there.
    """
    pipe = tiny.stable_diffusion_xl()
    with regulate(pipe, config=AttentionBalance()) as trace:
        skipped = draw(pipe, PROMPT, clip_skip=1)
    assert trace.regulated_steps > 0
    with regulate(pipe, config=AttentionBalance()):
        assert not torch.equal(draw(pipe, PROMPT), skipped)
