"""The pictures of the README and of the models' cards: `make sheets` draws them again.

`singles.png` and `pairs.png`: twelve prompts "a <noun>" and twelve "a <noun> and a <colour> <noun>", unmodified and
regulated, seed 0. The prompts come from a seeded generator; none is chosen. `before-after.png`: one prompt, four seeds,
regulated, and begun from other noise where that is needed.
`things.png`: all 24 single things and 24 pairs, unmodified; `settings.png`: things in sizes, places and at night.
`test-pairs.png`: the first 24 unseen pairs of the test half, seed 0, by four methods (`METHODS`); `three-things.png`:
the first 16 prompts of three things of the test half, likewise. Of `pocket-joint` the unmodified ones alone, as
`pocket-joint-things.png` and `pocket-joint-settings.png`.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image

from attnreg.evaluation.prompts import prompt_set
from attnreg.evaluation.spelling import edit_of
from attnreg.measure.asked import Prompt
from attnreg.models.about import BUNDLED, POCKET, POCKET_NAME, about
from attnreg.models.load import load_pipeline
from attnreg.plot import sheet
from attnreg.sampling import configure, generate
from benchmarks.drawing import drawn
from benchmarks.pocket_figures import prefix_of, set_somewhere
from training.words import COLOURS, NOUNS, OBJECTS

DOCS = Path(__file__).parent.parent / "docs" / "pictures"
BEST = "best-start"
METHODS = {
    "unmodified": "none",
    "reference": "attention-regulation:reference",
    "Attend-and-Excite": "attend-and-excite",
    "best start": BEST,
}
"""Rows of `test-pairs.png` and `three-things.png`: what is written beside each, and its name."""
ACROSS = 8
"""Pictures in a row of the large sheets."""


def with_article(words: str) -> str:
    """ "apple" -> "an apple"."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def prompts(rng: random.Random) -> tuple[list[str], list[str]]:
    """Twelve single things; twelve pairs of any noun and a coloured object."""
    singles = [with_article(noun) for noun in rng.sample(NOUNS, 12)]
    every = [(first, second) for first in NOUNS for second in OBJECTS if first != second]
    pairs = [
        f"{with_article(first)} and {with_article(f'{rng.choice(list(COLOURS))} {second}')}"
        for first, second in rng.sample(every, 12)
    ]
    return singles, pairs


def unmodified(pipe: Any, asked: Sequence[Prompt], path: Path) -> None:
    """A sheet of the prompts' unmodified pictures, seed 0, eight in a row."""
    pictures = [one.picture for one in drawn(pipe, asked, [0])]
    rows = [slice(start, start + ACROSS) for start in range(0, len(pictures), ACROSS)]
    texts = [prompt.text for prompt in asked]
    sheet([pictures[row] for row in rows], captions=[texts[row] for row in rows], side=128).save(path)


def four_ways(pipe: Any, asked: Sequence[Prompt], path: Path) -> None:
    """A sheet of the prompts, seed 0, a row a method and eight prompts in a row."""
    made = {label: [one.picture for one in drawn(pipe, asked, [0], edit_of(name))] for label, name in METHODS.items()}
    rows = [slice(start, start + ACROSS) for start in range(0, len(asked), ACROSS)]
    sheet(
        [pictures[row] for row in rows for pictures in made.values()],
        labels=[label for _ in rows for label in made],
        # Once for all methods: below the last one's pictures.
        captions=[
            [prompt.text for prompt in asked[row]] if label == [*made][-1] else [] for row in rows for label in made
        ],
        side=128,
    ).save(path)


def main() -> None:
    """Draw the sheets with the bundled model and print the mean time of a picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(BUNDLED), default=POCKET_NAME)
    parser.add_argument("--out", type=Path, default=DOCS)
    parser.add_argument("--hero", default="a bird and a frog", help="the prompt of before-after.png")
    parser.add_argument("--method", default="attention-balance", help="what the rows named regulated are drawn with")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    pipe = load_pipeline(arguments.model)
    pipe.set_progress_bar_config(disable=True)
    start = prefix_of(arguments.model)
    pairs = [Prompt(text) for text in prompts(random.Random(1))[1] + prompts(random.Random(2))[1]]
    unmodified(pipe, [*prompt_set("single-things"), *pairs], arguments.out / f"{start}things.png")
    unmodified(pipe, set_somewhere(24), arguments.out / f"{start}settings.png")
    if arguments.model == POCKET_NAME:
        by_methods(pipe, arguments)


def by_methods(pipe: Any, arguments: argparse.Namespace) -> None:
    """The sheets that compare methods; prints the mean time of a picture."""
    told = about(POCKET)
    assert told, "a bundled model says what it draws best with"
    edits = {"unmodified": None, "regulated": configure(arguments.method)}
    three = edits | {"best start": configure(BEST)}
    spent: dict[str, list[float]] = {}

    def draw(prompt: str, seed: int, edits: Mapping[str, Any] = edits) -> list[Image]:
        made = []
        for name, edit in edits.items():
            sample = generate(
                pipe, prompt, edit, seed=seed, num_inference_steps=told.steps, guidance_scale=told.guidance_scale
            )
            spent.setdefault(name, []).append(sample.seconds)
            made.append(sample.picture)
        return made

    for name, texts in zip(("singles", "pairs"), prompts(random.Random(0)), strict=True):
        both = [draw(text, seed=0) for text in texts]
        # Four prompts a row: the unmodified pictures in one row, the regulated ones right below.
        rows, labels, captions = [], [], []
        for start in range(0, 12, 4):
            for i, edit in enumerate(edits):
                rows.append([pair[i] for pair in both[start : start + 4]])
                labels.append(edit)
                captions.append(texts[start : start + 4])
        sheet(rows, labels=labels, captions=captions, side=192).save(arguments.out / f"{name}.png")
    hero = list(zip(*(draw(arguments.hero, seed, three) for seed in range(4)), strict=True))
    sheet(hero, labels=list(three), title=arguments.hero, side=192).save(arguments.out / "before-after.png")
    four_ways(pipe, prompt_set("unseen-pairs", half="test")[:24], arguments.out / "test-pairs.png")
    four_ways(pipe, prompt_set("three-things", half="test")[:16], arguments.out / "three-things.png")
    for name, seconds in spent.items():
        mean = sum(seconds) / len(seconds)
        print(f"{name}: {mean:.2f} s a picture (mean of {len(seconds)}, {torch.get_num_threads()} threads)")


if __name__ == "__main__":
    main()
