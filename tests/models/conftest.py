"""A tiny pipeline on disk: one that is only read, and copies to spoil."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import tiny


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline directory as diffusers writes it."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    tiny.stable_diffusion().save_pretrained(folder)
    return folder


@pytest.fixture
def model(whole: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(whole, tmp_path / "copy"))
