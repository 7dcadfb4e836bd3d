"""Starts that are followed beside a pipeline and exchanged in it: against the pipeline's own steps and pictures."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPAGPipeline,
    StableDiffusionUpscalePipeline,
    UniPCMultistepScheduler,
)
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig
from torch import Tensor

import tiny
from add_ons import ip_adapter
from attnreg import AttnregError, configure, regulate
from attnreg.account import account
from attnreg.attention.lookahead.noise_schedule import share_of_signal
from attnreg.regulation.best_start import BestStart
from attnreg.regulation.edit import PromptWords
from attnreg.regulation.kinds import Chosen, Composed, Follow, Guess
from attnreg.regulation.noises import noises_like
from attnreg.sampling import generate
from test_latents import PICTURE, SCHEDULERS, probabilities_of
from test_regulate import FAMILIES, PROMPT, draw, everything_in

# diffusers' own, on numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array(__ implementation|_wrap__ must):DeprecationWarning")
START = torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(7))


@dataclass(frozen=True)
class Other:
    """Always another start, after having followed it."""

    start: Tensor | None = None
    at: tuple[int, ...] = (0,)
    strength: float = 1.0
    window: tuple[float, float] = (0.0, 1e-9)
    layers: tuple[str, ...] = ("auto",)
    noise: float = 0.55
    read_with: tuple[str, ...] = ()
    seen: list[Guess] = field(default_factory=list)

    def stops(self, total: int) -> tuple[int, ...]:
        return self.at

    def texts(self, words: PromptWords) -> tuple[str, ...]:
        return self.read_with

    def choose(self, latent: Tensor, follow: Follow, words: PromptWords) -> Chosen:
        start = latent if self.start is None else self.start.to(latent)
        guess = follow(start)
        assert guess.errors
        self.seen.append(guess)
        return Chosen(start, (1.0, 2.0), 1)


def given_to(pipe: Any, call: Callable[[], Any]) -> list[Tensor]:
    """The sample of every call of the denoiser, as its first convolution is given it."""
    kept: list[Tensor] = []
    handle = pipe.unet.conv_in.register_forward_pre_hook(lambda _, args: kept.append(args[0].clone()))
    try:
        call()
    finally:
        handle.remove()
    return kept


@pytest.fixture(scope="module")
def sd1() -> Any:
    return tiny.stable_diffusion()


@pytest.mark.parametrize("guidance_scale", [1.0, 7.5])
@pytest.mark.parametrize("kind", [DDIMScheduler, EulerDiscreteScheduler])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_another_start_is_followed_as_a_pipeline_with_few_steps_would(
    prediction_type: str, kind: Any, guidance_scale: float
) -> None:
    """The sample at every stop is the one of a run of 4 steps of DDIM or Euler, which both take them without noise."""
    pipe = tiny.stable_diffusion()
    settings = {"prediction_type": prediction_type, "timestep_spacing": "trailing", "clip_sample": False}
    pipe.scheduler = kind.from_config(pipe.scheduler.config, **settings)
    few = given_to(
        pipe, lambda: draw(pipe, num_inference_steps=4, guidance_scale=guidance_scale, latents=START.clone())
    )
    edit = Other(START[0] * pipe.scheduler.init_noise_sigma, at=(0, 2, 4))
    with regulate(pipe, config=edit):
        many = given_to(pipe, lambda: draw(pipe, num_inference_steps=8, guidance_scale=guidance_scale))
    rows = len(few[0])
    given_one, other, pipelines = [rows] * 5, [*[rows] * 3, 1], [rows] * 7
    assert [len(sample) for sample in many] == given_one + other + pipelines, "its own first step was foreseen"
    for expected, followed in zip(few[:3], many[5:8], strict=True):
        torch.testing.assert_close(followed[-1], expected[-1], rtol=1e-4, atol=1e-4)


NOISELESS = [kind for kind in (*SCHEDULERS, UniPCMultistepScheduler) if kind is not EulerAncestralDiscreteScheduler]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", NOISELESS)
def test_a_start_that_is_kept_costs_its_reading_alone(kind: Any, dtype: torch.dtype) -> None:
    """The steps that were taken ahead are the pipeline's own to the bit: the denoiser does not run again for them."""
    pipe = tiny.stable_diffusion().to(dtype=dtype)
    pipe.scheduler = kind.from_config(pipe.scheduler.config)
    kept: list[Tensor] = []
    calls = given_to(pipe, lambda: kept.append(draw(pipe, num_inference_steps=6)))
    edit = BestStart(enough=0.0)
    with regulate(pipe, config=edit) as trace:
        with_reading = given_to(pipe, lambda: kept.append(draw(pipe, num_inference_steps=6)))
    assert trace.starts[0].spared
    assert torch.equal(*kept)
    ahead = edit.stops(len(calls))[-1] + 1
    read = with_reading.pop(ahead)
    assert len(read) == 3, "the prompt and the two others"
    assert all(map(torch.equal, with_reading, calls)), "and each step's sample once, in its turn"
    assert len(with_reading) == len(calls)


def test_together_with_others_too(sd1: Any) -> None:
    """Three images are followed in one batch, as they are drawn, and read one by one."""
    prompts = [PROMPT, "a dog", "a dog and a cat"]
    kept: list[Tensor] = []
    plain = given_to(sd1, lambda: kept.append(draw(sd1, prompts)))
    with regulate(sd1, [["cat"], None, ["dog"]], BestStart(enough=0.0)) as trace:
        calls = given_to(sd1, lambda: kept.append(draw(sd1, prompts)))
    assert [one.image for one in trace.starts] == [0, 1, 2]
    assert torch.equal(*kept)
    assert [len(sample) for sample in calls] == [6] * 3 + [2] * 3 + [6]
    assert torch.equal(calls[-1], plain[-1])


def test_a_start_that_was_followed_step_by_step_goes_on_from_there(sd1: Any) -> None:
    """Where the edit leaves out no step, neither does the pipeline compute one again: to the bit, from that start."""
    edit = Other(START[0] * sd1.scheduler.init_noise_sigma, at=(0, 1, 2))
    plain = draw(sd1, latents=START.clone())
    with regulate(sd1, config=edit):
        calls = given_to(sd1, lambda: draw(sd1))
        assert torch.equal(draw(sd1), plain)
    assert [len(sample) for sample in calls] == [*[2, 2, 2], *[2, 2, 2, 1], 2], "the given one is not read unasked"


@dataclass(frozen=True)
class OnAndOn(Other):
    """Follows two starts by turns, a stop at a time, and takes the first of them."""

    def choose(self, latent: Tensor, follow: Follow, words: PromptWords) -> Chosen:
        assert self.start is not None
        start, other = self.start.to(latent), latent.flip(-1)
        for stops in (1, 1, 2, None, None):
            self.seen.append(follow(start, stops))
            follow(other, stops)
        return Chosen(start, (1.0, 2.0), 1)


def test_starts_are_followed_on_from_where_they_are(sd1: Any) -> None:
    """What is seen at each stop is what is seen of a start that is followed there at once; no step is taken twice."""
    start = START[0] * sd1.scheduler.init_noise_sigma
    by_turns = OnAndOn(start, at=(0, 1, 2))
    plain = draw(sd1, latents=START.clone())
    with regulate(sd1, config=by_turns):
        calls = given_to(sd1, lambda: draw(sd1))
        assert torch.equal(draw(sd1), plain)
    assert [len(sample) for sample in calls] == [2] * (3 + 2 * 3 + 1), (
        "nothing is read, and the start's steps are known"
    )
    for stops, guess in zip((1, 1, 2, 3, 3), by_turns.seen[:5], strict=True):
        at_once = Other(start, at=(0, 1, 2)[:stops])
        with regulate(sd1, config=at_once):
            draw(sd1)
        for one, other in zip(guess.maps, at_once.seen[0].maps, strict=True):
            assert torch.equal(one.cross, other.cross)


def test_noise_that_the_scheduler_draws_is_not_foreseen() -> None:
    """Nor drawn from anyone's generator: the steps are followed without, and are then taken as ever."""
    pipe = tiny.stable_diffusion()
    pipe.scheduler = EulerAncestralDiscreteScheduler.from_config(pipe.scheduler.config)

    def drawn() -> Tensor:
        torch.manual_seed(3)
        return pipe(PROMPT, height=64, width=96, num_inference_steps=6, output_type="latent").images

    kept: list[Tensor] = []
    calls = given_to(pipe, lambda: kept.append(drawn()))
    with regulate(pipe, config=BestStart(enough=0.0, passes=2)):
        more = given_to(pipe, lambda: kept.append(drawn()))
    assert torch.equal(*kept)
    assert [len(sample) for sample in more] == [2, *[2] * 2, 3, *[2] * 5], "one step that drew, two large ones, six"
    assert all(map(torch.equal, more[4:], calls[1:]))


def test_a_latent_that_changes_on_the_way_is_denoised_as_it_is(sd1: Any) -> None:
    def pushed(_: Any, step: int, _time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        return {"latents": tensors["latents"] + 0.1} if step == 0 else tensors

    options = {"num_inference_steps": 6, "callback_on_step_end": pushed}
    plain = draw(sd1, **options)
    with regulate(sd1, config=BestStart(enough=0.0)):
        calls = given_to(sd1, lambda: draw(sd1, **options))
        assert torch.equal(draw(sd1, **options), plain)
    assert len(calls) == 4 + 1 + 5, "only the first step could be foreseen"


def test_what_was_foreseen_is_forgotten_when_a_picture_is_broken_off(sd1: Any) -> None:
    """The next one begins with a prediction of its own, though it is asked the very same."""

    def stop(*_: Any) -> dict[str, Any]:
        raise KeyboardInterrupt

    plain = draw(sd1)
    with regulate(sd1, config=BestStart(enough=0.0)):
        with pytest.raises(KeyboardInterrupt):
            draw(sd1, callback_on_step_end=stop)
        calls = given_to(sd1, lambda: draw(sd1))
        assert torch.equal(draw(sd1), plain)
    assert len(calls) == 5


def turn_adapter_down(pipe: Any) -> None:
    pipe.set_ip_adapter_scale(0.0)


def turn_lora_off(pipe: Any) -> None:
    pipe.unet.disable_adapters()


def enable_freeu(pipe: Any) -> None:
    pipe.enable_freeu(s1=0.9, s2=0.2, b1=1.5, b2=1.6)


def write_to_a_weight(pipe: Any) -> None:
    with torch.no_grad():
        pipe.unet.conv_out.bias += 0.1


def add_a_hook(pipe: Any) -> None:
    pipe.unet.mid_block.register_forward_hook(lambda _module, _given, output: output + 0.1)


@pytest.mark.parametrize(
    "change", [turn_adapter_down, turn_lora_off, enable_freeu, write_to_a_weight, add_a_hook], ids=lambda c: c.__name__
)
def test_a_model_that_changes_on_the_way_is_asked_again(change: Any) -> None:
    """A callback may do that, as diffusers' own for IP-Adapters does: what was foreseen was another model's."""
    kept: list[Tensor] = []
    pictures = [torch.randn(2, 1, tiny.CONTEXT, generator=torch.Generator().manual_seed(5))]

    def go(changed: bool, regulated: bool) -> None:
        pipe = tiny.stable_diffusion()
        if change is turn_adapter_down:
            ip_adapter(pipe, {})
        options: dict[str, Any] = {"ip_adapter_image_embeds": pictures} if change is turn_adapter_down else {}
        if change is turn_lora_off:
            torch.manual_seed(2)
            pipe.unet.add_adapter(LoraConfig(r=4, init_lora_weights=False, target_modules=["to_q", "to_v"]))

        def at_the_end(_: Any, step: int, _time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            if changed and step == 1:
                change(pipe)
            return tensors

        with regulate(pipe, config=BestStart(enough=0.0)) if regulated else nullcontext():
            kept.append(draw(pipe, num_inference_steps=6, callback_on_step_end=at_the_end, **options))

    for changed, regulated in ((True, False), (True, True), (False, True)):
        go(changed, regulated)
    plain, with_best_start, unchanged = kept
    assert torch.equal(plain, with_best_start)
    assert not torch.allclose(plain, unchanged), "else this test says nothing"


def test_an_argument_that_is_written_to_is_another(sd1: Any) -> None:
    def fade(_: Any, step: int, _time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if step == 0:
            tensors["prompt_embeds"].mul_(0.5)
        return tensors

    inputs = {"callback_on_step_end": fade, "callback_on_step_end_tensor_inputs": ["prompt_embeds"]}
    plain = draw(sd1, num_inference_steps=6, **inputs)
    with regulate(sd1, config=BestStart(enough=0.0)):
        assert torch.equal(draw(sd1, num_inference_steps=6, **inputs), plain)


def test_a_gradient_goes_through_every_step(sd1: Any) -> None:
    """The pipeline's call without its `no_grad`, as guidance by a reward is learnt."""

    def gradient() -> Tensor:
        latents = START.clone().requires_grad_()
        options = {"height": 64, "width": 96, "num_inference_steps": 4, "output_type": "latent"}
        type(sd1).__call__.__wrapped__(sd1, PROMPT, latents=latents, **options).images.sum().backward()
        assert latents.grad is not None
        return latents.grad

    plain = gradient()
    with regulate(sd1, config=BestStart(enough=0.0)):
        assert torch.equal(gradient(), plain)


def test_rescaled_guidance_is_foreseen_too(sd1: Any) -> None:
    kept: list[Tensor] = []
    options = {"num_inference_steps": 6, "guidance_rescale": 0.7}
    plain = given_to(sd1, lambda: kept.append(draw(sd1, **options)))
    with regulate(sd1, config=BestStart(enough=0.0)):
        calls = given_to(sd1, lambda: kept.append(draw(sd1, **options)))
    assert torch.equal(*kept)
    assert len(calls) == len(plain) + 1, "the reading"


@pytest.mark.parametrize("guess_mode", [False, True])
def test_under_a_controlnet(guess_mode: bool) -> None:
    """What it adds is made anew for a start that is exchanged, and for every start that is followed."""
    pipe = tiny.quiet(
        StableDiffusionControlNetPipeline(
            **tiny.parts() | {"controlnet": tiny.controlnet()}, requires_safety_checker=False
        )
    )
    options = {"image": PICTURE, "guess_mode": guess_mode}
    plain, expected = draw(pipe, **options), draw(pipe, latents=START.clone(), **options)
    objects = everything_in(pipe)
    edit = Other(START[0] * pipe.scheduler.init_noise_sigma, read_with=("a dog and a dog",))
    with regulate(pipe, config=edit):
        torch.testing.assert_close(draw(pipe, **options), expected, rtol=1e-4, atol=1e-4)
        draw(pipe, latents=torch.ones_like(START), **options)
    assert objects == everything_in(pipe)
    first, second = edit.seen
    assert first.errors == pytest.approx(second.errors, rel=1e-4), "whatever the given start"
    for one, other in zip(first.maps, second.maps, strict=True):
        torch.testing.assert_close(one.cross, other.cross, rtol=1e-3, atol=1e-5)
    with regulate(pipe, config=BestStart(enough=0.0)):
        assert torch.equal(draw(pipe, **options), plain)


@pytest.mark.parametrize("guidance_scale", [1.0, 7.5])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_the_picture_is_read_by_restoring_it_from_noise(prediction_type: str, guidance_scale: float) -> None:
    """Against the scheduler's own noise, and its own prediction of the picture, one text after the other."""
    pipe = tiny.stable_diffusion()
    settings = {"prediction_type": prediction_type, "timestep_spacing": "trailing", "clip_sample": False}
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, **settings)
    texts = [f"{noun} {number}" for noun in ("a dog", "a red car", "") for number in range(4)]
    edit = Other(at=(0,), read_with=tuple(texts))
    with regulate(pipe, config=edit):
        drawn = given_to(pipe, lambda: draw(pipe, latents=START.clone(), guidance_scale=guidance_scale))
    (guess,) = edit.seen
    assert [len(sample) for sample in drawn[1:3]] == [8, 5], "thirteen texts in two passes"
    scheduler = pipe.scheduler
    first = scheduler.timesteps[0]

    def predicted(sample: Tensor, time: Any, text: str) -> Tensor:
        hidden = pipe.encode_prompt(text, "cpu", 1, False)[0]
        return pipe.unet(sample, time, encoder_hidden_states=hidden).sample

    with torch.no_grad():
        other, prompted = predicted(START, first, ""), predicted(START, first, PROMPT)
        guided = other + guidance_scale * (prompted - other) if guidance_scale > 1 else prompted
        picture = scheduler.step(guided, first, START).pred_original_sample
        noise = torch.randn(START.shape, generator=torch.Generator().manual_seed(0))
        noisy = scheduler.add_noise(picture, noise, torch.tensor([550]))
        for text, error in zip([PROMPT, *texts], guess.errors, strict=True):
            found = scheduler.step(predicted(noisy, 550, text), 550, noisy).pred_original_sample
            assert error == pytest.approx(float((found - picture).square().sum()), rel=2e-3)


def test_what_is_seen_is_the_models_own_attention_by_layer(sd1: Any) -> None:
    """All layers, of three sizes, against what diffusers computes slowly."""
    edit = Other(layers=("all",))
    with regulate(sd1, config=edit):
        draw(sd1, latents=START.clone())
    hidden = sd1.encode_prompt(PROMPT, "cpu", 1, False)[0].detach()
    names = [name for name, _ in sd1.unet.named_modules() if name.endswith("attn2")]
    found = probabilities_of(sd1, names, START, sd1.scheduler.timesteps[0], hidden)
    (seen,) = edit.seen
    assert len(seen.maps) == len(names)
    assert len({maps.grid for maps in seen.maps}) > 2
    by_size = sorted(seen.maps, key=lambda maps: (-maps.grid.pixels, float(maps.cross[0, 1])))
    expected = sorted((one.mean(0) for one in found.values()), key=lambda one: (-len(one), float(one[0, 1])))
    for maps, one in zip(by_size, expected, strict=True):
        torch.testing.assert_close(maps.cross, one, rtol=1e-4, atol=1e-6)
        assert not maps.cross.requires_grad


@pytest.mark.parametrize("kind", [*SCHEDULERS, UniPCMultistepScheduler])
def test_the_picture_is_the_unmodified_models_from_that_start(sd1: Any, kind: Any) -> None:
    """Under every kind of solver, to the bit: `pipe(latents=...)` is the oracle."""
    config, sd1.scheduler = sd1.scheduler, kind.from_config(sd1.scheduler.config)
    try:
        scale = sd1.scheduler.init_noise_sigma
        objects = everything_in(sd1)
        expected = draw(sd1, latents=START.clone())
        with regulate(sd1, config=Other(START[0] * scale)) as trace:
            chosen = draw(sd1, latents=torch.zeros_like(START))  # noise of a sampler's own is drawn alike then
        assert objects == everything_in(sd1)
        assert trace.regulated_steps == 1
        assert [(one.image, one.scores, one.chosen) for one in trace.starts] == [(0, (1.0, 2.0), 1)]
    finally:
        sd1.scheduler = config
    torch.testing.assert_close(chosen, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family(family: str) -> None:
    pipe = FAMILIES[family]()
    plain = draw(pipe)
    edit = BestStart(starts=6, group=2, enough=1e9, good=1e9)
    with regulate(pipe, config=edit) as trace:
        drawn = draw(pipe)
        assert torch.equal(drawn, draw(pipe))
    (record,) = trace.starts
    assert len(record.scores) == 6
    assert record.scores[record.chosen] == max(record.scores)
    assert torch.equal(drawn, plain) == (record.chosen == 0)
    with regulate(pipe, config=BestStart(enough=0.0)) as trace:
        assert torch.equal(draw(pipe), plain), "the given start is good enough"
    assert trace.starts[0].chosen == 0
    assert torch.equal(draw(pipe), plain)


def test_each_image_has_its_own(sd1: Any) -> None:
    """Two prompts, two images each, one of them without targets: what an image gets, it gets alone."""
    prompts, config = ["a dog", PROMPT], BestStart(starts=3, enough=1e9, good=1e9)
    with regulate(sd1, [["dog"], None], config) as trace:
        together = draw(sd1, prompts, num_images_per_prompt=2)
    assert [one.image for one in trace.starts] == [0, 1, 2, 3]
    for image in range(4):
        with regulate(sd1, ["dog"] if image < 2 else None, config) as alone:
            drawn = draw(sd1, prompts[image // 2], seed=image)
        torch.testing.assert_close(together[image], drawn[0], rtol=1e-3, atol=1e-3)
        assert alone.starts[0].chosen == trace.starts[image].chosen


def test_inference_mode_and_half_precision(sd1: Any) -> None:
    config = BestStart(starts=3, enough=1e9, good=1e9)
    with regulate(sd1, config=config), torch.inference_mode():
        inside = draw(sd1)
    with regulate(sd1, config=config):
        torch.testing.assert_close(inside, draw(sd1))
    half = tiny.stable_diffusion().to(dtype=torch.bfloat16)
    with regulate(half, config=config) as trace:
        drawn = draw(half)
    assert drawn.dtype == torch.bfloat16
    assert drawn.isfinite().all()
    assert len(trace.starts[0].scores) == 3


@pytest.mark.parametrize("other", ["attention-balance", "attend-and-excite"])
def test_beside_another_method(sd1: Any, other: str) -> None:
    """The start is chosen by the model's own attention; what follows is the other method's, from that start."""
    search = BestStart(starts=12, enough=1e9, good=1e9)
    edit = configure(other)
    with regulate(sd1, config=search) as alone:
        draw(sd1)
    with regulate(sd1, config=Composed((search, edit))) as trace:
        drawn = draw(sd1)
    assert trace.starts == alone.starts
    (record,) = trace.starts
    assert record.chosen > 0, "else this test says nothing"
    given_one = torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(0))
    chosen = list(noises_like(given_one[0], 12, search.strength))[record.chosen]
    with regulate(sd1, config=edit):
        torch.testing.assert_close(drawn, draw(sd1, latents=chosen[None]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "other", ["attention-balance", "attend-and-excite", "prompt-weighting", "structured-diffusion", "dense-diffusion"]
)
def test_whom_the_start_spares_the_other_method_spares(sd1: Any, other: str) -> None:
    """Of two images, the one whose start is good enough is the unmodified model's to the bit; the other is edited."""
    prompts = ["a cat and a dog", "a dog and a cat"]
    plain = draw(sd1, prompts)
    with regulate(sd1, config=BestStart(starts=1)) as trace:
        draw(sd1, prompts)
    first, second = (one.scores[0] for one in trace.starts)
    between, good = (first + second) / 2, int(second > first)
    edit = configure(other)
    for spare in (True, False):
        search = BestStart(starts=1, enough=between, spare=spare)
        with regulate(sd1, config=Composed((search, edit))) as trace:
            both = draw(sd1, prompts)
        assert [one.spared for one in trace.starts] == [spare and image == good for image in range(2)]
        assert torch.equal(both[good], plain[good]) == spare
        assert not torch.equal(both[1 - good], plain[1 - good])
    assert trace.regulated_steps > 1
    with regulate(sd1, config=Composed((BestStart(enough=0.0), edit))) as trace:
        assert torch.equal(draw(sd1, prompts), plain)
    assert (trace.regulated_steps, trace.records, trace.updates) == (1, [], []), "nothing is left to do"


def test_the_prediction_of_a_spared_image_is_its_own(sd1: Any) -> None:
    edit = Composed((BestStart(starts=1, enough=0.0), configure("composable-diffusion")))
    plain = draw(sd1)
    with regulate(sd1, config=edit):
        assert torch.equal(draw(sd1), plain)
    with regulate(sd1, config=Composed((BestStart(starts=1, enough=1e9, good=1e9), edit.parts[1]))):
        assert not torch.equal(draw(sd1), plain)


def test_inpainting_with_further_channels() -> None:
    pipe = tiny.quiet(StableDiffusionInpaintPipeline(**tiny.parts(in_channels=9), requires_safety_checker=False))
    options = {"image": PICTURE, "mask_image": PICTURE.convert("L"), "strength": 1.0}
    with regulate(pipe, config=BestStart(starts=3, enough=1e9, good=1e9)) as trace:
        drawn = draw(pipe, **options)
    assert drawn.isfinite().all()
    assert len(trace.starts[0].scores) == 3


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_a_run_that_begins_from_a_picture_is_refused(strength: float) -> None:
    """At full strength too: the picture is still below the noise of the first step."""
    pipe = tiny.quiet(StableDiffusionImg2ImgPipeline(**tiny.parts(), requires_safety_checker=False))
    objects = everything_in(pipe)
    with (
        pytest.raises(AttnregError, match=r"from a picture.*method that edits attention"),
        regulate(pipe, config=BestStart()),
    ):
        pipe(PROMPT, image=PICTURE, strength=strength, num_inference_steps=4, output_type="latent")
    assert objects == everything_in(pipe)


def test_perturbed_attention_is_refused() -> None:
    pipe = StableDiffusionPAGPipeline(**tiny.parts(), requires_safety_checker=False, pag_applied_layers="mid")
    with pytest.raises(AttnregError, match=r"perturbed.*pag_scale"), regulate(tiny.quiet(pipe), config=BestStart()):
        draw(pipe, pag_scale=3.0)


@pytest.mark.parametrize(
    "scheduler",
    [
        DPMSolverMultistepScheduler(prediction_type="flow_prediction"),  # without the noise levels of flow matching
        EulerDiscreteScheduler(timestep_type="continuous", prediction_type="v_prediction", use_karras_sigmas=True),
    ],
    ids=lambda one: type(one).__name__,
)
def test_another_noise_schedule_is_refused(sd1: Any, scheduler: Any) -> None:
    config, sd1.scheduler = sd1.scheduler, scheduler
    try:
        with (
            pytest.raises(AttnregError, match=rf"noise schedule.*{type(scheduler).__name__}"),
            regulate(sd1, config=BestStart()),
        ):
            draw(sd1)
    finally:
        sd1.scheduler = config


def test_a_pipeline_that_does_not_tell_its_guidance_is_refused() -> None:
    parts = tiny.parts(in_channels=7, num_class_embeds=1000) | {"low_res_scheduler": DDPMScheduler()}
    parts["vae"].register_to_config(scaling_factor=0.08333)
    pipe = StableDiffusionUpscalePipeline(**parts)
    with pytest.raises(AttnregError, match=r"guidance_scale.*Upscale"), regulate(tiny.quiet(pipe), config=BestStart()):
        pipe(PROMPT, image=PICTURE.resize((64, 64)), num_inference_steps=4, output_type="latent")


def test_a_prompt_that_is_anothers_negative_prompt(sd1: Any) -> None:
    """Each image of the batch gets what it gets alone, under methods of every kind."""
    prompts = ["a cat and a dog", "a dog and a cat"]
    search = BestStart(starts=4, enough=1e9, good=1e9)
    for edit in (search, configure("attention-balance"), configure("composable-diffusion")):
        with regulate(sd1, config=edit):
            both = draw(sd1, prompts, negative_prompt=prompts[::-1])
            for image, drawn in enumerate(both):
                alone = draw(sd1, prompts[image], negative_prompt=prompts[1 - image], seed=image)
                torch.testing.assert_close(drawn, alone[0], rtol=1e-3, atol=1e-3)


def test_masks_of_ip_adapters_are_no_rows() -> None:
    """Two masks, in a batch of two rows."""
    pipe = tiny.stable_diffusion()
    ip_adapter(pipe, {}, count=2)
    pictures = [torch.randn(2, 1, tiny.CONTEXT, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]
    masks = torch.zeros(2, 1, 64, 96)
    masks[0, :, :, :48], masks[1, :, :, 48:] = 1, 1
    options = {"ip_adapter_image_embeds": pictures, "cross_attention_kwargs": {"ip_adapter_masks": masks}}
    plain = draw(pipe, **options)
    with regulate(pipe, config=BestStart(enough=0.0)):
        assert torch.equal(draw(pipe, **options), plain)


@given(st.floats(-10, 1010))
def test_share_of_signal_lies_between_its_neighbours(timestep: float) -> None:
    alphas = tiny.scheduler().alphas_cumprod
    found = share_of_signal(alphas, timestep)
    low = min(max(int(timestep // 1), 0), 999)
    assert float(alphas[min(low + 1, 999)]) - 1e-6 <= found <= float(alphas[low]) + 1e-6
    if timestep == int(timestep) and 0 <= timestep < 1000:
        assert found == pytest.approx(float(alphas[int(timestep)]), rel=1e-5)


def test_a_schedule_that_ends_in_pure_noise_has_a_share() -> None:
    assert 0 < share_of_signal(torch.tensor([0.9, 0.5, 0.0]), 2.0) < 1e-6


def test_the_account_tells_the_choice(sd1: Any) -> None:
    small = {"height": 64, "width": 96, "num_inference_steps": 2}
    chosen = generate(sd1, PROMPT, BestStart(starts=6, enough=1e9, good=1e9), **small)
    (record,) = chosen.trace.starts
    assert record.doubted in [target.text for target in chosen.trace.targets[0]]
    assert f'does not clearly read "{record.doubted}" in what this seed leads to' in account(chosen)
    assert (
        f"number {record.chosen + 1} of 6 tried, score {record.scores[0]:.2f} -> {max(record.scores):.2f}; "
        "3 given up after 2 passes)"  # of five others in groups of three, two are read; two steps have no third pass
    ) in account(chosen)
    assert [record.told(number) for number in record.given_up] == ["given up after 2 passes"] * 3
    assert "the model reads every target" in account(generate(sd1, PROMPT, BestStart(enough=0.0), **small))
    kept = generate(sd1, PROMPT, BestStart(starts=1, enough=1e9, good=1e9), **small)
    assert "its own noise is kept" in account(kept)
