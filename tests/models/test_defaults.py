"""What a pipeline draws by itself is read from the pipeline; one side of a picture alone is never dropped."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
from PIL import Image

import tiny
from attnreg.models.defaults import check_size, defaults_of, denoiser_of, options_for
from attnreg.recipe import read_recipe
from attnreg.sampling import generate
from attnreg.studio import Session
from attnreg.types import AttnregError

PUBLISHED = {
    "StableDiffusionPipeline": (512, 512, 50, 7.5),
    "StableDiffusionXLPipeline": (1024, 1024, 50, 5.0),
    "StableDiffusion3Pipeline": (1024, 1024, 28, 7.0),
    "FluxPipeline": (1024, 1024, 28, 3.5),
    "PixArtAlphaPipeline": (1024, 1024, 20, 4.5),
    "SanaPipeline": (1024, 1024, 20, 4.5),
    "QwenImagePipeline": (1024, 1024, 50, 4.0),
    "AuraFlowPipeline": (1024, 1024, 50, 3.5),
    "IFPipeline": (64, 64, 100, 7.0),
    "ZImagePipeline": (None, None, 50, 5.0),
}
"""Height, width, steps and guidance by default, from diffusers' documentation. Z-Image's size is in its code only."""


def made(name: str) -> Any:
    """A pipeline's class around nothing but the numbers that its constructor would read off its parts."""
    pipe = getattr(diffusers, name).__new__(getattr(diffusers, name))
    size = {"StableDiffusionPipeline": 64, "IFPipeline": 64}.get(name, 128)
    network = SimpleNamespace(config=SimpleNamespace(sample_size=size))
    if name == "ZImagePipeline":
        network.config = SimpleNamespace()
    denoiser = "unet" if "StableDiffusionP" in name or "XL" in name or name == "IFPipeline" else "transformer"
    pipe.__dict__ |= {denoiser: network} | ({} if name == "IFPipeline" else {"vae_scale_factor": 8})
    if name in ("FluxPipeline", "QwenImagePipeline", "StableDiffusion3Pipeline"):
        pipe.__dict__["default_sample_size"] = 128
    return pipe


@pytest.mark.parametrize("name", PUBLISHED)
def test_defaults_of_families(name: str) -> None:
    own = defaults_of(made(name))
    assert (own.height, own.width, own.steps, own.guidance_scale) == PUBLISHED[name]


def test_a_size_that_is_no_square() -> None:
    pipe = tiny.stable_diffusion(sample_size=(8, 16))
    assert (defaults_of(pipe).height, defaults_of(pipe).width) == (64, 128)
    assert options_for(pipe, {"height": 96}) == {"height": 96, "width": 128}
    assert options_for(pipe, {"width": 96}) == {"width": 96, "height": 64}


def test_guidance_by_the_name_that_the_pipeline_has_for_it() -> None:
    assert options_for(made("QwenImagePipeline"), {"guidance_scale": 3}) == {"true_cfg_scale": 3}
    assert options_for(made("FluxPipeline"), {"guidance_scale": 3}) == {"guidance_scale": 3}


def test_what_is_not_asked_for_is_left_to_the_pipeline() -> None:
    assert options_for(tiny.stable_diffusion(), {"height": None, "width": None, "guidance_scale": None}) == {}
    assert options_for(made("ZImagePipeline"), {"height": 96}) == {"height": 96}


def test_a_picture_that_is_given_decides_the_size() -> None:
    pipe = diffusers.StableDiffusionInpaintPipeline(**tiny.parts(in_channels=9), requires_safety_checker=False)
    assert options_for(pipe, {"height": 96, "image": 1}) == {"height": 96, "image": 1}


def test_an_option_that_the_pipeline_has_not() -> None:
    with pytest.raises(AttnregError, match="options of FluxPipeline, got clip_skip, which it has not"):
        options_for(made("FluxPipeline"), {"clip_skip": 2})


@pytest.mark.parametrize(("asked", "size"), [({"height": 96}, (64, 96)), ({"width": 96}, (96, 64))])
def test_one_side_alone_is_drawn(asked: dict[str, int], size: tuple[int, int]) -> None:
    """diffusers drops both sides if one is missing."""
    pipe = tiny.stable_diffusion(sample_size=8)
    assert generate(pipe, "a cat", None, num_inference_steps=1, **asked).picture.size == size


def test_a_recipe_tells_the_size_that_was_drawn(tmp_path: Path) -> None:
    tiny.stable_diffusion(sample_size=8).save_pretrained(tmp_path / "model")
    drawing: dict[str, Any] = {"method": "none", "steps": 1, "device": "cpu", "model": str(tmp_path / "model")}
    session = Session.open("a cat", height=96, **drawing)
    (path,) = session.draw([0], tmp_path, beside_unmodified=False, say=lambda _: None)
    recipe = read_recipe(path)
    with Image.open(path) as picture:
        assert picture.size == (recipe.width, recipe.height) == (64, 96)
    open_size = Session.open("a cat", **drawing).recipe
    assert (open_size.height, open_size.width) == (None, None)


def test_a_run_draws_the_side_that_was_asked_for(tmp_path: Path) -> None:
    """Its facts say 96 and leave the width to the model: so do its pictures."""
    from attnreg.evaluation.config import Config
    from attnreg.evaluation.drawing import Pipelines
    from attnreg.evaluation.store import Cell

    tiny.stable_diffusion(sample_size=8).save_pretrained(tmp_path / "model")
    config = Config(prompts=("x",), models=(str(tmp_path / "model"),), height=96, steps=1)
    drawn = Pipelines(config.drawing(), "cpu")(config.models[0])(Cell("a cat", 0, "none", config.models[0]))
    (tmp_path / "a.png").write_bytes(drawn.png)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (64, 96)


def test_a_size_that_the_pipeline_changed_is_told() -> None:
    class Rounding(diffusers.StableDiffusionPipeline):  # as FLUX does, to multiples of 16
        def __call__(self, prompt: str, height: int = 0, width: int = 0, **options: Any) -> Any:
            return super().__call__(prompt, height=height // 16 * 16, width=width // 16 * 16, **options)

    pipe = tiny.quiet(Rounding(**tiny.parts(), requires_safety_checker=False))
    with pytest.raises(
        AttnregError, match="72 pixels high and 64 wide, got 64 and 64 from Rounding; ask for --height 64"
    ):
        generate(pipe, "a cat", None, height=72, width=64, num_inference_steps=1)
    check_size(pipe, object(), {"height": 8})


def test_the_denoiser() -> None:
    pipe = tiny.stable_diffusion()
    assert denoiser_of(pipe) is pipe.unet
    with pytest.raises(AttnregError, match="a unet or a transformer, got SimpleNamespace"):
        denoiser_of(SimpleNamespace(unet=None))


@pytest.mark.parametrize(
    ("name", "rewriting"), [("LongCatImagePipeline", "enable_prompt_rewrite"), ("ErnieImagePipeline", "use_pe")]
)
def test_a_prompt_is_drawn_as_it_is_written(name: str, rewriting: str) -> None:
    """A language model that rewrites it draws its words anew each time: unless it is asked for, it is not."""
    pipe = made(name)
    assert options_for(pipe, {"num_inference_steps": 2}) == {"num_inference_steps": 2, rewriting: False}
    assert options_for(pipe, {rewriting: True}) == {rewriting: True}


def test_a_schedule_of_the_guidance_fits_the_steps() -> None:
    pipe = made("Ideogram4Pipeline")
    assert options_for(pipe, {"num_inference_steps": 48}) == {"num_inference_steps": 48}
    assert options_for(pipe, {"num_inference_steps": 16})["guidance_schedule"] == (7.0,) * 15 + (3.0,)
    assert options_for(pipe, {"guidance_scale": 5.0}) == {"guidance_scale": 5.0, "guidance_schedule": None}


def test_guidance_that_is_called_true_cfg_scale_alone() -> None:
    assert options_for(made("QwenImage21Pipeline"), {"guidance_scale": 3.0}) == {"true_cfg_scale": 3.0}
