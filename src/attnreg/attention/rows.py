"""Which rows of a denoiser's batch belong to which image: found by the embeddings, not by their place."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from attnreg.types import AttnregError


def rows_of_images(
    hidden: Float[Tensor, "row _ _"],
    embeddings: Float[Tensor, "image token channel"],
    negative: Float[Tensor, "image token channel"] | None,
) -> list[tuple[int, int]]:
    """`(row, image)` for every row of the batch `hidden` that holds an image's embedding.

    No order of conditional and unconditional rows is assumed, nor whether there are any of the latter. An image may
    have several rows (perturbed-attention guidance runs its prompt twice); images with the same prompt take its rows in
    turn. Only where the negative prompt reads like the prompt itself, nothing tells their rows apart: then the first
    ones are the negative's, as in every pipeline around a UNet.

    Raises `AttnregError` if an image's embedding is in no row, or in a number of rows that does not go round.
    """
    wanted = embeddings.to(hidden)
    pairs: list[tuple[int, int]] = []
    left = list(range(len(wanted)))
    while left:
        first = wanted[left[0]]
        images = [image for image in left if torch.equal(wanted[image], first)]
        left = [image for image in left if image not in images]
        rows = [
            row for row in range(len(hidden)) if hidden.shape[1:] == first.shape and torch.equal(hidden[row], first)
        ]
        if negative is not None and len(rows) > len(images) and torch.equal(negative[images[0]].to(hidden), first):
            rows = rows[len(images) :]
        if not rows or len(rows) % len(images):
            raise AttnregError(
                f"expected the embedding {tuple(first.shape)} of {len(images)} images among the {len(hidden)} rows "
                f"{tuple(hidden.shape[1:])} that the denoiser was given, got {len(rows)} of them; "
                "something changes the embeddings after encode_prompt: leave it out"
            )
        pairs += [(row, images[i % len(images)]) for i, row in enumerate(rows)]
    return pairs
