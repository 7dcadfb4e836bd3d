"""Zero-order search for a noise by a verifier (arXiv:2501.09732): `python -m benchmarks.zero_order OUT.jsonl`.

The pivot is the noise of a seed, `x' = |x| (.95 u + sqrt(1 - .95^2) w)` its neighbours, where `u = x / |x|` and w is a
random direction at right angles to it. Four neighbours are drawn in full; the search goes to the best by the verifier,
and ends where none is better or after so many rounds. The judge looks at the last picture alone. A line of OUT a prompt
and seed, appended as it is done: the same command goes on where it was. `benchmarks.equal_cost --searched` reads it.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attnreg.evaluation.prompts import fewer, halves, prompt_set
from attnreg.measure.asked import Prompt
from attnreg.measure.pocket import PocketJudge
from attnreg.models.about import POCKET, about
from attnreg.models.load import load_pipeline
from attnreg.passes import counted
from attnreg.records import Record
from benchmarks.verifier import Verifier

KEPT = 0.95
"""Cosine between the pivot and a neighbour."""
NEIGHBOURS, ROUNDS = 4, 2


class Found(NamedTuple):
    """Where a search ended."""

    picture: Any
    score: float
    drawn: int
    """Pictures in all."""


def neighbours(pivot: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    """Noises of the pivot's length at a cosine of `KEPT` from it."""
    length = pivot.norm()
    u = pivot / length
    for _ in range(NEIGHBOURS):
        w = torch.randn(pivot.shape, generator=generator)
        w = w - (w * u).sum() * u
        yield length * (KEPT * u + math.sqrt(1 - KEPT**2) * w / w.norm())


def climb(
    pivot: Tensor, draw: Callable[[Sequence[Tensor]], list[Any]], score: Callable[[list[Any]], list[float]], seed: int
) -> Found:
    """Go to the best neighbour until none is better, at most `ROUNDS` times.

    Args:
        pivot: the noise to begin from.
        draw: noises -> pictures.
        score: pictures -> what the verifier says of them.
        seed: of the directions.
    """
    generator = torch.Generator().manual_seed(seed)
    (picture,) = draw([pivot])
    (best,) = score([picture])
    drawn = 1
    for _ in range(ROUNDS):
        around = list(neighbours(pivot, generator))
        pictures = draw(around)
        drawn += len(around)
        scores = score(pictures)
        place = max(range(len(scores)), key=scores.__getitem__)
        if scores[place] <= best:
            break
        pivot, picture, best = around[place], pictures[place], scores[place]
    return Found(picture, best, drawn)


def main() -> None:
    """Search for every prompt and seed that OUT does not hold yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--prompts", default="three-things")
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--test", action="store_true", help="the test half: only for a table that will be committed")
    arguments = parser.parse_args()
    parts = halves(prompt_set(arguments.prompts))
    prompts = fewer(parts.test if arguments.test else parts.development, arguments.limit)
    lines = arguments.out.read_text(encoding="utf-8").splitlines() if arguments.out.exists() else []
    there = {(one["prompt"], one["seed"]) for one in map(json.loads, lines)}
    pipe, verifier, judge = load_pipeline(), Verifier(), PocketJudge()
    pipe.set_progress_bar_config(disable=True)
    told = about(POCKET)
    assert told, "the bundled model says what it draws best with"
    options = {"num_inference_steps": told.steps, "guidance_scale": told.guidance_scale}
    side = pipe.unet.config.sample_size
    for seed in range(arguments.seeds):
        for prompt in prompts:
            if (prompt.text, seed) in there:
                continue
            pivot = torch.randn(
                (1, pipe.unet.config.in_channels, side, side), generator=torch.Generator().manual_seed(seed)
            )

            def draw(noises: Sequence[Tensor], prompt: Prompt = prompt) -> list[Any]:
                made: list[Any] = pipe([prompt.text] * len(noises), latents=torch.cat(list(noises)), **options).images
                return made

            def score(pictures: list[Any], prompt: Prompt = prompt) -> list[float]:
                return verifier(pictures, [prompt] * len(pictures))

            with counted(pipe) as passes:
                found = climb(pivot, draw, score, seed)
            scores = {f"pocket/{name}": value for name, value in judge([found.picture], [prompt])[0].items()}
            record = Record(
                prompt.text, prompt.category, seed, "zero-order search", "pocket", "", 0.0, None, scores, passes.count
            )
            with arguments.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(vars(record)) + "\n")


if __name__ == "__main__":
    main()
