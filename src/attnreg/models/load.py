"""Open a pipeline by name, directory or hub id. No pickle is read, no code of a model directory is run."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from attnreg.devices import check_device
from attnreg.models.about import POCKET, POCKET_NAME
from attnreg.reading import path_of
from attnreg.types import AttnregError

PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
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
    """The pipeline of a model, in evaluation mode on a device.

    model: "pocket" (the bundled one), a directory in diffusers' layout, or a hub id such as "org/name".
    device: "auto" takes CUDA, else MPS, else the CPU. dtype: "auto" is float32 on a CPU, else float16.

    Raises `AttnregError` if there is no such model, if it is no pipeline, if its weights are pickled only or if it
    brings code of its own.
    """
    from diffusers import DiffusionPipeline  # seconds to load, for who opens a model

    device = check_device(device)
    precision = pick_dtype(dtype, device)
    folder = folder_of(model)
    local = folder.is_dir()
    if local:
        check_directory(folder)
    elif folder.exists() or model.count("/") != 1 or model.startswith((".", "/", "~")):
        kind = "a file" if folder.exists() else "nothing there"
        raise AttnregError(
            f"expected '{POCKET_NAME}', a directory in diffusers' layout or a hub id like org/name, got {model!r} "
            f"({kind}); check the spelling"
        )
    try:
        with _no_surprise_at_small_autoencoders():
            pipe = DiffusionPipeline.from_pretrained(
                str(folder) if local else model, dtype=precision, use_safetensors=True, local_files_only=local
            )
    except Exception as error:  # the libraries raise of every kind at a file that is cut off or of another release
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        remedy = "check the directory" if local else "check the id and the network, or give a directory"
        raise AttnregError(f"expected a model that opens, got {model!r}: {first[:300]}; {remedy}") from error
    pipe.set_progress_bar_config(leave=False)
    return pipe.to(device)


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


def folder_of(model: str) -> Path:
    """Where a model of that name lies, or would lie if it is a directory at all."""
    return POCKET if model == POCKET_NAME else path_of(model)


def check_directory(folder: Path) -> None:
    """Raises `AttnregError` unless the directory is a pipeline of safetensors, without code of its own."""
    index = folder / "model_index.json"
    try:
        parts = json.loads(index.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AttnregError(
            f"expected a diffusers pipeline, got {folder}, which holds no model_index.json; "
            "give the directory that holds unet/, vae/ and the others"
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise AttnregError(
            f"expected a readable model_index.json in {folder}, got {error}; download the model again"
        ) from error
    class_name = parts.get("_class_name") if isinstance(parts, dict) else None
    if not isinstance(class_name, str):
        raise AttnregError(
            f"expected the name of a diffusers pipeline class as _class_name in {index}, got {class_name!r}; "
            "pipelines that bring their own code are not run"
        )
    for name, part in parts.items():
        if name.startswith("_") or not isinstance(part, list) or not part or part[0] is None:
            continue
        if part[0] not in ("diffusers", "transformers") and not _in_diffusers(str(part[0])):
            raise AttnregError(
                f"expected the parts of a model from diffusers or transformers, got {name} from {part[0]!r} in "
                f"{index}; code that a model directory brings is not run"
            )
        files = [path for path in (folder / name).glob("*") if path.is_file()]
        if not files:  # of no files at all, transformers makes a tokenizer without words
            raise AttnregError(f"expected files in {folder / name}, got none; download the model again")
        pickled = [path.name for path in files if path.suffix in PICKLES]
        if pickled and not any(path.suffix == ".safetensors" for path in files):
            raise AttnregError(
                f"expected safetensors in {folder / name}, got {pickled[0]}, which is pickled and may run code; "
                "download the model's safetensors or convert it where you trust it"
            )


def _in_diffusers(name: str) -> bool:
    """Whether diffusers has pipelines of that name, whose parts are its own."""
    import diffusers

    return hasattr(diffusers.pipelines, name)


def pick_dtype(dtype: str, device: str) -> torch.dtype:
    """The torch type of a name; "auto" is float32 on a CPU, else float16. Raises `AttnregError` for another name."""
    if dtype == "auto":
        return torch.float32 if torch.device(device).type == "cpu" else torch.float16
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
