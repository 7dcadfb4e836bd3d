"""Initial noises that are followed and chosen on transformers: under flow matching and not, guided in every way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler
from test_family_company import PIPELINES
from torch import Tensor

import tiny
import tiny_families
import tiny_transformers
from add_ons import control_net, ip_adapter
from attnreg import AttnregError, regulate
from attnreg.attention.families import family_of, select_layers
from attnreg.regulation.best_start import BestStart, signals
from attnreg.regulation.edit import PromptWords
from attnreg.regulation.kinds import Chosen, Follow
from attnreg.regulation.noises import noises_like
from test_families import PROMPT
from tiny_families import FOLLOWED, SMALL

UNGUIDED: dict[str, Any] = {"guidance_scale": 0.0, "true_cfg_scale": 1.0}


@pytest.fixture(scope="module", params=FOLLOWED)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def pipe(name: str) -> Any:
    pipe = tiny_families.FAMILIES[name]()
    if isinstance(pipe.scheduler, DDPMScheduler):  # under one that draws noise nothing is handed back
        pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    return pipe


@pytest.fixture
def draw(name: str, pipe: Any) -> Callable[..., Tensor]:
    def drawn(prompt: Any = PROMPT, guided: bool = True, **options: Any) -> Tensor:
        settings = {"num_inference_steps": 6, "output_type": "latent"} | SMALL[name] | options
        if not guided:
            settings |= {key: value for key, value in UNGUIDED.items() if key in settings or key == "guidance_scale"}
        return tiny_families.drawn(pipe, prompt, settings)

    return drawn


def rows_of_passes(pipe: Any, run: Callable[[], Any]) -> Counter[int]:
    """How many rows each pass of the denoiser has in a run, as its first layer over the text is given them."""
    family, denoiser = family_of(pipe)
    rows: list[int] = []

    def note(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        rows.append(len(args[0] if args else next(iter(kwargs.values()))))

    handle = next(iter(select_layers(family, denoiser, ("all",)).values())).register_forward_hook(
        note, with_kwargs=True
    )
    try:
        run()
    finally:
        handle.remove()
    return Counter(rows)


@pytest.mark.parametrize("guided", [False, True], ids=["unguided", "guided"])
def test_a_start_that_is_kept_is_followed_once(pipe: Any, draw: Callable[..., Tensor], guided: bool) -> None:
    """The picture is the unmodified one to the bit, and what was predicted while it was followed is not asked again."""
    pictures: list[Tensor] = []
    plain = rows_of_passes(pipe, lambda: pictures.append(draw(guided=guided)))
    with regulate(pipe, config=BestStart(enough=0.0)) as trace:
        followed = rows_of_passes(pipe, lambda: pictures.append(draw(guided=guided)))
    assert torch.equal(*pictures)
    (start,) = trace.starts
    assert (start.chosen, start.spared, len(start.scores)) == (0, True, 1)
    assert not plain - followed
    reading = followed - plain
    # Its own steps, once; and its picture is read under the prompt and two others, together where these are as long.
    assert sum(rows * passes for rows, passes in reading.items()) == 3


@pytest.mark.parametrize(("steps", "ahead"), [(1, 1), (2, 2), (4, 3)])
def test_a_distilled_model_of_few_steps(steps: int, ahead: int) -> None:
    """FLUX schnell: no guidance, four steps. A start is kept to the bit; another costs most of a picture."""
    pipe = tiny_families.FAMILIES["FLUX"]()
    settings = SMALL["FLUX"] | UNGUIDED | {"num_inference_steps": steps, "output_type": "latent"}

    def draw() -> Tensor:
        return tiny_families.drawn(pipe, PROMPT, settings)

    pictures: list[Tensor] = []
    plain = rows_of_passes(pipe, lambda: pictures.append(draw()))
    assert plain.total() == steps
    with regulate(pipe, config=BestStart(enough=0.0)) as trace:
        rows_of_passes(pipe, lambda: pictures.append(draw()))
    assert torch.equal(*pictures)
    assert trace.starts[0].spared
    with regulate(pipe, config=BestStart(enough=1e9, good=1e9, starts=3)) as trace:
        tried = rows_of_passes(pipe, draw)
    (start,) = trace.starts
    assert len(start.scores) == 3
    # The given one and one of the two others are followed to where they are read, under three texts each; one of these
    # two is the picture, whose passes are not taken again. The last one is given up.
    more = sum(rows * passes for rows, passes in (tried - plain).items())
    assert more == ahead + 2 * 3 + min(ahead, BestStart().early)


def test_two_that_are_kept_are_followed_together(name: str, pipe: Any, draw: Callable[..., Tensor]) -> None:
    """Prompts of different lengths, one of them with nothing to be heeded."""
    if name in tiny_families.TOGETHER:
        pytest.skip("guided, it draws one prompt")
    pictures: list[Tensor] = []
    prompts = [PROMPT, "a dog"]
    plain = rows_of_passes(pipe, lambda: pictures.append(draw(prompts)))
    with regulate(pipe, [["cat", "blue balloon"], None], BestStart(enough=0.0)) as trace:
        followed = rows_of_passes(pipe, lambda: pictures.append(draw(prompts)))
    assert torch.equal(*pictures)
    assert [one.image for one in trace.starts] == [0, 1]
    assert not plain - followed
    reading = followed - plain
    assert sum(rows * passes for rows, passes in reading.items()) == 3 + 2


class TheOther(BestStart):
    """Another start, whatever it leads to, which it has followed as the given one was."""

    def choose(self, latent: Tensor, follow: Follow, words: PromptWords) -> Chosen:
        _, other = noises_like(latent, 2, 1.0)
        return Chosen(other, (1.0, signals(follow(other), words).score), 1)


def test_another_start_is_drawn_as_the_pipeline_draws_it(
    pipe: Any, draw: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawn from the latents that were chosen, the unmodified model makes the same picture."""
    family, denoiser = family_of(pipe)
    given: list[Tensor] = []
    handle = denoiser.register_forward_pre_hook(
        lambda _, args, kwargs: given.append(family.stacked((args or [kwargs[family.sample]])[0])[0].clone()),
        with_kwargs=True,
    )
    plain = draw()
    handle.remove()
    with regulate(pipe, config=TheOther()) as trace:
        drawn = draw()
    assert trace.starts[0].chosen == 1
    _, other = noises_like(given[0], 2, 1.0)
    if hasattr(pipe, "prepare_latents"):
        prepare = pipe.prepare_latents

        def prepared(*args: Any, **kwargs: Any) -> Any:
            made = prepare(*args, **kwargs)
            return (other.view_as(made[0]), *made[1:]) if isinstance(made, tuple) else other.view_as(made)

        monkeypatch.setattr(pipe, "prepare_latents", prepared)
    again = draw() if hasattr(pipe, "prepare_latents") else draw(latents=other.unsqueeze(0))
    torch.testing.assert_close(drawn, again, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(drawn, plain, rtol=1e-2, atol=1e-2)


def test_the_steps_of_another_start_are_taken_once(pipe: Any, draw: Callable[..., Tensor]) -> None:
    """Where none is left out while it is followed, the pipeline takes none again, with the prompt or without."""
    plain = rows_of_passes(pipe, lambda: draw(num_inference_steps=2))
    with regulate(pipe, config=TheOther()):
        followed = rows_of_passes(pipe, lambda: draw(num_inference_steps=2))
    steps, all_of_them = (sum(rows * passes for rows, passes in one.items()) for one in (plain, followed))
    # Both starts are followed through both steps, and the other one's picture is read under three texts.
    assert all_of_them == 2 * steps + 3


FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}


@pytest.mark.parametrize(
    ("name", "kind"), [("Sana", DPMSolverMultistepScheduler), ("Wan", UniPCMultistepScheduler)], ids=["Sana", "Wan"]
)
def test_under_the_scheduler_that_the_published_model_has(name: str, kind: Any) -> None:
    """Schedulers of diffusion that take steps of flow matching."""
    pipe = tiny_families.FAMILIES[name]()
    pipe.scheduler = kind(**FLOW)
    pictures: list[Tensor] = []
    options = {"num_inference_steps": 6, "output_type": "latent"} | SMALL[name]

    def drawn() -> None:
        pictures.append(pipe(prompt=PROMPT, generator=torch.Generator().manual_seed(0), **options)[0])

    plain = rows_of_passes(pipe, drawn)
    with regulate(pipe, config=BestStart(enough=0.0)) as trace:
        followed = rows_of_passes(pipe, drawn)
    assert torch.equal(*pictures)
    assert trace.starts[0].spared
    assert followed.total() - plain.total() <= 3, "its reading alone"


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_a_kept_start_has_the_bits_of_another_backend() -> None:
    """What is looked at on the way is asked of torch's own function; what the pipeline is handed back is not."""
    pipe = tiny_transformers.FAMILIES["FLUX"]()
    for module in pipe.transformer.modules():
        if hasattr(module, "processor"):
            module.processor._attention_backend = "flex"
    options = SMALL["FLUX"] | {"num_inference_steps": 3, "output_type": "latent"}
    plain = pipe(PROMPT, generator=torch.Generator().manual_seed(0), **options).images
    with regulate(pipe, config=BestStart(enough=0.0)) as trace:
        kept = pipe(PROMPT, generator=torch.Generator().manual_seed(0), **options).images
    assert trace.starts[0].spared
    assert torch.equal(kept, plain)


@pytest.mark.parametrize("name", ["FLUX Fill", "FLUX Control", "FLUX Kontext"])
def test_what_is_given_beside_the_latents_is_not_followed(name: str) -> None:
    make, options = PIPELINES[name]
    pipe = make()
    with regulate(pipe) as trace:
        pipe(prompt=PROMPT, generator=torch.Generator().manual_seed(0), **options)
    (decision,) = trace.decisions
    assert decision.method == "attention-balance"
    assert "beside the latents" in decision.reason or "begins from a picture" in decision.reason


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("Lumina 2", {"cfg_trunc_ratio": 0.5}, "guides in the first steps alone"),
        ("Z-Image", {"cfg_truncation": 0.5}, "guides in the first steps alone"),
        ("Z-Image", {"cfg_normalization": True}, "bounds what it guides"),
        ("Bria", {"normalize": True}, "scales or clips what it predicts"),
        ("Lumina-Next", {"scaling_watershed": 0.5}, "counts positions in another way from some step on"),
        ("Stable Diffusion 3", {"skip_guidance_layers": [0]}, "leaves out blocks to guide in some steps"),
    ],
)
def test_guidance_that_differs_from_step_to_step_is_not_followed(
    name: str, options: dict[str, Any], reason: str
) -> None:
    pipe = tiny_families.FAMILIES[name]()
    options = SMALL[name] | {"num_inference_steps": 3, "output_type": "latent"} | options
    kind = type(pipe).__name__
    with regulate(pipe, config=BestStart()), pytest.raises(AttnregError, match=f"got {kind}, which {reason}; leave"):
        pipe(PROMPT, **options)
    with regulate(pipe) as trace:
        pipe(PROMPT, **options)
    assert [(one.method, one.reason) for one in trace.decisions] == [("attention-balance", f"{kind} {reason}")]


def test_whoever_does_not_tell_how_strongly_is_guided_is_not_followed() -> None:
    """A pipeline that someone has written, whose variables have other names."""
    pipe = tiny_families.FAMILIES["PixArt"]()

    class Renamed(type(pipe)):  # type: ignore[misc]
        def __call__(self, prompt: str, strength_of_guidance: float) -> Any:
            embeddings, mask, negative, masked = self.encode_prompt(prompt, max_sequence_length=16)
            self.scheduler.set_timesteps(2)
            latents = torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(0))
            for time in self.scheduler.timesteps:
                both = self.transformer(
                    self.scheduler.scale_model_input(torch.cat([latents] * 2), time),
                    encoder_hidden_states=torch.cat([negative, embeddings]),
                    encoder_attention_mask=torch.cat([masked, mask]),
                    timestep=time.expand(2),
                    added_cond_kwargs={"resolution": None, "aspect_ratio": None},
                    return_dict=False,
                )[0]
                plain, prompted = both.chunk(2, dim=1)[0].chunk(2)
                guided = plain + strength_of_guidance * (prompted - plain)
                latents = self.scheduler.step(guided, time, latents).prev_sample
            return latents

    renamed = tiny.quiet(Renamed(**pipe.components))
    with regulate(renamed) as trace, torch.no_grad():
        renamed(PROMPT, 4.0)
    assert trace.decisions[0].method == "attention-balance"
    assert trace.decisions[0].reason == "Renamed does not tell its guidance_scale"


@pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated:FutureWarning")
def test_what_a_control_net_makes_of_the_latents_is_not_followed() -> None:
    options: dict[str, Any] = SMALL["FLUX"] | {"num_inference_steps": 2, "output_type": "latent"}
    pipe = tiny.quiet(control_net(tiny_transformers.flux(), options))
    with regulate(pipe) as trace:
        pipe(PROMPT, **options)
    assert trace.decisions[0].method == "attention-balance"
    assert (
        trace.decisions[0].reason == "FluxControlNetPipeline gives the denoiser what a ControlNet made of other latents"
    )


def test_an_ip_adapter_with_another_picture_for_the_negative_prompt_is_not_followed() -> None:
    options: dict[str, Any] = SMALL["FLUX"] | {"num_inference_steps": 2, "output_type": "latent"}
    pipe = tiny_transformers.flux()
    ip_adapter(pipe, options)
    with regulate(pipe) as trace:
        pipe(PROMPT, **options)
    assert trace.decisions[0].method == "attention-balance"
    assert trace.decisions[0].reason == "FluxPipeline looks at another picture without the prompt"
