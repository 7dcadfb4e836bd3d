"""Pipelines around the transformers of a family: pictures to begin from, to fill, to follow or to refer to.

FLUX's image-to-image and inpainting: `test_add_ons.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
from PIL import Image

import tiny
import tiny_transformers
from attnreg import AttentionBalance, AttnregError, configure, regulate
from attnreg.regulation.best_start import BestStart

PROMPT = "a cat and a blue balloon"
PICTURE = Image.new("RGB", (48, 32), (90, 140, 200))
MASK = Image.new("L", (48, 32), 255)
SMALL: dict[str, Any] = {"num_inference_steps": 3, "output_type": "latent", "max_sequence_length": 16}
SIZED: dict[str, Any] = SMALL | {"height": 32, "width": 48}
KONTEXT: dict[str, Any] = SIZED | {"_auto_resize": False, "max_area": 32 * 48}


def flux(name: str, channels: int = 16) -> Any:
    return tiny.quiet(getattr(diffusers, name)(**tiny_transformers.flux_parts(channels)))


def stable_diffusion_3(name: str) -> Any:
    pipe = tiny_transformers.stable_diffusion_3()
    pipe.transformer.register_to_config(sample_size=24)
    return tiny.quiet(getattr(diffusers, name)(**pipe.components))


PIPELINES: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "FLUX Fill": (lambda: flux("FluxFillPipeline", 48), SIZED | {"image": PICTURE, "mask_image": MASK}),
    "FLUX Control": (lambda: flux("FluxControlPipeline", 32), SIZED | {"control_image": PICTURE}),
    "FLUX Kontext": (lambda: flux("FluxKontextPipeline"), KONTEXT | {"image": PICTURE}),
    "FLUX Kontext of text alone": (lambda: flux("FluxKontextPipeline"), KONTEXT),
    "SD3 image-to-image": (
        lambda: stable_diffusion_3("StableDiffusion3Img2ImgPipeline"), SIZED | {"image": PICTURE, "strength": 0.9}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PIPELINES)
def test_it_is_regulated_and_left_as_it_was(name: str) -> None:
    make, options = PIPELINES[name]
    pipe = make()

    def drawn() -> Any:
        return pipe(prompt=PROMPT, generator=torch.Generator().manual_seed(0), **options).images

    plain = drawn()
    with regulate(pipe, config=AttentionBalance(window=(0.0, 1.0))) as trace:
        regulated = drawn()
    assert torch.equal(drawn(), plain)
    assert not torch.equal(regulated, plain)
    assert trace.steps == trace.regulated_steps > 0
    assert {record.grid.pixels for record in trace.records} == {trace.records[0].grid.pixels}
    assert trace.records[0].grid.height < trace.records[0].grid.width, (
        "of the picture that is drawn, not of a reference"
    )


def test_embedded_guidance_is_told_whatever_is_asked_beside_the_pipeline() -> None:
    """FLUX.1 dev: one row, one call a step; starts are followed and read under the same guidance."""
    pipe = tiny.quiet(diffusers.FluxPipeline(**tiny_transformers.flux_parts(guided=True)))
    told: list[tuple[int, float]] = []

    def note(_: Any, args: Any) -> None:
        _, guidance, pooled = args  # a thousandfold
        told.append((len(pooled), float(guidance[0]) / 1000))

    def drawn() -> Any:
        told.clear()
        return pipe(PROMPT, generator=torch.Generator().manual_seed(0), guidance_scale=4.5, **SIZED).images

    with pipe.transformer.time_text_embed.register_forward_pre_hook(note):  # in passes beside the pipeline's as well
        plain = drawn()
        assert told == [(1, 4.5)] * 3
        with regulate(pipe, config=AttentionBalance(window=(0.0, 1.0))) as trace:
            assert not torch.equal(drawn(), plain)
        assert (trace.steps, trace.regulated_steps, len(told)) == (3, 3, 3)
        with regulate(pipe, config=BestStart(enough=1e9, starts=4)) as trace:
            drawn()
        assert trace.starts
        assert {guidance for _, guidance in told} == {4.5}
        assert len(told) > 3


def test_clip_may_read_another_prompt_than_t5() -> None:
    """FLUX.1: the words that fill columns are those of `prompt_2`, of which nothing else is read."""
    pipe = tiny_transformers.flux()

    def drawn(prompt: Any, **options: Any) -> Any:
        return pipe(prompt, generator=torch.Generator().manual_seed(0), **SIZED, **options).images

    plain = drawn("a photo", prompt_2=PROMPT)
    assert not torch.equal(plain, drawn(PROMPT))
    with regulate(pipe, config=AttentionBalance()) as alone:
        drawn(PROMPT)
    with regulate(pipe, config=AttentionBalance()) as trace:
        assert not torch.equal(drawn("a photo", prompt_2=PROMPT), plain)
    assert trace.targets == alone.targets
    assert torch.equal(drawn("a photo", prompt_2=PROMPT), plain)
    with pytest.raises(AttnregError, match="photo"), regulate(pipe, ["photo"]):
        drawn("a photo", prompt_2=PROMPT)
    with regulate(pipe) as trace:
        drawn("a photo", prompt_2=PROMPT)
    (decision,) = trace.decisions
    assert decision.method == "attention-balance"
    assert decision.reason == "with a prompt_2 that differs from prompt, other texts would not be encoded alike"
    for method in ("best-start", "prompt-weighting", "composable-diffusion"):
        wrong = pytest.raises(AttnregError, match="got a prompt_2 that differs from prompt, beside which")
        with wrong, regulate(pipe, config=configure(method)):
            drawn("a photo", prompt_2=PROMPT)
    with regulate(pipe, config=BestStart(enough=0.0)) as trace:
        drawn(PROMPT, prompt_2=PROMPT)
    assert trace.starts


def test_skip_layer_guidance_is_no_step_of_its_own() -> None:
    """Stable Diffusion 3.5 asks for one more prediction, of the prompt's rows alone, with blocks left out."""
    pipe = tiny_transformers.stable_diffusion_3()
    options = SIZED | {"skip_guidance_layers": [0], "skip_layer_guidance_stop": 1.0, "skip_layer_guidance_start": 0.0}
    with regulate(pipe, config=AttentionBalance(window=(0.0, 1.0))) as trace:
        pipe(PROMPT, generator=torch.Generator().manual_seed(0), **options)
    assert trace.steps == trace.regulated_steps == 3
