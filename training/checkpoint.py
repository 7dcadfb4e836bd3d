"""Training state on disk, written whole or not at all, so that a killed run goes on where it was; weights alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn


def save(path: Path, state: dict[str, Any]) -> None:
    """Write the state to a neighbouring file, then move it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def load(path: Path) -> dict[str, Any] | None:
    """The state of an earlier run, or `None` if there is none. Only tensors and plain values are read."""
    return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None


def export(path: Path, model: nn.Module, words: Mapping[str, Sequence[str]]) -> None:
    """Write the weights alone, in float16, as safetensors, with the words that the model knows, and their SHA-256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()}
    save_file(weights, path, metadata={kind: json.dumps(known) for kind, known in words.items()})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".sha256").write_text(f"{digest}  {path.name}\n", "ascii")  # as sha256sum writes and checks it
