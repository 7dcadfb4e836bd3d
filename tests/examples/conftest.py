"""Tiny stand-ins for the weights that the notebooks name, as directories in the hub's layout."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny
import tiny_transformers

# One tiny OWLv2 is enough for the project.
from tests.measure.conftest import owlv2_folder as owlv2_folder


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Stable Diffusion 1.x and Sana, with random weights."""
    folder = tmp_path_factory.mktemp("models")
    made = {"stable-diffusion": tiny.stable_diffusion(), "sana": tiny_transformers.sana()}
    for name, pipe in made.items():
        pipe.save_pretrained(folder / name)
    return {name: folder / name for name in made}
