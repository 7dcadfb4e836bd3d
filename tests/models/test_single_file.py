"""One checkpoint in the original layout opens as the pipeline it was made from, and nobody asks the network."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers
from accelerate import init_empty_weights
from safetensors.torch import load_file, save_file

import ldm_layout
import tiny
from attnreg.models import single_file
from attnreg.models.load import check_model, load_pipeline
from attnreg.models.single_file import CONFIGS, PADS, load_checkpoint, predicts_noise, read_checkpoint
from attnreg.models.tokenizers import clip_tokenizer
from attnreg.types import AttnregError


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Whoever opens a socket fails, and is remembered even where the failure is caught."""
    asked: list[Any] = []

    def refuse(*args: Any, **_: Any) -> None:
        asked.append(args)
        raise AssertionError("a checkpoint needs no network")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    yield asked
    assert asked == []


def encoder(kind: Any = transformers.CLIPTextModel, width: int = tiny.CONTEXT, layers: int = 2) -> Any:
    """A text encoder over all of CLIP's words."""
    config = transformers.CLIPTextConfig(
        vocab_size=49408, hidden_size=width, intermediate_size=37, num_hidden_layers=layers, num_attention_heads=4,
        max_position_embeddings=77, projection_dim=width, bos_token_id=0, eos_token_id=2, pad_token_id=1,
    )  # fmt: skip
    torch.manual_seed(width)
    return kind(config).eval()


def version_1() -> tuple[Any, list[ldm_layout.Weights]]:
    parts = tiny.parts(layers_per_block=2) | {"text_encoder": encoder(), "tokenizer": clip_tokenizer()}
    pipe = diffusers.StableDiffusionPipeline(**parts, requires_safety_checker=False)
    text = ldm_layout.clip_weights(pipe.text_encoder, "cond_stage_model.transformer.")
    return pipe, [ldm_layout.unet_weights(pipe.unet), ldm_layout.vae_weights(pipe.vae), text]


def version_2() -> tuple[Any, list[ldm_layout.Weights]]:
    """Known by the width of its context; the text encoder is OpenCLIP's."""
    changes: dict[str, Any] = {"layers_per_block": 2, "cross_attention_dim": 1024, "use_linear_projection": True}
    parts = tiny.parts(**changes) | {"text_encoder": encoder(width=1024, layers=1), "tokenizer": clip_tokenizer("!")}
    pipe = diffusers.StableDiffusionPipeline(**parts, requires_safety_checker=False)
    text = ldm_layout.open_clip_weights(pipe.text_encoder, "cond_stage_model.model.")
    return pipe, [ldm_layout.unet_weights(pipe.unet), ldm_layout.vae_weights(pipe.vae), text]


def xl() -> tuple[Any, list[ldm_layout.Weights]]:
    """Known by the tenth layer of its second text encoder."""
    pipe = diffusers.StableDiffusionXLPipeline(
        vae=tiny.vae(),
        text_encoder=encoder(),
        text_encoder_2=encoder(transformers.CLIPTextModelWithProjection, 40, 10),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer("!"),
        unet=tiny.unet(
            sample_size=16, layers_per_block=2, block_out_channels=(32, 32, 32),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 1, 2), cross_attention_dim=72, use_linear_projection=True,
            addition_embed_type="text_time", addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 40,
        ),
        scheduler=tiny.scheduler(),
        add_watermarker=False,
    )  # fmt: skip
    texts = [
        ldm_layout.clip_weights(pipe.text_encoder, "conditioner.embedders.0.transformer."),
        ldm_layout.open_clip_weights(pipe.text_encoder_2, "conditioner.embedders.1.model."),
    ]
    return pipe, [ldm_layout.unet_weights(pipe.unet), ldm_layout.vae_weights(pipe.vae), *texts]


def refiner() -> tuple[Any, list[ldm_layout.Weights]]:
    """It has the second text encoder alone, as its first."""
    pipe = diffusers.StableDiffusionXLImg2ImgPipeline(
        vae=tiny.vae(),
        text_encoder=None,
        text_encoder_2=encoder(transformers.CLIPTextModelWithProjection, 40, 10),
        tokenizer=None,
        tokenizer_2=clip_tokenizer("!"),
        unet=tiny.unet(
            layers_per_block=2, cross_attention_dim=40, use_linear_projection=True, addition_embed_type="text_time",
            addition_time_embed_dim=8, projection_class_embeddings_input_dim=5 * 8 + 40,
        ),
        scheduler=tiny.scheduler(),
        requires_aesthetics_score=True,
        add_watermarker=False,
    )  # fmt: skip
    text = ldm_layout.open_clip_weights(pipe.text_encoder_2, "conditioner.embedders.0.model.")
    return pipe, [ldm_layout.unet_weights(pipe.unet), ldm_layout.vae_weights(pipe.vae), text]


KINDS = {"v1": version_1, "v2": version_2, "xl_base": xl, "xl_refiner": refiner}


def small_configs(pipe: Any, kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configurations of the tiny pipeline in the place of the real model's: nothing else of the path is exchanged."""
    pipe.save_pretrained(folder / kind)
    for weights in (folder / kind).rglob("*.safetensors"):
        weights.unlink()
    monkeypatch.setattr(single_file, "CONFIGS", folder)


@pytest.mark.parametrize("kind", KINDS)
def test_opens_as_what_it_was_made_from(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, weights = KINDS[kind]()
    path = ldm_layout.write(tmp_path / "model.safetensors", *weights)
    assert read_checkpoint(path).kind == kind
    small_configs(pipe, kind, tmp_path / "configs", monkeypatch)
    opened = load_pipeline(str(path), device="cpu")
    assert type(opened) is type(pipe)
    for name, part in pipe.components.items():
        if isinstance(part, torch.nn.Module):
            before, after = part.state_dict(), getattr(opened, name).state_dict()
            assert before.keys() == after.keys()
            assert all(torch.equal(before[key], after[key]) for key in before), name
            assert not getattr(opened, name).training
        elif part is not None and "tokenizer" in name:
            assert getattr(opened, name)("a cat", padding="max_length") == part("a cat", padding="max_length")


@pytest.mark.parametrize("kind", ["v1", "xl_base"])
def test_draws_the_same(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, weights = KINDS[kind]()
    path = ldm_layout.write(tmp_path / "model.safetensors", *weights)
    small_configs(pipe, kind, tmp_path / "configs", monkeypatch)
    opened = load_pipeline(str(path), device="cpu")
    pictures = [
        tiny.quiet(one)(
            "a cat", num_inference_steps=2, height=64, width=64, output_type="np",
            generator=torch.Generator().manual_seed(0),
        ).images
        for one in (pipe, opened)
    ]  # fmt: skip
    # Weights that lie otherwise in memory are multiplied by other kernels on some processors.
    assert abs(pictures[0] - pictures[1]).max() < 1e-5
    for part in ("unet", "text_encoder"):
        mine, its = (getattr(one, part).state_dict() for one in (pipe, opened))
        assert mine.keys() == its.keys()
        assert all(torch.equal(mine[name], its[name]) for name in mine)


def test_on_the_command_line_and_in_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture's recipe names the file as it lies there, and a run tells its weights from others'."""
    from attnreg.evaluation.checks import fingerprint
    from attnreg.recipe import read_recipe
    from attnreg.studio import Session, draw_again

    pipe, weights = version_1()
    path = ldm_layout.write(tmp_path / "model.safetensors", *weights)
    small_configs(pipe, "v1", tmp_path / "configs", monkeypatch)
    monkeypatch.chdir(tmp_path)
    drawing = {"method": "none", "steps": 2, "height": 64, "width": 64, "device": "cpu"}
    session = Session.open("a cat", model="model.safetensors", **drawing)
    (picture,) = session.draw([0], tmp_path / "out", beside_unmodified=False)
    assert read_recipe(picture).model == str(path)
    _, same, _ = draw_again(picture, "cpu", tmp_path / "out")
    assert same
    before = fingerprint(path)
    path.rename(tmp_path / "other.safetensors")
    assert fingerprint(tmp_path / "other.safetensors") == before
    weights[0]["model.diffusion_model.middle_block.1.proj_in.weight"] += 1  # as where a LoRA was merged into it
    assert fingerprint(ldm_layout.write(tmp_path / "third.safetensors", *weights)) != before


# --- the real configurations --------------------------------------------------------------------------------------

PUBLISHED = {
    "v1": {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480},
    "v2": {"unet": 865_910_724, "vae": 83_653_863, "text_encoder": 340_387_840},
    "xl_base": {
        "unet": 2_567_463_684, "vae": 83_653_863, "text_encoder": 123_060_480, "text_encoder_2": 694_659_840,
    },
    "xl_refiner": {"unet": 2_259_526_660, "vae": 83_653_863, "text_encoder_2": 694_659_840},
    "sd3": {
        "transformer": 2_028_328_000, "vae": 83_819_683, "text_encoder": 123_650_304, "text_encoder_2": 694_659_840,
    },
}  # fmt: skip
"""How many parameters the models have, as their cards and papers tell."""


@pytest.mark.parametrize("kind", PUBLISHED)
def test_configurations_are_those_of_the_real_models(kind: str) -> None:
    index = json.loads((CONFIGS / kind / "model_index.json").read_text())
    found = {}
    for part in sorted(path.parent for path in (CONFIGS / kind).glob("*/config.json")):
        library, name = index[part.name]
        with init_empty_weights():
            if library == "diffusers":
                made = getattr(diffusers, name).from_config(getattr(diffusers, name).load_config(str(part)))
            else:
                made = getattr(transformers, name)(transformers.CLIPTextConfig.from_pretrained(str(part)))
        found[part.name] = sum(one.numel() for one in made.parameters())
    assert found == PUBLISHED[kind]
    assert PADS.keys() == PUBLISHED.keys()


def test_the_tokenizer_is_clips() -> None:
    """Numbers of words as in every publication that shows them."""
    tokenizer = clip_tokenizer()
    assert len(tokenizer) == 49408
    assert tokenizer("a photo of a cat")["input_ids"] == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert (tokenizer.pad_token_id, clip_tokenizer("!").pad_token_id) == (49407, 0)
    assert len(tokenizer("a cat", padding="max_length")["input_ids"]) == 77


# --- what the model predicts --------------------------------------------------------------------------------------


class Stub(torch.nn.Module):
    """In the place of a UNet: hands back what it is given, or nothing of it."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.config = diffusers.configuration_utils.FrozenDict(in_channels=4, cross_attention_dim=1024)

    def forward(self, sample: torch.Tensor, time: torch.Tensor, encoder_hidden_states: torch.Tensor) -> Any:
        assert encoder_hidden_states.shape == (1, 77, 1024)
        assert int(time) == 999
        other = torch.randn(sample.shape, generator=torch.Generator().manual_seed(1))
        return type("Out", (), {"sample": self.factor * sample + (1 - self.factor) * other})


def test_noise_is_told_from_v() -> None:
    assert predicts_noise(Stub(0.98))
    assert not predicts_noise(Stub(0.07)), "at the last step v holds sqrt(abar) = 0.068 of the noise"


@pytest.mark.parametrize(("noise", "predicts", "size"), [(True, "epsilon", 64), (False, "v_prediction", 96)])
def test_version_2_in_both_kinds(
    noise: bool, predicts: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, weights = version_2()
    path = ldm_layout.write(tmp_path / "model.safetensors", *weights)
    small_configs(pipe, "v2", tmp_path / "configs", monkeypatch)
    monkeypatch.setattr(single_file, "predicts_noise", lambda _: noise)
    opened = load_pipeline(str(path), device="cpu")
    assert (opened.scheduler.config.prediction_type, opened.unet.config.sample_size) == (predicts, size)


def test_xl_models_that_say_they_predict_v(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, weights = xl()
    marks = {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
    path = ldm_layout.write(tmp_path / "model.safetensors", *weights, marks)
    small_configs(pipe, "xl_base", tmp_path / "configs", monkeypatch)
    config = load_pipeline(str(path), device="cpu").scheduler.config
    assert (config.prediction_type, config.rescale_betas_zero_snr) == ("v_prediction", True)


@pytest.mark.parametrize(("said", "meant"), [("v", "v_prediction"), ("epsilon", "epsilon"), ("", None), ("x0", None)])
def test_a_file_that_tells_of_itself(said: str, meant: str | None, tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", {"modelspec.prediction_type": said})
    assert read_checkpoint(tmp_path / "a.safetensors").prediction == meant


# --- what does not open -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt", "model.PTH", "pytorch_model.bin", "model.pkl"])
def test_pickled_checkpoints_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / name)
    asked: list[Any] = []
    monkeypatch.setattr(torch, "load", lambda *args, **_: asked.append(args))
    with pytest.raises(AttnregError, match=r"pickled .* convert it where you trust it") as told:
        load_pipeline(str(tmp_path / name), device="cpu")
    assert "\n" not in str(told.value)
    assert asked == []


def test_a_pickle_by_another_name(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(AttnregError, match=r"expected a readable \.safetensors file"):
        load_pipeline(str(tmp_path / "model.safetensors"), device="cpu")


@pytest.mark.parametrize("name", ["model.safetensors", "model.gguf", "model"])
def test_a_file_that_is_no_checkpoint(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\0" * 100)
    with pytest.raises(AttnregError, match="expected a") as told:
        check_model(str(tmp_path / name))
    assert str(tmp_path / name) in str(told.value)


@pytest.mark.parametrize("name", ["a.safetensors", "models/a.safetensors", "models/a.ckpt"])
def test_a_file_that_is_not_there_is_no_hub_id(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AttnregError, match="nothing there"):
        load_pipeline(name, device="cpu")


def test_a_lora_is_no_model(tmp_path: Path) -> None:
    save_file({"lora_unet_down_blocks_0.lora_up.weight": torch.zeros(4, 4)}, tmp_path / "style.safetensors")
    with pytest.raises(AttnregError, match=r"expected a whole model, got .*lora_unet_down_blocks_0"):
        load_pipeline(str(tmp_path / "style.safetensors"), device="cpu")


def test_an_inpainting_model(tmp_path: Path) -> None:
    save_file({single_file.UNET_INPUT: torch.zeros(4, 9, 3, 3)}, tmp_path / "inpainting.safetensors")
    with pytest.raises(AttnregError, match="of the kind inpainting; choose another"):
        load_pipeline(str(tmp_path / "inpainting.safetensors"), device="cpu")


def test_a_family_whose_configuration_is_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    names = ["double_blocks.0.img_attn.norm.key_norm.scale", "guidance_in.in_layer.bias", "img_in.weight"]
    save_file({name: torch.zeros(2, 2) for name in names}, tmp_path / "flux.safetensors")
    with pytest.raises(AttnregError, match=r"kind flux-dev, .* run once: hf download black-forest-labs/FLUX\.1-dev"):
        load_pipeline(str(tmp_path / "flux.safetensors"), device="cpu")


@pytest.mark.parametrize("part", ["first_stage_model.", "cond_stage_model.", "model.diffusion_model.middle_block."])
def test_a_checkpoint_without_a_part(part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, weights = version_1()
    path = ldm_layout.write(tmp_path / "model.safetensors", *weights)
    kept = {name: value for name, value in load_file(path).items() if not name.startswith(part)}
    save_file(kept, path)
    small_configs(pipe, "v1", tmp_path / "configs", monkeypatch)
    with pytest.raises(AttnregError, match=r"expected .*model\.safetensors") as told:
        load_pipeline(str(path), device="cpu")
    assert "\n" not in str(told.value)


def test_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, weights = version_1()
    path = ldm_layout.write(tmp_path / "model.safetensors", *weights)
    small_configs(pipe, "v1", tmp_path / "configs", monkeypatch)
    opened = load_checkpoint(path, torch.bfloat16, "cpu")
    assert opened.unet.dtype == opened.vae.dtype == opened.text_encoder.dtype == torch.bfloat16
