"""What was loaded is whole: a name that a flipped bit changed, or a weight that is no number, is told in one line."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny
from attnreg.models.load import load_pipeline
from attnreg.models.loaded import TRANSFORMERS, check_finite, check_whole, noticing_missing
from attnreg.types import AttnregError

FILES = {
    "vae": ("diffusion_pytorch_model.safetensors", b"decoder.conv_in.bias"),
    "unet": ("diffusion_pytorch_model.safetensors", b"conv_in.weight"),
    "text_encoder": ("model.safetensors", b"final_layer_norm.bias"),
}


@pytest.mark.parametrize("part", FILES)
def test_a_flipped_byte_in_a_header(part: str, model: Path) -> None:
    """A weight has another name then; transformers would put random numbers in its place, and say so nowhere."""
    file, name = FILES[part]
    path = model / part / file
    content = path.read_bytes()
    at = content.index(name) + len(name) - 1
    path.write_bytes(content[:at] + b"x" + content[at + 1 :])
    with pytest.raises(AttnregError, match=r"expected every weight of a model, got .*download it again") as told:
        load_pipeline(str(model), device="cpu")
    assert name.decode() in str(told.value)
    assert str(model) in str(told.value)
    assert "\n" not in str(told.value)


def test_transformers_log_is_as_before(model: Path) -> None:
    logger = logging.getLogger(TRANSFORMERS)
    before = logger.level, list(logger.filters)
    load_pipeline(str(model), device="cpu")
    assert (logger.level, logger.filters) == before


def test_other_remarks_pass(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger(TRANSFORMERS)
    logger.addHandler(caplog.handler)  # of some releases, the loggers do not propagate
    try:
        with noticing_missing() as missing:
            logger.error("something else")
            logger.debug("something small")
    finally:
        logger.removeHandler(caplog.handler)
    assert (set(caplog.messages), missing) == ({"something else"}, [])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("part", FILES)
def test_weights_that_are_no_numbers(part: str, value: float, model: Path) -> None:
    path = model / part / FILES[part][0]
    weights = load_file(path)
    name = max(weights, key=lambda one: weights[one].numel())
    weights[name].view(-1)[-1] = value
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(AttnregError, match=rf"expected weights that are numbers, got .* whose {part}\.") as told:
        load_pipeline(str(model), device="cpu")
    assert "\n" not in str(told.value)


def test_a_pipeline_of_finite_weights_passes() -> None:
    pipe = tiny.stable_diffusion_xl()
    check_whole(pipe, "tiny")
    check_finite(pipe, "tiny")
    check_finite(pipe.to(torch.float16), "tiny")
    pipe.unet.conv_out.bias.data[0] = torch.nan
    with pytest.raises(AttnregError, match=r"tiny whose unet\.conv_out\.bias"):
        check_finite(pipe, "tiny")
