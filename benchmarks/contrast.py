"""How far the bundled model's latents of each thing lie from those of its ground: `python -m benchmarks.contrast`.

The noise of diffusion is the same for all of them, so what differs little is drowned longest and learnt last. Also
the standard deviations along the latents' principal directions: noise of one size drowns the short ones first.
"""

from __future__ import annotations

import argparse
import random

import numpy as np
import torch

from attnreg.models.load import load_pipeline
from training.autoencoder import to_tensor
from training.render import Scene, compose, draw
from training.words import NOUNS, Thing


def main() -> None:
    """Encode renderings of every noun, with and without the thing, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--renderings", type=int, default=24, help="of each noun, in its own colours")
    arguments = parser.parse_args()
    coder = load_pipeline().vae
    every, table = [], {}
    for noun in NOUNS:
        rng = random.Random(f"contrast {noun}")
        scenes = [compose([Thing(noun)], rng) for _ in range(arguments.renderings)]
        grounds = [Scene(scene.ground, ()) for scene in scenes]
        with torch.inference_mode():
            shown, empty = (
                coder.encode(to_tensor(np.stack([draw(scene) for scene in some]))).latents * coder.config.scaling_factor
                for some in (scenes, grounds)
            )
        difference = (shown - empty).permute(0, 2, 3, 1).flatten(0, 2)
        every.append(difference)
        table[noun] = float(difference.square().mean().sqrt())
    print("| noun | rms distance from the ground, in standard deviations of the noise at its strongest |")
    print("| --- | --- |")
    for noun in sorted(table, key=lambda noun: table[noun]):
        print(f"| {noun} | {table[noun]:.2f} |")
    spread = torch.cat(every)
    directions = torch.linalg.eigvalsh(spread.T @ spread / len(spread)).sqrt()
    print("\nalong the principal directions:", ", ".join(f"{value:.2f}" for value in directions.flip(0).tolist()))


if __name__ == "__main__":
    main()
