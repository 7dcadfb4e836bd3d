"""What the tests of the families share: a tiny pipeline of the one that is asked about, and how it draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from promises import PROMPT
from torch import Tensor

import tiny_families


@pytest.fixture(scope="module")
def pipe(name: str) -> Any:
    """A module says which by a fixture `name` of its own."""
    return tiny_families.EVERY[name]()


@pytest.fixture(scope="module")
def draw(request: pytest.FixtureRequest, name: str, pipe: Any) -> Callable[..., Tensor]:
    """Latents in as many steps as the module's `STEPS`, small, not square and guided."""
    usual = {"num_inference_steps": request.module.STEPS, "output_type": "latent"} | tiny_families.SMALL_OF_EVERY[name]

    def drawn(prompt: Any = PROMPT, seed: int = 0, **options: Any) -> Tensor:
        return tiny_families.drawn(pipe, prompt, usual | options, seed)

    return drawn


@pytest.fixture(scope="module")
def plain(draw: Callable[..., Tensor]) -> Tensor:
    """The unmodified picture."""
    return draw()
