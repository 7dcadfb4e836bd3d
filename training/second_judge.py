"""A second judge of another make, to check the first: `python -m training.second_judge`.

It differs in everything but the renderings: a plain chain of convolutions without shortcuts, coarser maps, another
seed, and one answer a picture: it is told which nouns a picture shows and never where (the loudest place speaks).
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from training import checkpoint
from training.judge_pictures import Shown, batch
from training.loop import learn
from training.words import NOUNS

WEIGHTS = Path(__file__).parent / "second-judge.safetensors"


class Namer(nn.Module):
    """Logits `(n, noun)` for "the picture shows one"."""

    def __init__(self, nouns: int, widths: tuple[int, ...] = (24, 48, 80, 80, 128, 128)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for index, after in enumerate(widths):
            stride, side = (1, 3) if index in (3, 5) else (2, 5 if index == 0 else 3)
            layers += [
                nn.Conv2d(before, after, side, stride, side // 2, bias=False), nn.BatchNorm2d(after), nn.ReLU(),
            ]  # fmt: skip
            before = after
        last = nn.Conv2d(before, nouns, 1)
        # Nearly every place shows nothing: begin there.
        nn.init.constant_(last.bias, -6.0)  # type: ignore[arg-type]
        self.body = nn.Sequential(*layers, last)

    def forward(self, pictures: Tensor) -> Tensor:
        """The loudest place speaks for the picture, smoothly while learning."""
        places: Tensor = self.body(pictures).flatten(2)
        return places.logsumexp(dim=-1) if self.training else places.amax(dim=-1)


def presence(shown: list[list[Shown]]) -> Tensor:
    """1 where a noun is shown, `(n, noun)`."""
    there = torch.zeros(len(shown), len(NOUNS))
    for row, things in zip(there, shown, strict=True):
        for one in things:
            row[NOUNS.index(one.thing.noun)] = 1
    return there


def train(
    work: Path,
    minutes: float,
    coder: AutoencoderTiny | None,
    *,
    seed: int = 1,
    size: int = 32,
    bfloat16: bool = False,
) -> Namer:
    """Train for so many minutes (added up over resumed runs); leaves `second-judge.pt` in the folder.

    `bfloat16`: products in half precision, the weights stay in single.
    """
    torch.manual_seed(seed)
    model = Namer(len(NOUNS))

    def loss_at(step: int, share: float) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            pictures, shown = batch(size, random.Random(f"{seed} second judge {step}"), coder)
            logits = model(pictures).float()
        return F.binary_cross_entropy_with_logits(logits, presence(shown), reduction="sum") / size

    learn(work / "second-judge.pt", model, loss_at, minutes, peak_rate=2e-3)
    return model


def opened(path: Path = WEIGHTS) -> Namer:
    """The exported judge, ready to be asked."""
    model = Namer(len(NOUNS))
    model.load_state_dict(load_file(path))
    return model.eval()


def main() -> None:
    """Read the budget from the command line, train, write the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("training/runs/judge"), help="checkpoints")
    parser.add_argument("--model", type=Path, default=Path("src/attnreg/models/pocket"), help="its autoencoder wears")
    parser.add_argument("--minutes", type=float, default=52)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--bfloat16", action="store_true", help="half precision: faster where the processor knows it")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    coder = AutoencoderTiny.from_pretrained(arguments.model / "vae").eval()
    model = train(arguments.work, arguments.minutes, coder, seed=arguments.seed, bfloat16=arguments.bfloat16)
    checkpoint.export(arguments.out, model, {"nouns": NOUNS})


if __name__ == "__main__":
    main()
