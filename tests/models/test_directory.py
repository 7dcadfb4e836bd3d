"""What a model directory may hold, at whatever depth, and which of its weights are taken."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from attnreg.models.directory import check_directory, kept_in, variant_of
from attnreg.models.load import load_pipeline
from attnreg.types import AttnregError


def change(file: Path, **entries: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


class Loud:
    """Unpickling it leaves a file: torch's unpickler, allowed to, would run it."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.marker,)


# --- pickles ------------------------------------------------------------------------------------------------------


def with_a_pipeline_inside(model: Path, whole: Path) -> Path:
    """Another pipeline as the safety checker's folder, its UNet's weights pickled: diffusers would unpickle them."""
    inner = model / "safety_checker"
    shutil.copytree(whole, inner)
    change(model / "model_index.json", safety_checker=["diffusers", "StableDiffusionPipeline"])
    weights = inner / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    return inner / "unet"


@pytest.mark.parametrize("beside", [False, True])
def test_pickles_of_a_pipeline_within_a_pipeline(beside: bool, model: Path, whole: Path) -> None:
    """Also where safetensors lie beside them: diffusers falls back on the pickle if those do not open."""
    inner = with_a_pipeline_inside(model, whole)
    if not beside:
        (inner / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(AttnregError, match=r"safetensors in .*safety_checker/unet, got diffusion_pytorch_model\.bin"):
        load_pipeline(str(model), device="cpu")


def test_no_unpickler_is_asked(model: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = with_a_pipeline_inside(model, whole)
    (inner / "diffusion_pytorch_model.safetensors").unlink()
    (inner / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Loud(tmp_path / "ran")))
    asked: list[Any] = []
    monkeypatch.setattr(torch, "load", lambda *args, **_: asked.append(args))
    with pytest.raises(AttnregError, match="pickled"):
        load_pipeline(str(model), device="cpu")
    assert asked == []
    assert not (tmp_path / "ran").exists()


def test_a_pickle_in_a_folder_of_a_part(model: Path) -> None:
    (model / "text_encoder" / "0_Transformer").mkdir()
    (model / "text_encoder" / "0_Transformer" / "pytorch_model.BIN").write_bytes(b"")
    with pytest.raises(AttnregError, match=r"0_Transformer, got pytorch_model\.BIN"):
        check_directory(model)


def test_a_pickle_behind_a_link(model: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "model.pt").write_bytes(b"")
    (model / "vae" / "more").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AttnregError, match=r"vae/more, got model\.pt"):
        check_directory(model)


def test_a_folder_that_holds_itself(model: Path) -> None:
    for name in "abc":
        (model / "vae" / name).symlink_to(model / "vae")
    with pytest.raises(AttnregError, match="at most 1000 folders"):
        check_directory(model)


def test_code_of_a_pipeline_within_a_pipeline(model: Path, whole: Path) -> None:
    shutil.copytree(whole, model / "safety_checker")
    change(model / "model_index.json", safety_checker=["diffusers", "StableDiffusionPipeline"])
    change(model / "safety_checker" / "model_index.json", unet=["evil", "Evil"])
    with pytest.raises(AttnregError, match="unet from 'evil'"):
        check_directory(model)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, '"' + "x" * 2_000_000 + '"', "9" * 5000])
def test_an_index_without_end(text: str, model: Path) -> None:
    (model / "model_index.json").write_text(text)
    with pytest.raises(AttnregError, match=r"model_index\.json") as told:
        check_directory(model)
    assert len(str(told.value)) < 600


# --- variants -----------------------------------------------------------------------------------------------------


def as_variant(part: Path, name: str, dtype: torch.dtype) -> None:
    """Keep a part's weights under a variant's name alone."""
    (file,) = part.glob("*.safetensors")
    weights = {key: value.to(dtype) for key, value in load_file(file).items()}
    save_file(weights, file.with_suffix(f".{name}.safetensors"), {"format": "pt"})
    file.unlink()


PARTS = ("unet", "vae", "text_encoder")


def test_half_precision_files_alone_are_taken(model: Path) -> None:
    """As most large models are offered for download: diffusers asks for the variant by name."""
    before = load_pipeline(str(model), device="cpu").unet.state_dict()
    for part in PARTS:
        as_variant(model / part, "fp16", torch.float16)
    assert variant_of(model) == "fp16"
    after = load_pipeline(str(model), device="cpu").unet.state_dict()
    assert all(torch.equal(before[name].half().float(), after[name]) for name in before)


def test_one_part_with_a_variant_only(model: Path) -> None:
    as_variant(model / "vae", "fp16", torch.float16)
    assert variant_of(model) == "fp16"
    assert load_pipeline(str(model), device="cpu").vae.dtype == torch.float32


def test_without_variants_none_is_asked_for(model: Path) -> None:
    assert variant_of(model) is None
    shutil.copy(
        model / "unet" / "diffusion_pytorch_model.safetensors",
        model / "unet" / "diffusion_pytorch_model.non_ema.safetensors",
    )
    assert variant_of(model) is None, "the file without a name is there"


@pytest.mark.parametrize(
    "file",
    [
        "diffusion_pytorch_model.fp16.safetensors",
        "model.fp16-00001-of-00002.safetensors",
        "diffusion_pytorch_model-00001-of-00002.fp16.safetensors",
    ],
)
def test_names_of_variants(file: str, model: Path) -> None:
    (model / "unet" / "diffusion_pytorch_model.safetensors").rename(model / "unet" / file)
    assert variant_of(model) == "fp16"


def test_shards_are_no_variant(model: Path) -> None:
    file = model / "unet" / "diffusion_pytorch_model.safetensors"
    file.rename(model / "unet" / "diffusion_pytorch_model-00001-of-00001.safetensors")
    assert variant_of(model) is None


def test_the_better_known_of_several_variants(model: Path) -> None:
    for part in PARTS:
        (file,) = (model / part).glob("*.safetensors")
        for name in ("ema", "fp16"):
            shutil.copy(file, file.with_suffix(f".{name}.safetensors"))
        file.unlink()
    assert variant_of(model) == "fp16"


def test_variants_that_do_not_meet(model: Path) -> None:
    as_variant(model / "vae", "fp16", torch.float16)
    as_variant(model / "unet", "bf16", torch.bfloat16)
    with pytest.raises(AttnregError, match=r"one variant .*unet: bf16; vae: fp16|one variant .*vae: fp16; unet: bf16"):
        load_pipeline(str(model), device="cpu")


def test_the_precision_of_the_files(model: Path) -> None:
    assert kept_in(model) is None
    as_variant(model / "unet", "bf16", torch.bfloat16)
    assert kept_in(model) == torch.bfloat16
