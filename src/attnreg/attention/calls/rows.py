"""Which rows of a denoiser's batch belong to which image: found by the embeddings, not by their place."""

from __future__ import annotations

import torch
from torch import Tensor

from attnreg.attention.families.family import Embeddings
from attnreg.types import AttnregError

Pairs = tuple[tuple[int, int], ...]
"""`(row, image)` for rows of a batch that hold images' prompts."""


def rows_if_there(hidden: Embeddings, embeddings: Embeddings, negative: Embeddings | None) -> Pairs | None:
    """As `rows_of_images`; `None` if the embeddings are not all there."""
    try:
        return tuple(rows_of_images(hidden, embeddings, negative))
    except AttnregError:
        return None


def rows_of_images(hidden: Embeddings, embeddings: Embeddings, negative: Embeddings | None) -> list[tuple[int, int]]:
    """`(row, image)` for every row of the batch `hidden` that holds an image's embedding.

    Pipelines around a UNet stack blocks of one row an image, each of all prompts or of all negative prompts, in any
    order (perturbed-attention guidance has the prompts twice). Where both read alike the first block is the negatives'.
    In other batches each image's rows are looked for one by one; images with the same prompt take its rows in turn.

    Raises `AttnregError` if an image's embedding is in no row, or in a number of rows that does not go round.
    """
    if isinstance(hidden, Tensor) and isinstance(embeddings, Tensor) and isinstance(negative, Tensor | None):
        wanted: Embeddings = embeddings.to(hidden)
        if (blocks := _blocks(hidden, embeddings.to(hidden), negative)) is not None:
            return [(block * len(wanted) + image, image) for block in blocks for image in range(len(wanted))]
    else:
        wanted = [one.to(hidden[0]) for one in embeddings]
    pairs: list[tuple[int, int]] = []
    left = list(range(len(wanted)))
    while left:
        first = wanted[left[0]]
        images = [image for image in left if torch.equal(wanted[image], first)]
        left = [image for image in left if image not in images]
        rows = [row for row in range(len(hidden)) if torch.equal(hidden[row], first)]
        if negative is not None and len(rows) > len(images) and torch.equal(negative[images[0]].to(first), first):
            rows = rows[len(images) :]
        if not rows or len(rows) % len(images):
            raise AttnregError(
                f"expected the embedding {tuple(first.shape)} of {len(images)} images among the {len(hidden)} rows "
                f"{tuple(hidden[0].shape)} that the denoiser was given, got {len(rows)} of them; "
                "something changes the embeddings after encode_prompt: leave it out"
            )
        pairs += [(row, images[i % len(images)]) for i, row in enumerate(rows)]
    return pairs


def _blocks(hidden: Tensor, wanted: Tensor, negative: Tensor | None) -> list[int] | None:
    """Which blocks of the batch hold the prompts; `None` if it is not made of blocks of prompts and of negatives."""
    if hidden.shape[1:] != wanted.shape[1:] or len(hidden) % len(wanted):
        return None
    without = None if negative is None or negative.shape != wanted.shape else negative.to(hidden)
    blocks = hidden.split(len(wanted))
    prompts = [number for number, block in enumerate(blocks) if torch.equal(block, wanted)]
    if without is not None and len(blocks) > 1 and torch.equal(without, wanted):
        prompts = prompts[1:]
    others = [block for number, block in enumerate(blocks) if number not in prompts]
    fitting = all(without is not None and torch.equal(block, without) for block in others)
    return prompts if prompts and fitting else None
