"""The default: which of its two methods acts on which image, that it acts as it does alone, and why it is told."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import (
    DDPMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPAGPipeline,
    StableDiffusionUpscalePipeline,
)

import tiny
from attnreg import AttnregError, configure, regulate
from attnreg.attention.installation import Installation
from attnreg.regulation.auto import Auto
from attnreg.regulation.balance import AttentionBalance
from attnreg.regulation.best_start import BestStart
from attnreg.regulation.kinds import Composed
from test_latents import PICTURE
from test_regulate import PROMPT, draw, everything_in

# diffusers' own, on numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array(__ implementation|_wrap__ must):DeprecationWarning")
BOTH = ["a cat and a dog", "a dog and a cat"]


@pytest.fixture(scope="module")
def sd1() -> Any:
    return tiny.stable_diffusion()


def told(trace: Any) -> list[tuple[int, str]]:
    return [(one.image, one.method) for one in trace.decisions]


@pytest.mark.parametrize("kept", [True, False])
def test_where_the_run_begins_with_noise_it_is_the_best_start(
    sd1: Any, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit, and nothing else acts on an image whose start was followed, whichever was taken."""
    best = BestStart(enough=0.0) if kept else BestStart(starts=6, enough=1e9, good=1e9)
    monkeypatch.setattr(Auto, "start", best)
    plain, objects = draw(sd1, BOTH), everything_in(sd1)
    with regulate(sd1, config=best) as alone:
        expected = draw(sd1, BOTH)
    with regulate(sd1) as trace:
        assert torch.equal(draw(sd1, BOTH), expected)
    assert objects == everything_in(sd1)
    assert torch.equal(plain, expected) == kept
    assert trace.starts == alone.starts
    assert (trace.records, trace.regulated_steps) == ([], 1)
    assert told(trace) == [(0, "best-start"), (1, "best-start")]
    assert str(trace.decisions[0]) == (
        "best-start, since the run begins with noise alone, and what it leads to can be foreseen"
    )


def image_to_image() -> tuple[Any, dict[str, Any]]:
    pipe = tiny.quiet(StableDiffusionImg2ImgPipeline(**tiny.parts(), requires_safety_checker=False))
    return pipe, {"image": PICTURE, "strength": 0.5, "height": None, "width": None}


def continuous_times() -> tuple[Any, dict[str, Any]]:
    pipe = tiny.stable_diffusion()
    pipe.scheduler = EulerDiscreteScheduler(
        timestep_type="continuous", prediction_type="v_prediction", use_karras_sigmas=True
    )
    return pipe, {}


def perturbed_attention() -> tuple[Any, dict[str, Any]]:
    pipe = StableDiffusionPAGPipeline(**tiny.parts(), requires_safety_checker=False, pag_applied_layers="mid")
    return tiny.quiet(pipe), {"pag_scale": 3.0}


def upscaling() -> tuple[Any, dict[str, Any]]:
    parts = tiny.parts(in_channels=7, num_class_embeds=1000) | {"low_res_scheduler": DDPMScheduler()}
    parts["vae"].register_to_config(scaling_factor=0.08333)
    pipe = tiny.quiet(StableDiffusionUpscalePipeline(**parts))
    return pipe, {"image": PICTURE.resize((64, 64)), "height": None, "width": None}


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (image_to_image, "the run begins from a picture"),
        (continuous_times, "the noise schedule of EulerDiscreteScheduler with v_prediction is not known"),
        (perturbed_attention, "StableDiffusionPAGPipeline perturbs the attention of some rows"),
        (upscaling, "StableDiffusionUpscalePipeline does not tell its guidance_scale"),
    ],
)
def test_where_it_cannot_be_followed_attention_is_balanced(made: Any, reason: str) -> None:
    pipe, options = made()
    options = {name: value for name, value in ({"height": 64, "width": 96} | options).items() if value is not None}

    def drawn() -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return pipe(PROMPT, generator=generator, num_inference_steps=4, output_type="latent", **options).images

    plain = drawn()
    with regulate(pipe, config=AttentionBalance()) as alone:
        expected = drawn()
    with regulate(pipe) as trace:
        assert torch.equal(drawn(), expected)
    assert not torch.equal(plain, expected)
    assert trace.records == alone.records
    assert trace.starts == []
    assert told(trace) == [(0, "attention-balance")]
    assert trace.decisions[0].reason.startswith(reason)


def test_each_image_of_a_batch_for_itself(sd1: Any) -> None:
    """A target that is no whole word is that image's own affair: in company as alone."""
    prompts, targets = ["a teapot and a cat", PROMPT, "a dog"], [[(2,), "cat"], None, None]
    pieces = sd1.tokenizer.tokenize(prompts[0])
    assert len(pieces) > len(prompts[0].split()), "the tiny vocabulary cuts teapot into pieces"
    with regulate(sd1, targets) as trace:
        together = draw(sd1, prompts)
    assert told(trace) == [(0, "attention-balance"), (1, "best-start"), (2, "best-start")]
    assert "is no whole word of the prompt" in trace.decisions[0].reason
    assert {record.image for record in trace.records} == {0}
    for image, (prompt, wanted) in enumerate(zip(prompts, targets, strict=True)):
        with regulate(sd1, wanted) as alone:
            drawn = draw(sd1, prompt, seed=image)
        torch.testing.assert_close(together[image], drawn[0], rtol=1e-3, atol=1e-3)
        assert told(alone) == [(0, trace.decisions[image].method)]


def test_placeholders_of_textual_inversion() -> None:
    pipe = tiny.stable_diffusion()
    pipe.load_textual_inversion({"<toy>": torch.randn(3, tiny.CONTEXT)}, token="<toy>")
    with regulate(pipe, [(2, 3, 4), 7], AttentionBalance()):
        expected = draw(pipe, "a <toy> and a cat")
    with regulate(pipe, [(2, 3, 4), 7]) as trace:
        assert torch.equal(draw(pipe, "a <toy> and a cat"), expected)
    assert "placeholders of textual inversion" in str(trace.decisions[0])


def test_a_named_method_leaves_nothing_to_decide(sd1: Any) -> None:
    for edit in (BestStart(enough=0.0), AttentionBalance()):
        with regulate(sd1, config=edit) as trace:
            draw(sd1)
        assert trace.decisions == []


def test_the_account_is_of_the_last_picture(sd1: Any) -> None:
    with regulate(sd1) as trace:
        draw(sd1, BOTH)
        draw(sd1)
    assert told(trace) == [(0, "best-start")]


@pytest.mark.parametrize("name", ["auto+prompt-weighting", "attention-balance+auto", "auto+auto"])
def test_it_composes_with_nothing(name: str) -> None:
    with pytest.raises(AttnregError, match=r"auto alone.*best-start\+attention-balance"):
        configure(name)


def test_it_has_no_settings_and_is_no_list_of_targets(sd1: Any) -> None:
    assert configure("auto") == Auto()
    with pytest.raises(AttnregError, match="settings of auto"):
        configure("auto", {"gain": 2.0})
    with pytest.raises(AttnregError, match="Auto as the targets"):
        Installation(sd1, None, Auto())
    with pytest.raises(AttnregError, match="auto alone"), regulate(sd1, config=Composed((Auto(),))):
        pass
