"""Other noises to begin a picture with, decided by the one that was given: one seed gives one picture."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor


def noises_like(
    latent: Float[Tensor, "*latent"], count: int, newness: float = 1.0
) -> Iterator[Float[Tensor, "*latent"]]:
    """The latent itself, then normal noise of its strength, decided by the signs of its values.

    The signs are the same in any company and any precision. newness: how far the others are from the given one, which
    keeps a part of `sqrt(1 - newness^2)` in them: at 1 they have nothing of it, at 0 they are it.
    """
    yield latent
    scale = latent.float().square().mean().sqrt().cpu()
    kept = math.sqrt(1 - newness**2)
    for noise in islice(normal_noises(latent), count - 1):
        fresh = (scale * noise).to(latent)
        yield newness * fresh + kept * latent if kept else fresh


def normal_noises(latent: Float[Tensor, "*latent"]) -> Iterator[Float[Tensor, "*latent"]]:
    """Normal noise of variance 1 without end, float32 on the CPU, decided by the signs of a latent's values."""
    signs = (latent > 0).cpu().contiguous().numpy().tobytes()
    generator = torch.Generator("cpu").manual_seed(int.from_bytes(hashlib.sha256(signs).digest()[:7], "big"))
    while True:
        yield torch.randn(latent.shape, generator=generator)
