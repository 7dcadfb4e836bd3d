"""Open a pipeline by name, directory, checkpoint or hub id. No pickle is read, no code of a model is run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from attnreg.devices import check_device
from attnreg.models.about import BUNDLED, POCKET_NAME, folder_of
from attnreg.models.collecting import without_collecting
from attnreg.models.directory import PICKLES, SAFE, check_directory, kept_in, variant_of
from attnreg.models.loaded import check_finite, check_whole, noticing_missing
from attnreg.models.single_file import load_checkpoint, read_checkpoint
from attnreg.types import AttnregError

WEIGHTS = (SAFE, *PICKLES)
"""How a file of weights ends: such a name is no hub id."""
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler-a": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "lcm": "LCMScheduler",
    "pndm": "PNDMScheduler",
    "unipc": "UniPCMultistepScheduler",
}
"""Short names of the schedulers that take over another scheduler's configuration."""


def load_pipeline(model: str = POCKET_NAME, *, device: str = "auto", dtype: str = "auto") -> Any:
    """Open a model.

    Args:
        model: "pocket" or "pocket-joint" (the bundled ones), a directory in diffusers' layout, a single .safetensors
            checkpoint, or a hub id such as "org/name".
        device: "auto" takes CUDA, else MPS, else the CPU.
        dtype: "auto" is float32 on a CPU, else the half precision that the denoiser is kept in, else float16.

    Returns:
        Its pipeline, in evaluation mode on the device.

    Raises:
        AttnregError: there is no such model, it is none, it is damaged, its weights are pickled, or it brings code of
            its own.
    """
    device = check_device(device)
    pick_dtype(dtype, device)
    place = place_of(model)
    quiet = _no_surprise_at_small_autoencoders()
    with without_collecting(), _one_line(model, place), quiet, noticing_missing() as missing:
        if place is not None and place.is_file():
            pipe = load_checkpoint(place, pick_dtype(dtype, device), device)
        else:
            pipe = _open_directory(place or _fetched(model), dtype, device)
    if missing:
        raise AttnregError(
            f"expected every weight of a model, got {model} without {missing[0]}; the file is damaged or of another "
            "model: download it again"
        )
    check_whole(pipe, model)
    pipe = pipe.to(device)
    check_finite(pipe, model)
    pipe.set_progress_bar_config(leave=False)
    return pipe


def place_of(model: str) -> Path | None:
    """Where a model lies on this machine: a directory or a file; `None` for a hub id.

    Raises:
        AttnregError: it is neither, or nothing that can be read.
    """
    place = folder_of(model)
    if place.is_dir() or place.is_file():
        return place
    if place.exists() or model.count("/") != 1 or model.startswith((".", "/", "~")) or model.endswith(WEIGHTS):
        kind = "neither file nor directory" if place.exists() else "nothing there"
        raise AttnregError(
            f"expected {' or '.join(BUNDLED)}, a directory in diffusers' layout, a .safetensors checkpoint or a hub id "
            f"like org/name, got {model!r} ({kind}); check the spelling"
        )
    return None


def check_model(model: str) -> Path | None:
    """Make sure of all that can be known of a model before it is loaded.

    Returns:
        Where it lies on this machine; `None` for a hub id, of which nothing is known yet.

    Raises:
        AttnregError: there is no such model, or it would not be opened.
    """
    place = place_of(model)
    if place is not None and place.is_dir():
        check_directory(place)
    elif place is not None:
        read_checkpoint(place)
    return place


def _open_directory(folder: Path, dtype: str, device: str) -> Any:
    from diffusers import DiffusionPipeline  # seconds to load, for who opens a model

    check_directory(folder)
    return DiffusionPipeline.from_pretrained(
        str(folder),
        dtype=pick_dtype(dtype, device, kept_in(folder)),
        use_safetensors=True,
        local_files_only=True,
        variant=variant_of(folder),
    )


def _fetched(model: str) -> Path:
    """The hub's files of a model on this machine, fetched if need be: looked at like any directory before they open."""
    from diffusers import DiffusionPipeline

    return Path(DiffusionPipeline.download(model, use_safetensors=True))


@contextmanager
def _one_line(model: str, place: Path | None) -> Iterator[None]:
    """Whatever the libraries raise at a model becomes one line; what is ours already is let through."""
    try:
        yield
    except AttnregError:
        raise
    except Exception as error:  # of every kind, at a file that is cut off or of another release
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        remedy = "check its files" if place else "check the id and the network, or give a directory"
        raise AttnregError(f"expected a model that opens, got {model!r}: {first[:300]}; {remedy}") from error


@contextmanager
def _no_surprise_at_small_autoencoders() -> Iterator[None]:
    """Without diffusers' remarks on `AutoencoderTiny`: that it is no `AutoencoderKL`, and has a setting too many.

    Pipelines are made to run with both.
    """

    def expected(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        remarks = ("Expected types for vae", "The config attributes {'block_out_channels'")
        return not (text.startswith(remarks) and "AutoencoderTiny" in text)

    loggers = [logging.getLogger(f"diffusers.{name}") for name in ("pipelines.pipeline_utils", "configuration_utils")]
    for logger in loggers:
        logger.addFilter(expected)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(expected)


def pick_dtype(dtype: str, device: str, kept: torch.dtype | None = None) -> torch.dtype:
    """The torch type of a name.

    Args:
        dtype: one of `DTYPES`, or "auto": float32 on a CPU, else the half precision of the files, else float16. Models
            that were trained in bfloat16 overflow in float16.
        device: where it shall run.
        kept: what the denoiser is kept in.

    Raises:
        AttnregError: another name.
    """
    if dtype == "auto":
        if torch.device(device).type == "cpu":
            return torch.float32
        return torch.bfloat16 if kept is torch.bfloat16 else torch.float16
    if dtype not in DTYPES:
        raise AttnregError(f"expected a dtype of {', '.join(DTYPES)} or auto, got {dtype!r}; choose one of them")
    return DTYPES[dtype]


def set_scheduler(pipe: Any, name: str) -> None:
    """Give the pipeline another scheduler with the configuration of its own.

    Raises `AttnregError` for a name that is not in `SCHEDULERS`.
    """
    if name not in SCHEDULERS:
        raise AttnregError(f"expected a scheduler of {', '.join(SCHEDULERS)}, got {name!r}; choose one of them")
    import diffusers

    pipe.scheduler = getattr(diffusers, SCHEDULERS[name]).from_config(pipe.scheduler.config)
