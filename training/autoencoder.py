"""Stage 1 of the bundled model: a small `AutoencoderTiny`, 8 x 8 pixels to one position of 8 channels.

It is trained on crops around things. The network is convolutional and has no normalisation, so what it learns on crops
holds for whole pictures, and the level of a colour passes straight through. (An `AutoencoderKL` of the same cost lost
tints: its group normalisation hides absolute levels, and learning around that takes longer than the rest together.)
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import Tensor
from torch.nn import Conv2d
from torch.nn import functional as F

from training.grounds import CELL, SIDE
from training.loop import learn
from training.render import compose, draw
from training.words import random_setting, random_things, seen_together

CROP = 64
LATENT_NOISE = 0.15
"""Standard deviation of the noise on the latents, in deviations of the latents, while training."""
SHORTEST = 0.5
"""Deviation of the latents' shortest principal direction, in those of the longest, after `equalise`."""
EQUAL_SCALE = 0.4
"""Deviation of all latents after `equalise`: far inside the decoder's soft clamp at 3, which then does nothing."""


def new_autoencoder() -> AutoencoderTiny:
    """The untrained network: 2 million parameters; nothing but two convolutions runs at full resolution.

    Three quarters are the decoder's, most of them where a position is 8 x 8 pixels and a wide view costs little.
    """
    return AutoencoderTiny(
        encoder_block_out_channels=(48,) * 4,
        decoder_block_out_channels=(64,) * 4,
        num_encoder_blocks=(0, 1, 2, 4),
        num_decoder_blocks=(8, 3, 1, 0),
        latent_channels=8,
    )


def with_new_decoder(old: AutoencoderTiny) -> AutoencoderTiny:
    """An autoencoder of the same latents whose decoder is untrained and as large as it is made now."""
    made = new_autoencoder().to(old.device)
    made.encoder.load_state_dict(old.encoder.state_dict())
    made.register_to_config(scaling_factor=old.config["scaling_factor"])
    return made


def crops(count: int, side: int, rng: random.Random) -> Tensor:
    """Crops of fresh renderings around one of their things, `(count, 3, side, side)` in -1..1."""
    singles, pairs = seen_together(1), seen_together(2)
    out = np.empty((count, side, side, 3), np.uint8)
    for i in range(count):
        scene = compose(list(random_things(rng, pairs if rng.random() < 0.4 else singles)), rng, random_setting(rng))
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
    """L1 + L2 + L1 of horizontal and vertical differences (sharp edges) + L1 of cell means (right colours)."""
    error = output - picture
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    colours = F.avg_pool2d(error, CELL).abs().mean()
    return error.abs().mean() + error.square().mean() + edges + colours


def unit_scale_loss(latents: Tensor) -> Tensor:
    """How far each channel's mean is from 0 and its variance from 1: the scale that diffusion noise is measured in."""
    variance, mean = torch.var_mean(latents, dim=(0, 2, 3))
    return mean.square().mean() + (variance - 1).square().mean()


@torch.no_grad()
def equalise(model: AutoencoderTiny, seed: int = 0) -> Tensor:
    """Lengthen the short principal directions of the latents, in place; returns the matrix `(8, 8)` from old to new.

    The noise of diffusion, equally long in all of them, drowns first what lies along the short ones. The
    matrix goes into the encoder's last and its inverse into the decoder's first convolution; nothing but the decoder's
    soft clamp comes between, so pictures hardly change (`polish` sees to the rest). A second call changes nothing.
    """
    latents = model.encode(crops(256, CROP, random.Random(f"{seed} equalise")).to(model.device)).latents
    flat = latents.movedim(1, -1).flatten(0, -2).double()
    lengths, directions = torch.linalg.eigh(flat.T.cov())
    lengths = lengths.sqrt()
    longer = lengths.clamp(min=SHORTEST * lengths.max())
    matrix: Tensor = directions * (longer / lengths) @ directions.T
    matrix *= EQUAL_SCALE / longer.square().mean().sqrt()
    into, out_of = model.encoder.layers[-1], model.decoder.layers[0]
    fold_out(into, matrix)
    fold_in(out_of, matrix.inverse())
    return matrix


@torch.no_grad()
def fold_out(layer: Conv2d, matrix: Tensor) -> None:
    """Let a convolution give `matrix` times what it gave."""
    layer.weight.copy_(torch.einsum("oi,ihwk->ohwk", matrix, layer.weight.double()))
    if layer.bias is not None:
        layer.bias.copy_(matrix @ layer.bias.double())


@torch.no_grad()
def fold_in(layer: Conv2d, matrix: Tensor) -> None:
    """Let a convolution read `matrix` times its input."""
    layer.weight.copy_(torch.einsum("oihw,ik->okhw", layer.weight.double(), matrix))


def train(
    out: Path,
    minutes: float,
    *,
    start: AutoencoderTiny | None = None,
    seed: int = 0,
    batch: int = 24,
    peak_rate: float = 1.5e-3,
    device: str = "cpu",
) -> AutoencoderTiny:
    """Train for so many minutes (added up over resumed runs); leaves `autoencoder.pt` in the folder.

    `start` gives the first weights.
    """
    torch.manual_seed(seed)
    model = (start or new_autoencoder()).to(device)

    def loss_at(step: int, share: float) -> Tensor:
        picture = crops(batch, CROP, random.Random(f"{seed} autoencoder {step}")).to(device)
        latents = model.encode(picture).latents
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(step)).to(device)
        output = model.decode(latents + LATENT_NOISE * noise).sample
        return reconstruction_loss(output, picture) + 0.05 * unit_scale_loss(latents)

    learn(out / "autoencoder.pt", model, loss_at, minutes, peak_rate=peak_rate, weight_decay=1e-3)
    return model


def polish(
    out: Path,
    model: AutoencoderTiny,
    minutes: float,
    *,
    seed: int = 0,
    batch: int = 24,
    peak_rate: float = 5e-4,
    bfloat16: bool = False,
) -> None:
    """Train the decoder alone for so many minutes, in place: the latents stay what they are. Leaves `decoder.pt`.

    `bfloat16`: products in half precision, the weights stay in single.
    """
    model.encoder.requires_grad_(False)

    def loss_at(step: int, share: float) -> Tensor:
        picture = crops(batch, CROP, random.Random(f"{seed} decoder {step}")).to(model.device)
        with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=bfloat16):
            latents = model.encode(picture).latents
            noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(step)).to(model.device)
            output = model.decode(latents + LATENT_NOISE * latents.std() * noise).sample
        return reconstruction_loss(output.float(), picture)

    learn(out / "decoder.pt", model.decoder, loss_at, minutes, peak_rate=peak_rate, weight_decay=1e-3)
