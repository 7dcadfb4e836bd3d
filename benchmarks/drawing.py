"""Many pictures of the bundled model at once: what the measurements here share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import AutoencoderKL

from attnreg.attention.regulate import regulate
from attnreg.measure.asked import Prompt
from attnreg.models.about import about

BATCH = 8
Job = tuple[Prompt, int]
"""A prompt and a seed."""


class Drawn(NamedTuple):
    """A picture and what decides it."""

    prompt: Prompt
    seed: int
    picture: Any


def untrained_vae() -> AutoencoderKL:
    """A small autoencoder that halves the picture three times, for pipelines whose denoiser alone is measured."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32,) * 4,
    ).eval()


def drawn(
    pipe: Any, prompts: Sequence[Prompt], seeds: Sequence[int], edit: Any = None, **options: Any
) -> Iterator[Drawn]:
    """Every prompt with every seed, so many in one call of the pipeline; the same pictures whatever the batch.

    options: of the pipeline's call; steps and guidance that are not told, or `None`, are the model's own.
    """
    yield from jobs_drawn(pipe, ((prompt, seed) for prompt in prompts for seed in seeds), edit, **options)


def jobs_drawn(pipe: Any, jobs: Iterable[Job], edit: Any = None, **options: Any) -> Iterator[Drawn]:
    """Some prompts, each with its own seed; see `drawn`."""
    for some in batched(jobs):
        with regulate(pipe, config=edit) if edit is not None else nullcontext():
            pictures = together(pipe, some, **options)
        yield from (Drawn(prompt, seed, picture) for (prompt, seed), picture in zip(some, pictures, strict=True))


def batched(jobs: Iterable[Job]) -> Iterator[list[Job]]:
    """As many prompts and seeds as are drawn in one call of the pipeline."""
    rest = iter(jobs)
    while some := list(islice(rest, BATCH)):
        yield some


def together(pipe: Any, jobs: Sequence[Job], **options: Any) -> list[Any]:
    """The pictures of one call of the pipeline, with what its model says it draws best with."""
    told = about(Path(pipe.name_or_path))
    assert told, "a model of training/ says what it draws best with"
    best = {"num_inference_steps": told.steps, "guidance_scale": told.guidance_scale}
    pictures: list[Any] = pipe(
        [prompt.text for prompt, _ in jobs],
        generator=[torch.Generator().manual_seed(seed) for _, seed in jobs],
        **best | {name: value for name, value in options.items() if value is not None},
    ).images
    return pictures


def mean_absolute_difference(first: Any, second: Any) -> float:
    """Mean absolute difference of two pictures, in 0..1: not the distance of the judge `pixels`, a root mean square."""
    a, b = (np.asarray(picture.convert("RGB"), np.float64) for picture in (first, second))
    return float(np.abs(a - b).mean() / 255)
