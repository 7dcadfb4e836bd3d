"""The picture of docs/how-it-works.md: where the words of a prompt have their attention, where all is well and not.

`python -m benchmarks.map_sheets` draws `attention-maps.png`: "a bird and a frog", seeds 0 to 3, unmodified, and under
each picture the maps of both words, on one colour scale a picture. The maps are the mean over heads, all steps and the
16 x 16 layers.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL.Image import Image

from attnreg.models.about import POCKET, about
from attnreg.models.load import load_pipeline
from attnreg.plot import sheet
from attnreg.plot.heat import heat
from attnreg.sampling import configure, generate

DOCS = Path(__file__).parent.parent / "docs" / "pictures"
PROMPT, WORDS = "a bird and a frog", ("bird", "frog")
WATCHED = {"shift": 0.0, "window": (0.0, 1.0)}
"""Settings of attention-scaling that change nothing, so that the maps are the unmodified model's."""


def rows_of(seeds: range) -> list[list[Image]]:
    """The pictures of some seeds, and under them the maps of each word."""
    told = about(POCKET)
    assert told, "the bundled model says what it draws best with"
    pipe = load_pipeline()
    pipe.set_progress_bar_config(disable=True)
    columns = []
    for seed in seeds:
        sample = generate(
            pipe,
            PROMPT,
            configure("attention-scaling", WATCHED),
            seed=seed,
            maps=True,
            num_inference_steps=told.steps,
            guidance_scale=told.guidance_scale,
        )
        maps = {word: sample.trace.maps()[0][word][0] for word in WORDS}
        hottest = max(float(one.max()) for one in maps.values())
        columns.append([sample.picture, *(heat(sample.picture, one.tolist(), hottest) for one in maps.values())])
    return [list(row) for row in zip(*columns, strict=True)]


def main() -> None:
    """Draw the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=DOCS)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    seeds = range(4)
    labels = ["picture", *(f'"{word}"' for word in WORDS)]
    drawn = sheet(rows_of(seeds), [f"seed {seed}" for seed in seeds], labels, side=192)
    drawn.save(arguments.out / "attention-maps.png", optimize=True)


if __name__ == "__main__":
    main()
