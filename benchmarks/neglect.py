"""What the neglect score of a word tells of the picture: `python -m benchmarks.neglect draw`, then `tell`.

`draw` draws the 276 prompts of Attend-and-Excite, two seeds each, with the unmodified bundled model, and keeps every
step's maps of each word and whether the bundled judge sees it in the picture. One file a picture: it goes on where it
was stopped. `tell` chooses the threshold on the development half and prints precision and recall of "this word is
missing" on the test half, beside other scores that were tried.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from attnreg.attention.regulate import watch
from attnreg.evaluation.prompts import prompt_set
from attnreg.measure.pocket import pocket_judge
from attnreg.models.about import POCKET_NAME
from attnreg.models.load import load_pipeline
from attnreg.trace import Seen
from attnreg.writing import write_file
from benchmarks.drawing import Job, batched, together

PROMPTS = "attend-and-excite"
Maps = Float[np.ndarray, "step target height width"]


def draw(out: Path, jobs: Sequence[Job]) -> None:
    """Draw and judge what is not there yet."""
    left = [job for job in jobs if not path_of(out, job).exists()]
    if not left:
        return
    pipe, judge = load_pipeline(POCKET_NAME), pocket_judge()
    pipe.set_progress_bar_config(disable=True)
    for some in batched(left):
        with watch(pipe, [[thing.phrase for thing in prompt.things] for prompt, _ in some]) as trace:
            pictures = together(pipe, some)
        for image, (job, things) in enumerate(zip(some, judge.see(pictures), strict=True)):
            nouns = {one.noun for one in things}
            missing = np.array([thing.noun not in nouns for thing in job[0].things])
            write_file(path_of(out, job), packed(trace.seen(image), missing))
        print(f"{len(jobs) - len(left) + sum(path_of(out, job).exists() for job in left)} of {len(jobs)}", flush=True)


def packed(seen: Seen, missing: Bool[np.ndarray, " target"]) -> bytes:
    """One picture's maps and verdicts as a file's content."""
    file = io.BytesIO()
    np.savez(file, maps=seen.after, missing=missing)
    return file.getvalue()


def path_of(out: Path, job: Job) -> Path:
    """Where one picture's maps lie."""
    prompt, seed = job
    return out / f"{prompt.text.replace(' ', '-')}-seed{seed}.npz"


def jobs_of(seeds: int) -> list[Job]:
    """Every prompt and seed, drawn by lot: whatever was done by then stands for the whole."""
    jobs = [(prompt, seed) for seed in range(seeds) for prompt in prompt_set(PROMPTS)]
    order = np.random.default_rng(0).permutation(len(jobs))
    return [jobs[i] for i in order]


def main() -> None:
    """Draw, or tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["draw", "tell"])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("out/neglect"))
    arguments = parser.parse_args()
    jobs = jobs_of(arguments.seeds)
    if arguments.what == "draw":
        draw(arguments.out, jobs)


if __name__ == "__main__":
    main()
