"""Which strength of guidance a version of the bundled model draws best with: `python -m benchmarks.guidance 1.5 2 3`.

For each strength the share of pictures that show everything asked for: every single thing, things in colours, pairs
that training showed and pairs that it never did. Of pairs and threes only the development half, so that what is chosen
here can be reported on the other. What is wanted: single things near certain, seen pairs at 80 %, unseen ones below
65 %.
"""

from __future__ import annotations

import argparse

from attnreg.evaluation.prompts import fewer, prompt_set
from attnreg.measure.pocket import PocketJudge
from attnreg.models.about import POCKET_NAME
from attnreg.models.load import load_pipeline
from benchmarks.drawing import drawn


def main() -> None:
    """Draw, judge and print a line for each strength."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("guidance", nargs="+", type=float)
    parser.add_argument("--model", default=POCKET_NAME, help="another version of the bundled one")
    parser.add_argument("--steps", type=int, help="denoising steps, default: the model's own")
    parser.add_argument("--pictures", type=int, default=96, help="of each kind, for each strength")
    arguments = parser.parse_args()
    sets = {
        "single": prompt_set("single-things"),
        "coloured": prompt_set("coloured-things"),
        "seen pair": prompt_set("seen-pairs", half="development"),
        "unseen pair": prompt_set("unseen-pairs", half="development"),
        "three things": prompt_set("three-things", half="development"),
    }
    judge, pipe = PocketJudge(), load_pipeline(arguments.model)
    pipe.set_progress_bar_config(disable=True)
    steps = arguments.steps
    print(f"| guidance | {' | '.join(sets)} |\n|{' --- |' * (1 + len(sets))}")
    for guidance in arguments.guidance:
        shares = []
        for prompts in sets.values():
            some = fewer(prompts, arguments.pictures)
            seeds = range(max(arguments.pictures // len(some), 1))
            asked, _, pictures = zip(
                *drawn(pipe, some, seeds, guidance_scale=guidance, num_inference_steps=steps), strict=True
            )
            found = judge(pictures, asked)
            shares.append(sum(one["all"] for one in found) / len(found))
        print(f"| {guidance:g} | {' | '.join(f'{100 * share:.1f} %' for share in shares)} |", flush=True)


if __name__ == "__main__":
    main()
