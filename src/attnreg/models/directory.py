"""What a model directory may hold: safetensors of known libraries, and neither pickles nor code of its own."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from attnreg.types import AttnregError

INDEX = "model_index.json"
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
SAFE = ".safetensors"
MOST_BYTES = 1 << 20
"""Of a model_index.json; that of a real model has some hundreds."""
MOST_LEVELS, MOST_FOLDERS = 8, 1000
"""Folders within folders of a part, and how many of them; real ones have three levels and a handful."""
PREFERRED = ("fp16", "bf16")
"""Variants to take first where a directory has several: the others are averages or leftovers of the training."""

_VARIANT = re.compile(
    r"[\w-]+?\.(?P<name>\w+)(?:-\d{5}-of-\d{5})?\.safetensors|[\w-]+-\d{5}-of-\d{5}\.(?P<old>\w+)\.safetensors"
)
"""model.fp16.safetensors, model.fp16-00001-of-00002.safetensors, and as it used to be model-00001-of-00002.fp16..."""


def check_directory(folder: Path) -> None:
    """Make sure that a directory is a pipeline of safetensors, without pickles and without code of its own.

    A part that is a pipeline itself is held to the same.

    Args:
        folder: a directory in diffusers' layout.

    Raises:
        AttnregError: it is not; the message names the file.
    """
    index = folder / INDEX
    parts = _read(index)
    class_name = parts.get("_class_name")
    if not isinstance(class_name, str):
        raise AttnregError(
            f"expected the name of a diffusers pipeline class as _class_name in {index}, got {class_name!r}; "
            "pipelines that bring their own code are not run"
        )
    for name, source in _parts(parts):
        if source not in ("diffusers", "transformers") and not _in_diffusers(source):
            raise AttnregError(
                f"expected the parts of a model from diffusers or transformers, got {name} from {source!r} in "
                f"{index}; code that a model directory brings is not run"
            )
        _check_part(folder / name)


def variant_of(folder: Path) -> str | None:
    """The variant to ask for, such as "fp16"; `None` if the files without one are there.

    Many directories hold the half precision alone, as `diffusion_pytorch_model.fp16.safetensors`.

    Args:
        folder: a directory that `check_directory` let pass.

    Raises:
        AttnregError: two parts come in variants of which neither has the other's.
    """
    offered: dict[str, set[str]] = {}
    for name, _ in _parts(_read(folder / INDEX)):
        files = [path.name for path in (folder / name).glob(f"*{SAFE}")]
        found = [_VARIANT.fullmatch(file) for file in files]
        if found and all(found):
            offered[name] = {one["name"] or one["old"] for one in found if one}
    if not offered:
        return None
    shared = set.intersection(*offered.values())
    if not shared:
        told = "; ".join(f"{name}: {', '.join(sorted(variants))}" for name, variants in offered.items())
        raise AttnregError(
            f"expected one variant of the weights that every part of {folder} has, got {told}; "
            "download one of them whole"
        )
    return min(shared, key=lambda name: (PREFERRED.index(name) if name in PREFERRED else len(PREFERRED), name))


def kept_in(folder: Path) -> torch.dtype | None:
    """The half precision that a directory keeps its denoiser in; `None` if it is another or cannot be told."""
    for name in ("transformer", "unet"):
        for path in sorted((folder / name).glob(f"*{SAFE}"))[:1]:
            with safe_open(str(path), "pt") as file:
                kinds = {file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
            return torch.bfloat16 if "BF16" in kinds else torch.float16 if "F16" in kinds else None
    return None


def _check_part(part: Path) -> None:
    """Raises `AttnregError` if one part's folder is empty or would be read by an unpickler, at whatever depth."""
    empty = True
    nested: list[Path] = []
    for folder, names in _folders(part):
        empty &= not names
        inside = any(folder.is_relative_to(one) for one in nested)
        if INDEX in names:
            nested.append(folder)
            check_directory(folder)
            inside = True
        # diffusers does not tell a pipeline within a pipeline to do without pickles: nothing stands before those.
        pickled = [name for name in names if Path(name).suffix.lower() in PICKLES]
        if pickled and (inside or not any(name.endswith(SAFE) for name in names)):
            raise AttnregError(
                f"expected safetensors in {folder}, got {pickled[0]}, which is pickled and may run code; "
                "download the model's safetensors or convert it where you trust it"
            )
    if empty:  # of no files at all, transformers makes a tokenizer without words
        raise AttnregError(f"expected files in {part}, got none; download the model again")


def _folders(part: Path) -> Iterator[tuple[Path, list[str]]]:
    """Every folder of a part, itself first, with the names of its files; links are followed, as libraries do."""
    for count, (folder, below, names) in enumerate(os.walk(part, followlinks=True)):
        if count >= MOST_FOLDERS or len(Path(folder).relative_to(part).parts) >= MOST_LEVELS:
            raise AttnregError(
                f"expected at most {MOST_FOLDERS} folders in {part}, {MOST_LEVELS} within one another, got more; "
                "download the model again"
            )
        below.sort()
        yield Path(folder), sorted(names)


def _parts(index: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and library of every part that a pipeline's index names and that is not left out."""
    for name, told in index.items():
        if name.startswith("_") or not isinstance(told, list) or not any(isinstance(one, str) for one in told):
            continue  # lists of numbers are settings of the pipeline
        if told[0] is not None:
            yield name, str(told[0])


def _read(index: Path) -> dict[str, Any]:
    try:
        if not stat.S_ISREG(index.stat().st_mode):
            raise ValueError("not a file")
        with index.open("rb") as file:
            text = file.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES} bytes")
        told = json.loads(text.decode("utf-8"))
    except FileNotFoundError:
        raise AttnregError(
            f"expected a diffusers pipeline, got {index.parent}, which holds no {INDEX}; "
            "give the directory that holds unet/ or transformer/, vae/ and the others"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise AttnregError(
            f"expected a readable {INDEX} in {index.parent}, got {error}; download the model again"
        ) from error
    if not isinstance(told, dict):
        raise AttnregError(f"expected the parts of a pipeline in {index}, got {told!r:.40}; download the model again")
    return told


def _in_diffusers(name: str) -> bool:
    """Whether diffusers has pipelines of that name, whose parts are its own."""
    import diffusers  # seconds to load

    return hasattr(diffusers.pipelines, name)
