"""Stage 1 of the bundled model: a small `AutoencoderKL`, 8 x 8 pixels to one position of 8 channels.

It is trained on crops around things: the network is convolutional, so what it learns there holds for whole pictures,
at half of the cost and without spending most of it on plain ground.
"""

from __future__ import annotations

import math
import random
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from training import checkpoint
from training.render import CELL, SIDE, compose, draw
from training.words import random_things, seen_pairs

CROP = 96
LATENT_NOISE = 0.15
"""Standard deviation of the noise on the latents while training; also the posterior's, as the model reports it."""


def new_autoencoder() -> AutoencoderKL:
    """The untrained network: 2.6 million parameters, attention-free, so that crops and pictures are treated alike."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 128),
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=8,
        sample_size=SIDE,
        mid_block_add_attention=False,
    )


def crops(count: int, side: int, rng: random.Random) -> Tensor:
    """Crops of fresh renderings around one of their things, `(count, 3, side, side)` in -1..1."""
    pairs = seen_pairs()
    out = np.empty((count, side, side, 3), np.uint8)
    for i in range(count):
        scene = compose(list(random_things(rng, pairs, pair_share=0.4)), rng)
        target = rng.choice(scene.placed)
        top, left = (
            min(max(start + (target.size - side) // 2 + rng.randint(-3, 3) * CELL, 0), SIDE - side) // CELL * CELL
            for start in (target.top, target.left)
        )
        out[i] = draw(scene)[top : top + side, left : left + side]
    return to_tensor(out)


def to_tensor(pictures: np.ndarray) -> Tensor:
    """uint8 `(n, height, width, 3)` to float32 `(n, 3, height, width)` in -1..1."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def reconstruction_loss(output: Tensor, picture: Tensor) -> Tensor:
    """L1 + L2 + L1 of horizontal and vertical differences (sharp edges) + L1 of cell means (right colours).

    The last is what makes colours come early: group normalisation hides them from the network's inner layers, and to
    the other terms a wrong tint of a pale ground is cheap.
    """
    error = output - picture
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    colours = F.avg_pool2d(error, CELL).abs().mean()
    return error.abs().mean() + error.square().mean() + edges + 4 * colours


def train(
    out: Path,
    minutes: float,
    *,
    decoder_only: bool = False,
    start: AutoencoderKL | None = None,
    seed: int = 0,
    peak_rate: float = 2e-3,
    device: str = "cpu",
) -> AutoencoderKL:
    """Train for so many minutes (added up over resumed runs); leaves `autoencoder.pt`, or `decoder.pt`, in the folder.

    First both halves learn from crops. `decoder_only` goes on from there with the latents as they are and on whole
    pictures, whose statistics (group normalisation) are not quite those of crops. `start` gives the first weights.
    """
    torch.manual_seed(seed)
    path = out / ("decoder.pt" if decoder_only else "autoencoder.pt")
    side, batch = (SIDE, 8) if decoder_only else (CROP, 14)
    model = (start or new_autoencoder()).to(device)
    if decoder_only:
        first = checkpoint.load(out / "autoencoder.pt")
        assert first, "the decoder is sharpened after the autoencoder is trained"
        model.load_state_dict(first["model"])
        for frozen in (model.encoder, model.quant_conv):
            frozen.requires_grad_(False)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(learning, lr=peak_rate, betas=(0.9, 0.99), weight_decay=1e-3)
    step, spent = 0, 0.0
    if state := checkpoint.load(path):
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        step, spent = state["step"], state["spent"]

    def keep() -> None:
        state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step, "spent": spent}
        checkpoint.save(path, state)

    began, saved, shown = time.monotonic() - spent, time.monotonic(), []
    while spent < 60 * minutes:
        picture = crops(batch, side, random.Random(f"{seed} {path.stem} {step}")).to(device)
        rate = peak_rate * min(1, (step + 1) / 50) * (0.02 + 0.98 * math.cos(0.5 * math.pi * spent / (60 * minutes)))
        for group in optimiser.param_groups:
            group["lr"] = rate
        mean = model.encode(picture).latent_dist.mean
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(step)).to(device)
        output = model.decode(mean + LATENT_NOISE * noise).sample
        # The penalty keeps the latents near unit size, against which the noise is measured.
        loss = reconstruction_loss(output, picture) + 1e-3 * F.relu(mean.square().mean(dim=(2, 3)) - 1).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimiser.step()
        step, spent = step + 1, time.monotonic() - began
        shown.append((output - picture).abs().mean().item() / 2)
        if step % 50 == 0:
            error = np.mean(shown)
            print(f"{path.stem} step {step}, {spent / 60:.1f} min: mean absolute error {error:.4f}", flush=True)
            shown.clear()
        if time.monotonic() - saved > 120:
            keep()
            saved = time.monotonic()
    keep()
    return model.eval()
