"""Every start that `best-start` may try, drawn to its end, judged and read: `python -m benchmarks.starts OUT.jsonl`.

The development half alone. Of each picture's starts, the given one first, a line of OUT: whether its picture shows
everything, how far it is from the given start's, and, at several depths, what the denoiser's errors under each text
and the maps say. Appended as it is done: the same command goes on where it was. `benchmarks.policies` tells from the
lines what a way to choose among starts would have brought, and at which cost, without a picture being drawn.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from attnreg.attention.regulate import regulate
from attnreg.evaluation.prompts import fewer, halves, prompt_set
from attnreg.measure.asked import Prompt
from attnreg.measure.pocket import PocketJudge
from attnreg.models.about import POCKET_NAME, about, folder_of
from attnreg.models.defaults import denoiser_of
from attnreg.models.load import load_pipeline
from attnreg.regulation.best_start import BestStart, Latent, signals
from attnreg.regulation.edit import PromptWords
from attnreg.regulation.kinds import Chosen, Follow
from attnreg.regulation.noises import noises_like
from benchmarks.drawing import mean_absolute_difference


def depths(steps: int) -> tuple[int, ...]:
    """The steps after which a start is read: two early ones, and that where `best-start` reads the given start.

    The picture is drawn on from the last of them. steps: of the picture.
    """
    return 3, 5, 1 + round(BestStart.until * steps)


@dataclass(frozen=True, kw_only=True)
class Watching(BestStart):
    """Reads the given start and keeps it, whatever it is."""

    seen: list[dict[str, Any]] = field(default_factory=list)
    """Of every image, in their order."""

    def choose(self, latent: Latent, follow: Follow, words: PromptWords) -> Chosen:
        """The given start."""
        guess = follow(latent)
        told = signals(guess, words)
        self.seen.append({"errors": guess.errors, **told.maps._asdict()})
        return Chosen(latent, (told.score,), 0)


def _stop(pipe: Any, _step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
    """Once the starts are read, the rest of the steps is of no interest."""
    pipe._interrupt = True
    return tensors


def read(pipe: Any, prompt: Prompt, noises: torch.Tensor, **options: Any) -> tuple[list[Any], list[dict[str, Any]]]:
    """The pictures of some starts, and of each what is read at every depth.

    Args:
        pipe: the pipeline.
        prompt: of them all.
        noises: a start each.
        options: of the pipeline's call.
    """
    told: list[dict[str, Any]] = [{} for _ in noises]
    pictures: list[Any] = []
    steps = options["num_inference_steps"]
    for depth in depths(steps):
        last = {} if depth == depths(steps)[-1] else {"callback_on_step_end": _stop}
        edit = Watching(passes=depth, until=(depth - 1) / steps)
        with regulate(pipe, config=edit):
            pictures = pipe([prompt.text] * len(noises), latents=noises.clone(), **options, **last).images
        for one, seen in zip(told, edit.seen, strict=True):
            one[str(depth)] = seen
    return pictures, told


def main() -> None:
    """Draw and read what OUT does not hold yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default=POCKET_NAME)
    parser.add_argument("--prompts", default="three-things")
    parser.add_argument("--limit", type=int, default=1000, help="prompts")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--starts", type=int, default=BestStart.starts)
    arguments = parser.parse_args()
    prompts = fewer(halves(prompt_set(arguments.prompts)).development, arguments.limit)
    lines = arguments.out.read_text(encoding="utf-8").splitlines() if arguments.out.exists() else []
    there = {(one["prompt"], one["seed"]) for one in map(json.loads, lines)}
    pipe, judge = load_pipeline(arguments.model), PocketJudge()
    pipe.set_progress_bar_config(disable=True)
    best = about(folder_of(arguments.model))
    assert best, "the bundled model says what it draws best with"
    options = {"num_inference_steps": best.steps, "guidance_scale": best.guidance_scale}
    config = denoiser_of(pipe).config
    side, channels = config.sample_size, config.in_channels
    for seed in range(arguments.seeds):
        for prompt in prompts:
            if (prompt.text, seed) in there:
                continue
            given = torch.randn((channels, side, side), generator=torch.Generator().manual_seed(seed))
            noises = torch.stack([*noises_like(given, arguments.starts, BestStart.strength)])
            pictures, told = read(pipe, prompt, noises, **options)
            verdicts = judge(pictures, [prompt] * len(pictures))
            rows = [
                {
                    "prompt": prompt.text, "seed": seed, "start": number, "steps": best.steps,
                    "whole": bool(verdict["all things"]),
                    "distance": mean_absolute_difference(picture, pictures[0]), "depths": one,
                }
                for number, (picture, verdict, one) in enumerate(zip(pictures, verdicts, told, strict=True))
            ]  # fmt: skip
            with arguments.out.open("a", encoding="utf-8") as file:
                file.write("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
