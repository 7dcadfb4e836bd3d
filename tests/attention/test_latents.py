"""Latents that are moved before a step: seen with gradients, exchanged in denoiser and scheduler, alone an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2DiscreteScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionAttendAndExcitePipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPAGPipeline,
    UniPCMultistepScheduler,
)
from PIL import Image
from torch import Tensor

import tiny
from attnreg import AttnregError, apply_attention_regulation, regulate, remove_attention_regulation
from attnreg.methods.attend_and_excite import AttendAndExcite
from attnreg.regulation.edit import LatentUpdated, Maps, PromptWords
from test_regulate import PROMPT, draw, everything_in

# diffusers' own, on numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array(__ implementation|_wrap__ must):DeprecationWarning")
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8))
QUICK = AttendAndExcite(refinements=0, window=(0.0, 1.0))


@dataclass(frozen=True)
class Push:
    """Adds a constant to the latent in one step; looks at nothing unless asked to."""

    at: int = 1
    by: float = 0.1
    strength: float = 1.0
    window: tuple[float, float] = (0.0, 1.0)
    layers: tuple[str, ...] = ("auto",)
    needs_self: bool = False
    look: Callable[[Callable[[Tensor], Maps], Tensor, PromptWords], None] | None = None

    def update(
        self, latent: Tensor, see: Any, words: PromptWords, step: int, total: int, memory: dict[str, Any]
    ) -> LatentUpdated:
        if step != self.at:
            return LatentUpdated(latent)
        if self.look:
            self.look(see, latent, words)
        return LatentUpdated(latent + self.by, 2.0, 1.0, passes=3)


@pytest.fixture(scope="module")
def sd1() -> Any:
    return tiny.stable_diffusion()


def pushed_by_hand(at: int, by: float) -> Callable[..., Any]:
    """diffusers' own way to change the latents between two steps: what is to come out."""

    def callback(pipe: Any, step: int, timestep: Any, values: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"latents": values["latents"] + by} if step == at - 1 else values

    return callback


SCHEDULERS = [
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2DiscreteScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
]


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_the_step_is_taken_from_the_moved_latents(sd1: Any, kind: Any) -> None:
    """Against the callback, for every kind of solver; Heun's third call of the denoiser begins its second step."""
    # As Stable Diffusion has it; of the Runge-Kutta steps see below.
    options = {"skip_prk_steps": True} if kind is PNDMScheduler else {}
    config, sd1.scheduler = sd1.scheduler, kind.from_config(sd1.scheduler.config, **options)
    at = 2
    try:
        expected = draw(sd1, callback_on_step_end=pushed_by_hand(at, 0.1))
        with regulate(sd1, config=Push(at)) as trace:
            moved = draw(sd1)
        before = {name: vars(sd1.scheduler).get(name) for name in ("step", "scale_model_input")}
    finally:
        sd1.scheduler = config
    assert before == {"step": None, "scale_model_input": None}
    torch.testing.assert_close(moved, expected, rtol=1e-5, atol=1e-5)
    assert [(one.step, one.loss_before, one.loss_after, one.passes) for one in trace.updates if one.passes] == [
        (at, 2.0, 1.0, 3)
    ]


@pytest.mark.parametrize(
    ("make", "count", "steps"),
    [
        (lambda config: PNDMScheduler.from_config(config, skip_prk_steps=True), 3, [0, 2, 3]),
        (lambda config: PNDMScheduler.from_config(config, skip_prk_steps=False), 4, [0, 4, 8, 12]),
        (HeunDiscreteScheduler.from_config, 3, [0, 2, 4]),
        (DPMSolverSinglestepScheduler.from_config, 3, [0, 2]),
    ],
)
def test_a_step_that_only_corrects_moves_nothing(sd1: Any, make: Any, count: int, steps: list[int]) -> None:
    """PNDM's second call, Heun's every second start from the latents of the one before: an update would be lost."""
    config, sd1.scheduler = sd1.scheduler, make(sd1.scheduler.config)
    try:
        with regulate(sd1, config=Push()) as trace:
            draw(sd1, num_inference_steps=count)
    finally:
        sd1.scheduler = config
    assert [one.step for one in trace.updates] == steps


def pipelines_that_share(part: str) -> list[Any]:
    """Two with denoisers of their own, and one scheduler or one ControlNet."""
    shared = tiny.parts() | {"controlnet": tiny.controlnet()}
    kept = {part: shared[part]}
    return [
        tiny.quiet(StableDiffusionControlNetPipeline(**made | kept, requires_safety_checker=False))
        for made in (shared, tiny.parts() | {"controlnet": tiny.controlnet()})
    ]


@pytest.mark.parametrize("part", ["scheduler", "controlnet"])
@pytest.mark.parametrize("first_away", [0, 1])
def test_two_pipelines_may_share(part: str, first_away: int) -> None:
    """Each is drawn as it is alone, however often they take turns; whoever goes first, nothing stays behind."""
    pipes = pipelines_that_share(part)
    expected, before = [], [everything_in(pipe) for pipe in pipes]
    for pipe in pipes:
        with regulate(pipe, config=Push()):
            expected.append(draw(pipe, image=PICTURE))
    for pipe in pipes:
        apply_attention_regulation(pipe, Push())
    for _ in range(3):
        for pipe, one in zip(pipes, expected, strict=True):
            assert torch.equal(draw(pipe, image=PICTURE), one)
    step, depth = pipes[0].scheduler.step, 0
    while step := getattr(step, "__wrapped__", None):
        depth += 1
    assert depth == (2 if part == "scheduler" else 1)
    remove_attention_regulation(pipes[first_away])
    assert torch.equal(draw(pipes[1 - first_away], image=PICTURE), expected[1 - first_away])
    remove_attention_regulation(pipes[1 - first_away])
    assert before == [everything_in(pipe) for pipe in pipes]


def test_a_scheduler_that_keeps_its_own_latents_is_refused(sd1: Any) -> None:
    config, sd1.scheduler = sd1.scheduler, UniPCMultistepScheduler.from_config(sd1.scheduler.config)
    try:
        with pytest.raises(AttnregError, match=r"UniPCMultistepScheduler.*DDIM"), regulate(sd1, config=Push()):
            draw(sd1)
    finally:
        sd1.scheduler = config


def test_another_scheduler_inside_the_block_is_followed(sd1: Any) -> None:
    config = sd1.scheduler
    try:
        with regulate(sd1, config=Push()) as trace:
            draw(sd1)
            sd1.scheduler = other = EulerDiscreteScheduler.from_config(config.config)
            moved = draw(sd1)
            assert "step" not in vars(config)
        assert len(trace.updates) == 4
        assert "step" not in vars(other)
        torch.testing.assert_close(moved, draw(sd1, callback_on_step_end=pushed_by_hand(1, 0.1)))
    finally:
        sd1.scheduler = config


def control_net() -> tuple[Any, dict[str, Any]]:
    parts = tiny.parts() | {"controlnet": tiny.controlnet()}
    pipe = StableDiffusionControlNetPipeline(**parts, requires_safety_checker=False)
    return pipe, {"image": PICTURE, "guess_mode": True}


def image_to_image() -> tuple[Any, dict[str, Any]]:
    pipe = StableDiffusionImg2ImgPipeline(**tiny.parts(), requires_safety_checker=False)
    return pipe, {"image": PICTURE, "strength": 0.5, "num_inference_steps": 8, "height": None, "width": None}


def inpaint() -> tuple[Any, dict[str, Any]]:
    pipe = StableDiffusionInpaintPipeline(**tiny.parts(in_channels=9), requires_safety_checker=False)
    return pipe, {"image": PICTURE, "mask_image": PICTURE.convert("L")}


def xl() -> tuple[Any, dict[str, Any]]:
    pipe = tiny.stable_diffusion_xl()
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    return pipe, {}


@pytest.mark.parametrize("guidance_scale", [1.0, 7.5])
@pytest.mark.parametrize("make", [control_net, image_to_image, inpaint, xl])
def test_pipelines_around_a_unet(make: Any, guidance_scale: float) -> None:
    """The same with further inputs of the denoiser; a look at the maps comes back with a gradient in each."""
    pipe, options = make()
    tiny.quiet(pipe)
    options = {"num_inference_steps": 4, "output_type": "latent", "height": 64, "width": 96} | options
    options = {name: value for name, value in options.items() if value is not None}
    seen: list[Tensor] = []

    def look(see: Any, latent: Tensor, words: PromptWords) -> None:
        z = latent.clone().requires_grad_(True)
        maps = see(z)
        seen.append(torch.autograd.grad(maps.cross[:, 2].square().sum(), z)[0])

    def go(**more: Any) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return pipe(PROMPT, generator=generator, guidance_scale=guidance_scale, **options, **more).images

    objects = everything_in(pipe)
    expected = go(callback_on_step_end=pushed_by_hand(2, 0.1))
    with regulate(pipe, config=Push(2, look=look)):
        moved = go()
    torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-4)
    assert objects == everything_in(pipe)
    assert seen[0].abs().max() > 0
    assert seen[0].shape == moved[0].shape


def test_perturbed_attention_is_refused() -> None:
    pipe = StableDiffusionPAGPipeline(**tiny.parts(), requires_safety_checker=False, pag_applied_layers="mid")
    with pytest.raises(AttnregError, match=r"perturbed.*pag_scale"), regulate(tiny.quiet(pipe), config=Push(0)):
        draw(pipe, pag_scale=3.0)


def test_the_first_step_counts(sd1: Any) -> None:
    """A push before the first step is another start."""
    start = torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(1))
    with regulate(sd1, config=Push(0, 0.25)):
        moved = draw(sd1, latents=start.clone())
    assert torch.equal(moved, draw(sd1, latents=start + 0.25))


def test_nothing_moved_nothing_changed(sd1: Any) -> None:
    """An edit that hands back the latent it was given leaves every bit of the picture as it was."""
    with regulate(sd1, config=Push(at=99)) as trace:
        assert torch.equal(draw(sd1), draw_unregulated(sd1))
    assert len(trace.updates) == 4


def draw_unregulated(pipe: Any) -> Tensor:
    with regulate(pipe, config=Push(strength=0.0)):
        return draw(pipe)


# --- what is seen -------------------------------------------------------------------------------------------------


def probabilities_of(pipe: Any, names: list[str], sample: Tensor, timestep: Any, hidden: Tensor) -> dict[str, Tensor]:
    """Attention probabilities `(head, pixel, key)` by diffusers' own slow arithmetic, from what the modules are given.

    An oracle of its own: the modules' inputs are noted by hooks, queries and keys made of them layer by layer.
    """
    given: dict[str, tuple[Tensor, Tensor | None]] = {}
    handles = [
        pipe.unet.get_submodule(name).register_forward_pre_hook(
            lambda _, args, kwargs, n=name: given.update({n: (args[0], kwargs.get("encoder_hidden_states"))}),
            with_kwargs=True,
        )
        for name in names
    ]
    with torch.no_grad():
        pipe.unet(sample, timestep, encoder_hidden_states=hidden)
    for handle in handles:
        handle.remove()
    found = {}
    for name, (states, text) in given.items():
        module = pipe.unet.get_submodule(name)
        query = module.head_to_batch_dim(module.to_q(states))
        key = module.head_to_batch_dim(module.to_k(states if text is None else text))
        found[name] = module.get_attention_scores(query, key).detach()
    return found


@pytest.mark.parametrize("heads", [4, (2, 2, 4, 4)])
def test_what_is_seen_is_the_models_own_attention(heads: Any) -> None:
    """Both maps, against the mean over heads and layers of what diffusers computes, one row alone, scaled by Euler."""
    pipe = tiny.stable_diffusion(attention_head_dim=heads)
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    kept: dict[str, Any] = {}

    def look(see: Any, latent: Tensor, words: PromptWords) -> None:
        kept.update(maps=see(latent), latent=latent, words=words, timestep=pipe.scheduler.timesteps[1])

    with regulate(pipe, config=Push(1, look=look, needs_self=True)):
        draw(pipe)
    hidden = pipe.encode_prompt(PROMPT, "cpu", 1, False)[0]
    sigma = pipe.scheduler.sigmas[1]
    names = [name for name, _ in pipe.unet.named_modules() if name.endswith(("attn1", "attn2"))]
    names = [name for name in names if name.startswith(("down_blocks.2", "up_blocks.1"))]
    found = probabilities_of(
        pipe, names, kept["latent"][None] / (sigma**2 + 1) ** 0.5, kept["timestep"], hidden.detach()
    )
    for ending, seen in (("attn2", kept["maps"].cross), ("attn1", kept["maps"].own)):
        every = torch.cat([maps for name, maps in found.items() if name.endswith(ending)])
        torch.testing.assert_close(seen, every.mean(0), rtol=1e-4, atol=1e-6)
    assert tuple(kept["maps"].grid) == (2, 3)
    assert [target.text for target in kept["words"].targets] == ["cat", "blue balloon"]
    assert kept["words"].prompt == PROMPT


@pytest.mark.parametrize("make", [tiny.stable_diffusion, tiny.stable_diffusion_xl])
def test_the_gradient_is_the_models_own(make: Any) -> None:
    """Central differences in float64 along random directions, through checkpointed blocks and a pass cut short."""
    pipe = make()
    pipe.to(torch.float64)
    rng = torch.Generator().manual_seed(3)
    checked: list[bool] = []

    def look(see: Any, latent: Tensor, words: PromptWords) -> None:
        def loss(z: Tensor) -> Tensor:
            maps = see(z)
            assert maps.own is not None
            return (maps.cross * weights).sum() + (maps.own.square()).sum()

        z = latent.clone().requires_grad_(True)
        weights = torch.randn(see(z).cross.shape, generator=rng, dtype=torch.float64)
        (gradient,) = torch.autograd.grad(loss(z), z)
        for _ in range(2):
            direction = torch.randn(latent.shape, generator=rng, dtype=torch.float64)
            step = 1e-5 * direction
            with torch.no_grad():
                slope = (loss(latent + step) - loss(latent - step)) / 2e-5
            torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-5, atol=1e-9)
            checked.append(bool(gradient.abs().max() > 0))

    with regulate(pipe, config=Push(0, look=look, needs_self=True)):
        draw(pipe, num_inference_steps=1)
    assert checked == [True, True]


def test_the_denoiser_is_as_it_was_between_looks(sd1: Any) -> None:
    """Parameters need gradients again, checkpointing is off again; during the update it is on."""
    during: dict[str, Any] = {}

    def state() -> list[Any]:
        return [one.requires_grad for one in sd1.unet.parameters()] + [
            (vars(one).get("gradient_checkpointing"), vars(one).get("_gradient_checkpointing_func"))
            for one in sd1.unet.modules()
        ]

    def look(see: Any, latent: Tensor, words: PromptWords) -> None:
        during["parameters"] = any(one.requires_grad for one in sd1.unet.parameters())
        during["saving"] = sd1.unet.down_blocks[0].gradient_checkpointing
        during["state"] = state()

    before = state()
    with regulate(sd1, config=Push(0, look=look)):
        draw(sd1, num_inference_steps=1)
        assert state() == before
    assert (during["parameters"], during["saving"]) == (False, True)
    assert during["state"] != before


def test_layers_of_two_sizes_cannot_be_averaged(sd1: Any) -> None:
    config = AttendAndExcite(layers=("down_blocks.1", "down_blocks.2"))
    with pytest.raises(AttnregError, match=r"one size.*down_blocks"), regulate(sd1, config=config):
        draw(sd1)


# --- through a method ---------------------------------------------------------------------------------------------


def test_inference_mode(sd1: Any) -> None:
    with regulate(sd1, config=QUICK), torch.inference_mode():
        inside = draw(sd1, num_inference_steps=2)
    with regulate(sd1, config=QUICK):
        torch.testing.assert_close(inside, draw(sd1, num_inference_steps=2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    pipe = tiny.stable_diffusion().to(dtype=dtype)
    with regulate(pipe, config=QUICK) as trace:
        moved = draw(pipe, num_inference_steps=2)
    assert moved.dtype == dtype
    assert moved.isfinite().all()
    assert trace.updates[0].loss_before is not None


@pytest.mark.parametrize("guidance_scale", [1.0, 7.5])
def test_a_picture_does_not_depend_on_its_batch_mates(sd1: Any, guidance_scale: float) -> None:
    """Two prompts with different numbers of targets, two images each, moved from one start for all."""
    prompts, targets = ["a cat", "a dog and a red car"], [["cat"], ["dog", "car"]]
    start = torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(1))
    options = {"guidance_scale": guidance_scale, "num_inference_steps": 2}
    with regulate(sd1, targets, QUICK) as trace:
        together = draw(sd1, prompts, num_images_per_prompt=2, latents=start.repeat(4, 1, 1, 1), **options)
    assert [(one.step, one.image) for one in trace.updates] == [(s, i) for s in range(2) for i in range(4)]
    for i, (prompt, wanted) in enumerate(zip(prompts, targets, strict=True)):
        with regulate(sd1, wanted, QUICK):
            alone = draw(sd1, prompt, latents=start.clone(), **options)
        for copy in range(2):
            torch.testing.assert_close(together[2 * i + copy], alone[0], rtol=1e-4, atol=1e-4)


def test_compiled_unet() -> None:
    """The look runs eagerly; what remains of the step is compiled."""
    levels = {
        "sample_size": 16,
        "block_out_channels": (32, 32),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D"),
        "mid_block_type": None,
    }
    pipe = tiny.stable_diffusion(**levels)
    with regulate(pipe, config=QUICK):
        eager = draw(pipe, num_inference_steps=1)
    pipe.unet.compile(backend="eager")
    with regulate(pipe, config=QUICK):
        torch.testing.assert_close(draw(pipe, num_inference_steps=1), eager, rtol=1e-3, atol=1e-3)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")  # diffusers deprecates the pipeline
def test_attend_and_excite_agrees_with_diffusers() -> None:
    """The latents at the end, to 1e-4: the published loop in diffusers' own (deprecated) pipeline, refined."""
    ours = tiny.stable_diffusion()
    theirs = tiny.quiet(StableDiffusionAttendAndExcitePipeline(**tiny.parts(), requires_safety_checker=False))
    options = {"height": 64, "width": 96, "num_inference_steps": 3, "output_type": "latent"}
    expected = theirs(
        PROMPT,
        token_indices=[2, 6],
        attn_res=(2, 3),
        max_iter_to_alter=2,
        thresholds={0: 0.05},
        generator=torch.Generator().manual_seed(0),
        **options,
    ).images
    with regulate(ours, ["cat", "balloon"], AttendAndExcite(window=(0.0, 0.6), thresholds=(0.05,))) as trace:
        moved = ours(PROMPT, generator=torch.Generator().manual_seed(0), **options).images
    plain = ours(PROMPT, generator=torch.Generator().manual_seed(0), **options).images
    assert [(one.step, one.passes > 2) for one in trace.updates] == [(0, True), (1, False)], "refined in the first"
    assert (moved - plain).abs().max() > 0.1
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-4)
