"""Make the bundled judge from nothing: `python -m training.judge`. Killed at any moment, it goes on where it was.

It learns from renderings alone, worn as generated pictures are; it has never seen a generated picture, and the model
has never been trained with it. `training.second_judge` checks it.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from attnreg.measure.pocket_network import STRIDE, Spotter
from training import checkpoint
from training.judge_pictures import Shown, batch
from training.loop import learn
from training.words import COLOURS, NOUNS

CELLS = 128 // STRIDE


def targets(shown: list[list[Shown]]) -> tuple[Tensor, Tensor]:
    """What the maps should say: heat `(n, noun, y, x)` in 0..1, one at each centre; colours `(n, y, x)`, -1 for none.

    Around a centre the heat falls as a Gaussian, so that a near miss costs little (Zhou et al. 2019, section 3).
    """
    heat = torch.zeros(len(shown), len(NOUNS), CELLS, CELLS)
    colour = torch.full((len(shown), CELLS, CELLS), -1)
    axis = torch.arange(CELLS) + 0.5
    for i, things in enumerate(shown):
        for one in things:
            x, y = one.x / STRIDE, one.y / STRIDE
            column, row = int(min(max(x, 0), CELLS - 0.01)), int(min(max(y, 0), CELLS - 0.01))
            distance = (axis[None, :] - (column + 0.5)) ** 2 + (axis[:, None] - (row + 0.5)) ** 2
            index = NOUNS.index(one.thing.noun)
            heat[i, index] = torch.maximum(heat[i, index], torch.exp(-distance / 2))
            if one.thing.colour:
                colour[i, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = list(COLOURS).index(
                    one.thing.colour
                )
    return heat, colour


def loss_of(heat_logits: Tensor, colour_logits: Tensor, heat: Tensor, colour: Tensor) -> Tensor:
    """Penalty-reduced focal loss of the centres (Zhou et al. 2019, equation 1) plus cross-entropy of the colours."""
    sure, unsure = F.logsigmoid(heat_logits), F.logsigmoid(-heat_logits)
    p = heat_logits.sigmoid()
    centre = heat == 1
    focal = torch.where(centre, -((1 - p) ** 2) * sure, -((1 - heat) ** 4) * p**2 * unsure)
    colours = F.cross_entropy(colour_logits, colour, ignore_index=-1, reduction="sum") / (colour >= 0).sum().clamp(1)
    return focal.sum() / centre.sum().clamp(1) + 0.5 * colours


def train(
    work: Path,
    minutes: float,
    coder: AutoencoderTiny | None,
    *,
    start: Path | None = None,
    seed: int = 0,
    size: int = 32,
    peak_rate: float = 2e-3,
) -> Spotter:
    """Train for so many minutes (added up over resumed runs); leaves `judge.pt` in the folder.

    `start`: exported weights to go on from.
    """
    torch.manual_seed(seed)
    model = Spotter(len(NOUNS), len(COLOURS))
    if start:
        model.load_state_dict(load_file(start))

    def loss_at(step: int, share: float) -> Tensor:
        pictures, shown = batch(size, random.Random(f"{seed} judge {step}"), coder)
        heat, colour = model(pictures)
        return loss_of(heat, colour, *targets(shown))

    learn(work / "judge.pt", model, loss_at, minutes, peak_rate=peak_rate)
    return model


def main() -> None:
    """Read the budget from the command line, train, write the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("training/runs/judge"), help="checkpoints")
    parser.add_argument("--out", type=Path, default=Path("src/attnreg/measure/pocket-judge.safetensors"))
    parser.add_argument("--model", type=Path, default=Path("src/attnreg/models/pocket"), help="its autoencoder wears")
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--start", type=Path, help="exported weights to go on from, instead of random ones")
    parser.add_argument("--rate", type=float, default=2e-3, help="peak rate of learning; a quarter to go on with")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    coder = AutoencoderTiny.from_pretrained(arguments.model / "vae").eval()
    model = train(
        arguments.work, arguments.minutes, coder, start=arguments.start, seed=arguments.seed, peak_rate=arguments.rate
    )
    checkpoint.export(arguments.out, model, {"nouns": NOUNS, "colours": list(COLOURS)})


if __name__ == "__main__":
    main()
