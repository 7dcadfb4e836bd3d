"""Names and directories become pipelines; nothing is unpickled and no code of a directory is run."""

from __future__ import annotations

import json
import logging
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

import tiny
from attnreg.devices import check_device
from attnreg.models.about import BUNDLED, POCKET, folder_of
from attnreg.models.directory import check_directory
from attnreg.models.load import (
    DTYPES,
    SCHEDULERS,
    load_pipeline,
    pick_dtype,
    set_scheduler,
)
from attnreg.types import AttnregError


def change(file: Path, **entries: Any) -> None:
    """Set entries of a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


def test_opens_a_directory_without_the_network(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a local model needs no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    pipe = load_pipeline(str(whole), device="cpu")
    before = tiny.stable_diffusion().unet.state_dict()
    after = pipe.unet.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not pipe.unet.training
    assert not pipe.text_encoder.training
    assert pipe.dtype == torch.float32


def test_precision_by_name(whole: Path) -> None:
    pipe = load_pipeline(str(whole), device="cpu", dtype="bfloat16")
    assert pipe.unet.dtype == pipe.vae.dtype == pipe.text_encoder.dtype == torch.bfloat16


def test_dtypes_and_devices() -> None:
    assert [pick_dtype(name, "cpu") for name in DTYPES] == [torch.float32, torch.float16, torch.bfloat16]
    assert pick_dtype("auto", "cpu") == pick_dtype("auto", "cpu:0") == torch.float32
    assert pick_dtype("auto", "cuda:1") == pick_dtype("auto", "mps") == torch.float16
    assert pick_dtype("auto", "cuda", torch.bfloat16) == torch.bfloat16, "in float16 such a model may overflow"
    assert pick_dtype("auto", "cpu", torch.bfloat16) == torch.float32
    assert check_device("cpu") == "cpu"
    with pytest.raises(AttnregError, match=r"float32, float16, bfloat16 or auto, got 'half'"):
        pick_dtype("half", "cpu")
    for device in ("gpu", "cuda:99", ""):
        with pytest.raises(AttnregError, match=f"got '{device}'"):
            check_device(device)


def test_auto_takes_the_best_device(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for cuda, mps in ((True, True), (False, True), (False, False)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
        found.append(check_device("auto"))
    assert found == ["cuda", "mps", "cpu"]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' own, on numpy 2
@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers_take_over_the_configuration(name: str) -> None:
    pipe = tiny.stable_diffusion()
    set_scheduler(pipe, name)
    assert type(pipe.scheduler) is getattr(diffusers, SCHEDULERS[name])
    assert pipe.scheduler.config.beta_end == 0.012
    assert pipe.scheduler.config.beta_schedule == "scaled_linear"


def test_an_unknown_scheduler() -> None:
    with pytest.raises(AttnregError, match=r"ddim, ddpm, .*got 'plms'"):
        set_scheduler(tiny.stable_diffusion(), "plms")


def test_pocket_is_the_bundled_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert folder_of("pocket") == POCKET
    assert {name: folder_of(name) for name in BUNDLED} == BUNDLED
    assert [folder.relative_to(POCKET.parent).as_posix() for folder in BUNDLED.values()] == ["pocket", "pocket-joint"]
    assert {folder.parent.name for folder in BUNDLED.values()} == {"models"}
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folder_of("~/models/one") == tmp_path / "models" / "one"


@pytest.mark.parametrize("name", ["poket", "./nowhere", "/no/such/model", "~/nowhere", "a/b/c", ""])
def test_no_such_model(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AttnregError, match="expected") as told:
        load_pipeline(name, device="cpu")
    assert name in str(told.value)


def test_a_hub_id_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the hub's client says becomes one line; only safetensors are asked for."""
    asked: dict[str, Any] = {}

    def fail(name: str, **options: Any) -> None:
        asked.update(options, name=name)
        raise OSError("\nno/such is not a model\nand more\nlines of it")

    monkeypatch.setattr(diffusers.DiffusionPipeline, "download", fail)
    with pytest.raises(AttnregError, match=r"got 'no/such': no/such is not a model; check the id") as told:
        load_pipeline("no/such", device="cpu")
    assert "\n" not in str(told.value)
    assert asked["name"] == "no/such"
    assert asked["use_safetensors"] is True
    assert not asked.get("trust_remote_code")


def test_what_the_hub_gave_is_looked_at_like_any_directory(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's client lets a pickle pass inside of a pipeline within a pipeline: nothing of it is opened."""
    monkeypatch.setattr(diffusers.DiffusionPipeline, "download", lambda *_, **__: str(model))
    assert load_pipeline("org/name", device="cpu").unet.dtype == torch.float32
    (model / "text_encoder" / "model.safetensors").rename(model / "text_encoder" / "pytorch_model.bin")
    with pytest.raises(AttnregError, match="pickled"):
        load_pipeline("org/name", device="cpu")


# --- directories that do not open ---------------------------------------------------------------------------------


def no_index(model: Path) -> None:
    (model / "model_index.json").unlink()


def broken_index(model: Path) -> None:
    (model / "model_index.json").write_text("{")


def index_is_a_list(model: Path) -> None:
    (model / "model_index.json").write_text("[]")


def index_in_another_encoding(model: Path) -> None:
    (model / "model_index.json").write_bytes(b"\xff\xfe{")


def empty_part(model: Path) -> None:
    change(model / "model_index.json", unet=[])


def unknown_class(model: Path) -> None:
    change(model / "model_index.json", _class_name="NoSuchPipeline")


def unknown_part_class(model: Path) -> None:
    change(model / "model_index.json", unet=["diffusers", "NoSuchModel"])


def no_unet(model: Path) -> None:
    shutil.rmtree(model / "unet")


def no_weights(model: Path) -> None:
    (model / "unet" / "diffusion_pytorch_model.safetensors").unlink()


def weights_cut_off(model: Path) -> None:
    file = model / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


def text_weights_cut_off(model: Path) -> None:
    file = model / "text_encoder" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


def weights_of_another_shape(model: Path) -> None:
    change(model / "unet" / "config.json", block_out_channels=[64, 64, 64, 64])


def broken_config(model: Path) -> None:
    (model / "unet" / "config.json").write_text("{")


def no_tokenizer_files(model: Path) -> None:
    """Left alone, this would open: with a tokenizer that knows no word, every prompt is empty."""
    for file in (model / "tokenizer").iterdir():
        file.unlink()


@pytest.mark.parametrize(
    "spoil",
    [
        no_index, broken_index, index_is_a_list, index_in_another_encoding, empty_part, unknown_class,
        unknown_part_class, no_unet, no_weights, weights_cut_off, text_weights_cut_off, weights_of_another_shape,
        broken_config, no_tokenizer_files,
    ],
)  # fmt: skip
def test_what_does_not_open_is_told_in_one_line(spoil: Callable[[Path], None], model: Path) -> None:
    spoil(model)
    with pytest.raises(AttnregError, match="expected") as told:
        load_pipeline(str(model), device="cpu")
    assert str(model) in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.ckpt", "model.pt", "model.pth", "model.pkl"])
def test_pickles_are_refused_before_they_are_read(name: str, model: Path) -> None:
    """As many models on the hub have it: only weights that may run code."""
    (model / "text_encoder" / "model.safetensors").rename(model / "text_encoder" / name)
    with pytest.raises(AttnregError, match=rf"safetensors in .*text_encoder, got {name}"):
        check_directory(model)


def test_pickles_beside_safetensors_are_left_alone(model: Path) -> None:
    """The pickle would not even open; the safetensors are taken."""
    (model / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"not read")
    (model / "text_encoder" / "pytorch_model.bin").write_bytes(b"not read")
    load_pipeline(str(model), device="cpu")


# --- directories that bring code ----------------------------------------------------------------------------------

EVIL = "import pathlib\npathlib.Path({marker!r}).write_text('run')\nclass Evil:\n    pass\n"


def code_as_pipeline(model: Path, code: str) -> None:
    (model / "evil.py").write_text(code)
    change(model / "model_index.json", _class_name=["evil", "Evil"])


def code_as_part(model: Path, code: str) -> None:
    (model / "unet" / "evil.py").write_text(code)
    change(model / "model_index.json", unet=["evil", "Evil"])


def code_as_automatic_model(model: Path, code: str) -> None:
    (model / "text_encoder" / "evil.py").write_text(code)
    change(model / "model_index.json", text_encoder=["transformers", "AutoModel"])
    change(model / "text_encoder" / "config.json", auto_map={"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"})


def code_as_automatic_diffusers_model(model: Path, code: str) -> None:
    (model / "unet" / "evil.py").write_text(code)
    change(model / "model_index.json", unet=["diffusers", "AutoModel"])
    change(model / "unet" / "config.json", auto_map={"AutoModel": "evil.Evil"})


def code_as_tokenizer(model: Path, code: str) -> None:
    (model / "tokenizer" / "evil.py").write_text(code)
    change(model / "model_index.json", tokenizer=["transformers", "AutoTokenizer"])
    change(model / "tokenizer" / "tokenizer_config.json", auto_map={"AutoTokenizer": [None, "evil.Evil"]})


@pytest.mark.parametrize(
    "bring",
    [code_as_pipeline, code_as_part, code_as_automatic_model, code_as_automatic_diffusers_model, code_as_tokenizer],
)
def test_code_of_a_directory_is_not_run(
    bring: Callable[[Path, str], None], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is anyone asked whether it should be: a nod given by mistake would run it."""
    marker = model / "marker"
    bring(model, EVIL.format(marker=str(marker)))
    monkeypatch.syspath_prepend(str(model))
    questions = []
    monkeypatch.setattr("builtins.input", lambda *question: questions.append(question) or "y")
    with pytest.raises(AttnregError, match="expected"):
        load_pipeline(str(model), device="cpu")
    assert not marker.exists()
    assert questions == []


def test_a_small_autoencoder_is_no_surprise(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """diffusers remarks on it; other remarks of the same place still come through, and the filter goes away."""
    pipe = tiny.stable_diffusion()
    pipe.vae = diffusers.AutoencoderTiny(
        encoder_block_out_channels=(8,) * 2, decoder_block_out_channels=(8,) * 2,
        num_encoder_blocks=(0, 1), num_decoder_blocks=(1, 0),
    )  # fmt: skip
    pipe.save_pretrained(tmp_path)
    logger = logging.getLogger("diffusers.pipelines.pipeline_utils")
    logger.addHandler(caplog.handler)  # diffusers' loggers do not propagate
    try:
        before = list(logger.filters)
        loaded = load_pipeline(str(tmp_path), device="cpu")
        assert type(loaded.vae).__name__ == "AutoencoderTiny"
        assert logger.filters == before
        assert not [record for record in caplog.records if "Expected types" in record.getMessage()]
    finally:
        logger.removeHandler(caplog.handler)
