"""How far a small model in training is: single things, seen pairs, pairs never shown: `python -m benchmarks.gap MODEL`.

MODEL is a model directory that says which words it knows and which pairs training held out. The bundled judge looks;
intervals are Wilson's, 95 %. A few hundred pictures tell where the mix of training pictures should go: seen pairs high,
unseen ones at 40 to 65 %. `--sheet` keeps the pictures.
"""

from __future__ import annotations

import argparse
import math
import random
from pathlib import Path

import torch
from PIL import Image

from attnreg.evaluation.prompts.small_model import seen_pairs, single_things, unseen_pairs
from attnreg.measure.asked import Prompt
from attnreg.measure.pocket import PocketJudge
from attnreg.models.about import about, folder_of
from attnreg.models.load import load_pipeline
from attnreg.models.quiet import quiet_libraries
from attnreg.plot import sheet
from attnreg.types import AttnregError

BATCH = 8


def wilson(hits: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, 1927)."""
    share = hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return middle - half, middle + half


def main() -> None:
    """Draw, judge, print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="pocket, pocket-joint or a directory")
    parser.add_argument("--pictures", type=int, default=48, help="of each kind")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--guidance-scale", type=float)
    parser.add_argument("--sheet", type=Path, help="folder for a sheet of each kind")
    arguments = parser.parse_args()
    folder = folder_of(arguments.model)
    told = about(folder)
    if told is None:
        raise AttnregError(f"expected a model that says which words it knows, got {arguments.model}; see training/")
    quiet_libraries()
    pipe = load_pipeline(arguments.model, device="cpu")
    pipe.set_progress_bar_config(disable=True)
    options = {
        "num_inference_steps": arguments.steps or told.steps,
        "guidance_scale": told.guidance_scale if arguments.guidance_scale is None else arguments.guidance_scale,
    }
    judge = PocketJudge()
    kinds = {
        "single things": single_things(folder),
        "seen pairs": seen_pairs(0, folder),
        "unseen pairs": unseen_pairs(0, folder),
    }
    print("| prompts | all shown | 95 % interval | pictures |\n| --- | ---: | ---: | ---: |")
    for kind, prompts in kinds.items():
        shuffled = random.Random(0).sample(prompts, len(prompts))
        asked = [shuffled[i % len(shuffled)] for i in range(arguments.pictures)]
        pictures = drawn(pipe, asked, options)
        hits = 0
        for there, prompt in zip(judge.see(pictures), asked, strict=True):
            hits += {thing.noun for thing in prompt.things} <= {one.noun for one in there}
        low, high = wilson(hits, len(asked))
        print(f"| {kind} | {hits / len(asked):.1%} | {low:.1%} to {high:.1%} | {len(asked)} |", flush=True)
        if arguments.sheet:
            arguments.sheet.mkdir(parents=True, exist_ok=True)
            rows = [pictures[i : i + BATCH] for i in range(0, len(pictures), BATCH)]
            captions = [[prompt.text for prompt in asked[i : i + BATCH]] for i in range(0, len(asked), BATCH)]
            made = sheet(rows, captions=captions, side=128)
            made.save(arguments.sheet / f"{kind.replace(' ', '-')}.png")


def drawn(pipe: object, prompts: list[Prompt], options: dict[str, float]) -> list[Image.Image]:
    """One picture a prompt, the n-th of all from seed n."""
    pictures: list[Image.Image] = []
    for first in range(0, len(prompts), BATCH):
        some = prompts[first : first + BATCH]
        generators = [torch.Generator().manual_seed(first + i) for i in range(len(some))]
        with torch.inference_mode():
            texts = [prompt.text for prompt in some]
            pictures += pipe(texts, generator=generators, **options).images  # type: ignore[operator]
    return pictures


if __name__ == "__main__":
    main()
