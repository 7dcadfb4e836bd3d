"""Renderings of what a prompt set asks for: `python -m benchmarks.renderings FOLDER`.

What `attnreg bench distances RUN --reference FOLDER` measures pictures of the bundled model against: one picture a
prompt and seed, composed as the model's training pictures are, pairs that training held out among them.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from PIL import Image

from attnreg.evaluation.prompts import prompt_set
from training.render import compose, draw
from training.words import Thing


def main() -> None:
    """Draw them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prompts", default="attend-and-excite")
    parser.add_argument("--seeds", type=int, default=4)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    prompts = prompt_set(arguments.prompts)
    for index, prompt in enumerate(prompts):
        things = [Thing(thing.noun, thing.colour) for thing in prompt.things]
        for seed in range(arguments.seeds):
            picture = draw(compose(things, random.Random(f"renderings {prompt.text} {seed}")))
            Image.fromarray(picture).save(arguments.folder / f"{index:04d}-{seed}.png")
    print(f"{len(prompts) * arguments.seeds} renderings in {arguments.folder}")


if __name__ == "__main__":
    main()
