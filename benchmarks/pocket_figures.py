"""The figures of a bundled model and its judge: `make figures`. Prints a table and keeps it as JSON.

Everything is seeded; intervals are 95 % bootstrap intervals over prompts. Pictures are the unmodified model's.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny
from PIL import Image

from attnreg.evaluation.prompts import prompt_set
from attnreg.measure.asked import Prompt, Thing
from attnreg.measure.distributions import frechet_distance
from attnreg.measure.pocket import SURE, PocketJudge
from attnreg.models.about import BUNDLED, POCKET, POCKET_NAME, about
from attnreg.models.load import load_pipeline
from attnreg.plot import sheet
from attnreg.statistics import bootstrap, per_prompt
from benchmarks.drawing import drawn, jobs_drawn
from training import judge_pictures, second_judge, words
from training.autoencoder import to_tensor
from training.grounds import draw_ground
from training.render import compose, draw, ground_for, sprite

DOCS = Path(__file__).parent.parent / "docs"
GOALS = {
    POCKET_NAME: {"single": ">= .98", "worst": ">= .92", "coloured": ">= .95", "seen": ">= .80", "unseen": ".40 - .65"},
    "pocket-joint": {
        "single": ">= .97",
        "worst": ">= .90",
        "coloured": ">= .95",
        "seen": ">= .80",
        "unseen": ".40 - .65",
    },
}
"""Of each model's figures: pairs that it never saw are meant to lose things, as large models do."""
BINS = (0.0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0)
THRESHOLDS = (0.2, 0.3, 0.35, SURE, 0.45, 0.5, 0.6)
INK = tuple(words.COLOURS)


@dataclass(frozen=True)
class Figure:
    """One line of the table; values are shares unless the name says otherwise."""

    name: str
    value: float
    low: float
    high: float
    n: int
    goal: str


def rendered(count: int, size: int, seed: str) -> tuple[list[Any], list[Prompt]]:
    """Pictures of so many things, that nobody was trained on, and what they show. Three things are placed freely."""
    pictures, asked = [], []
    for index in range(size):
        rng = random.Random(f"{seed} {count} {index}")
        things = [
            words.Thing(noun, rng.choice(INK) if noun in words.OBJECTS and rng.random() < 0.7 else None)
            for noun in rng.sample(words.NOUNS, count)
        ]
        if count < 3:
            drawn = draw(compose(things, rng))
        else:
            drawn = (free_scene(rng, things) * 255).round().clip(0, 255).astype(np.uint8)
        pictures.append(Image.fromarray(drawn))
        asked.append(prompt_of(things, rng))
    return pictures, asked


def free_scene(rng: random.Random, things: list[words.Thing]) -> np.ndarray:
    """A freely placed scene of exactly the things, in the model's own art."""
    canvas = draw_ground(ground_for(things, rng))
    for thing, (x, y, size) in zip(things, judge_pictures.spots(len(things), rng), strict=True):
        art = sprite(thing.noun, size, thing.colour)
        judge_pictures.lay(canvas, art, round(x - size / 2), round(y - size / 2))
    return canvas


def prompt_of(things: Sequence[words.Thing], rng: random.Random, setting: words.Setting = words.PLAIN) -> Prompt:
    """The prompt that asks for the things."""
    return Prompt(words.caption(list(things), rng, setting), tuple(Thing(one.noun, one.colour) for one in things))


def set_somewhere(count: int) -> list[Prompt]:
    """Prompts of one thing with a size, a place or at night, or several of these: "a small red car on the beach"."""
    rng = random.Random("set somewhere")
    one, made = words.seen_together(1), list[Prompt]()
    while len(made) < count:
        (thing,), setting = words.random_things(rng, one), words.random_setting(rng)
        if thing.size or setting != words.PLAIN:
            made.append(prompt_of([thing], rng, setting))
    return made


def main() -> None:
    """Measure what is asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(BUNDLED), default=POCKET_NAME)
    parser.add_argument("--renderings", type=int, default=500, help="of each number of things")
    parser.add_argument("--pairs", type=int, default=100, help="prompts each of seen and unseen pairs, two seeds each")
    parser.add_argument("--seeds", type=int, default=32, help="pictures of each single thing")
    parser.add_argument("--sentences", type=int, default=96, help="prompts with a colour, and with a size or a place")
    parser.add_argument("--second-judge", type=Path, default=second_judge.WEIGHTS)
    parser.add_argument("--only", choices=["judge", "model"], help="half of the table")
    parser.add_argument("--out", type=Path, help="[docs/results/MODEL.json]")
    arguments = parser.parse_args()
    out = arguments.out or DOCS / "results" / f"{arguments.model}.json"
    judge = PocketJudge()
    figures: list[Figure] = []

    def add(name: str, values: Sequence[float], groups: Sequence[str], goal: str) -> None:
        (mean,) = bootstrap(per_prompt(groups, values)[:, None])
        low, high = (mean.low, mean.high) if len(set(groups)) > 1 else (mean.value, mean.value)
        figures.append(Figure(name, mean.value, low, high, len(values), goal))
        show(figures[-1])

    if arguments.only != "model" and arguments.model == POCKET_NAME:
        judge_figures(judge, arguments.renderings, add)
    if arguments.only != "judge":
        model_figures(judge, arguments, add)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps([vars(one) for one in figures], indent=1) + "\n")
    if arguments.only:
        return
    told = page_of(arguments.model, figures)
    if arguments.model == POCKET_NAME:
        told += page_of_judge(reliability(judge, arguments.renderings), by_threshold(judge, 2 * arguments.renderings))
    (DOCS / f"{arguments.model}.md").write_text(told)


Add = Callable[[str, Sequence[float], Sequence[str], str], None]


def judge_figures(judge: PocketJudge, size: int, add: Add) -> None:
    """How often the judge is right about renderings, and how long it takes."""
    for count in (1, 2, 3):
        pictures, asked = rendered(count, size, "held out")
        seen = judge.see(pictures)
        exact = [
            float(sorted(one.noun for one in there) == sorted(thing.noun for thing in prompt.things))
            for there, prompt in zip(seen, asked, strict=True)
        ]
        add(f"judge, exact set of {count}", exact, [str(i) for i in range(size)], ">= .99")
        colours = [s["colours"] for s in judge(pictures, asked) if "colours" in s]
        add(f"judge, colours among {count}", colours, [str(i) for i in range(len(colours))], ">= .98")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    began = time.perf_counter()
    judge.see(pictures[:64])
    each = 1000 * (time.perf_counter() - began) / 64
    torch.set_num_threads(threads)
    add("judge, milliseconds a picture on one core", [each], ["0"], "<= 20")


def model_figures(judge: PocketJudge, arguments: argparse.Namespace, add: Add) -> None:
    """How often the unmodified model draws what is asked for, how fast, and whether two judges agree about it."""
    model, pairs, seeds = arguments.model, arguments.pairs, arguments.seeds
    goals = GOALS[model]
    pipe = load_pipeline(model)
    pipe.set_progress_bar_config(disable=True)
    sets = {
        "single": (prompt_set(f"single-things:{model}"), seeds),
        "coloured": (prompt_set(f"coloured-things:{model}", limit=arguments.sentences), 1),
        "seen": (prompt_set(f"seen-pairs:{model}", limit=pairs), 2),
        "unseen": (prompt_set(f"unseen-pairs:{model}", limit=pairs), 2),
        "with a size, a place or at night": (set_somewhere(arguments.sentences), 1),
    }
    every: list[Any] = []
    for name, (prompts, seeds) in sets.items():
        began = time.perf_counter()
        asked, _, pictures = zip(*drawn(pipe, prompts, range(seeds)), strict=True)
        spent = time.perf_counter() - began
        every += pictures
        found = judge(pictures, asked)
        groups = [prompt.text for prompt in asked]
        all_things = [one["all things"] for one in found]
        add(f"model, {name}: every thing there", all_things, groups, goals.get(name, ""))
        if name == "single":
            by_noun = dict(zip(dict.fromkeys(groups), per_prompt(groups, all_things), strict=True))
            worst = min(by_noun, key=lambda noun: by_noun[noun])
            add(f"model, worst single: {worst}", [float(by_noun[worst])], ["0"], goals["worst"])
        if name == "unseen":
            gallery(asked, pictures, judge, DOCS / "pictures" / f"{prefix_of(model)}failures.png")
        if name != "single":
            add(f"model, {name}: every thing there, in its colour", [one["all"] for one in found], groups, "")
        add(f"model, {name}: seconds a picture, eight at once", [spent / len(pictures)], ["0"], "<= 4")
    # Drawn pictures of the same things in the same colours: else the distance would be that of the prompts.
    reference, same = rendered(1, 24 * arguments.seeds, "first half")
    again, _ = rendered(1, 24 * arguments.seeds, "second half")
    alone = [one.picture for one in jobs_drawn(pipe, zip(same, itertools.count(), strict=False))]
    every += alone
    features = judge.features(again)
    floor = frechet_distance(judge.features(reference), features)
    distance = frechet_distance(judge.features(alone), features)
    name = "FID-like distance of one thing, coloured or not, to renderings, in distances of two halves"
    add(name, [distance / floor], ["0"], "<= 3")
    agree = agreement(judge, every, arguments.second_judge)
    add("judges agree on drawn pictures, per noun", list(agree), [str(i) for i in range(len(agree))], ">= .97")


def agreement(judge: PocketJudge, pictures: Sequence[Any], second: Path) -> np.ndarray:
    """For each picture the share of nouns about which both judges say the same."""
    other = second_judge.opened(second)
    batch = to_tensor(np.stack([np.asarray(picture.convert("RGB")) for picture in pictures]))
    with torch.inference_mode():
        theirs = torch.cat([other(part) for part in batch.split(64)]).sigmoid().numpy() >= 0.5
    same: np.ndarray = ((judge.confidences(pictures) >= SURE) == theirs).mean(axis=1)
    return same


def reliability(judge: PocketJudge, size: int) -> list[tuple[float, float, int, float]]:
    """For confidences between two bounds: how many there are on renderings of two things, and the share that is right.

    A confidence is of one noun in one picture; it is right where the noun is shown.
    """
    pictures, asked = rendered(2, size, "calibration")
    sure = judge.confidences(pictures)
    there = np.array([[noun in {thing.noun for thing in prompt.things} for noun in judge.nouns] for prompt in asked])
    rows = []
    for low, high in itertools.pairwise(BINS):
        inside = (sure >= low) & ((sure < high) | (high == 1))
        rows.append((low, high, int(inside.sum()), float(there[inside].mean()) if inside.any() else math.nan))
    return rows


def by_threshold(judge: PocketJudge, size: int) -> list[tuple[float, float, int, int]]:
    """For thresholds of the confidence: share of pictures whose exact set is seen, nouns missed, nouns invented.

    On pictures of the kind that the judge learns from, not those it learnt from: none to four things, some blends,
    worn as generated pictures are.
    """
    coder = AutoencoderTiny.from_pretrained(POCKET / "vae").eval()
    pictures: list[Any] = []
    there: list[list[bool]] = []
    for index in range(-(-size // 32)):
        worn, shown = judge_pictures.batch(32, random.Random(f"threshold {index}"), coder)
        pixels = ((worn.permute(0, 2, 3, 1) + 1) / 2 * 255).round().clamp(0, 255).byte().numpy()
        pictures += [Image.fromarray(one) for one in pixels]
        there += [[noun in {one.thing.noun for one in things} for noun in judge.nouns] for things in shown]
    sure, asked = judge.confidences(pictures), np.array(there)
    rows = []
    for threshold in THRESHOLDS:
        seen = sure >= threshold
        rows.append((
            threshold, float((seen == asked).all(axis=1).mean()), int((asked & ~seen).sum()), int((seen & ~asked).sum())
        ))  # fmt: skip
    return rows


def prefix_of(model: str) -> str:
    """How the names of a bundled model's sheets begin."""
    return "" if model == POCKET_NAME else f"{model}-"


def gallery(asked: Sequence[Prompt], pictures: Sequence[Any], judge: PocketJudge, path: Path, count: int = 12) -> None:
    """The first pictures of unseen pairs in which a thing is missing, with what the judge sees in them."""
    failed = [
        (prompt, picture, seen)
        for prompt, picture, seen in zip(asked, pictures, judge.see(pictures), strict=True)
        if not {thing.noun for thing in prompt.things} <= {one.noun for one in seen}
    ][:count]
    captions = [f"{prompt.text}: {', '.join(one.noun for one in seen) or 'nothing'}" for prompt, _, seen in failed]
    rows = [range(start, min(start + 4, len(failed))) for start in range(0, len(failed), 4)]
    if failed:
        paper = sheet(
            [[failed[i][1] for i in row] for row in rows], captions=[[captions[i] for i in row] for row in rows]
        )
        paper.save(path)


def page_of(model: str, figures: Sequence[Figure]) -> str:
    """docs/MODEL.md: what was measured of the model, and what it draws."""
    told = about(BUNDLED[model])
    assert told, "a bundled model says what it draws best with"
    both = model == POCKET_NAME
    return PAGE.format(
        title=f"How good {'the bundled model and its judge are' if both else f'{model} is'}",
        of_judge=OF_JUDGE if both else "",
        command="make figures" if both else f"python -m benchmarks.pocket_figures --model {model}",
        table="".join(f"{line(figure)}\n" for figure in figures),
        steps=told.steps,
        guidance=told.guidance_scale,
        prefix=prefix_of(model),
        sheets="make sheets" if both else f"python -m benchmarks.sheets --model {model}",
    )


def page_of_judge(
    rows: Sequence[tuple[float, float, int, float]], thresholds: Sequence[tuple[float, float, int, int]]
) -> str:
    """What was measured of the judge."""
    calibration = "".join(
        f"| {low:.2f} - {high:.2f} | {count} | {'' if math.isnan(right) else f'{right:.3f}'} |\n"
        for low, high, count, right in rows
    )
    chosen = "".join(
        f"| {threshold:.2f} | {exact:.3f} | {missed} | {invented} |\n"
        for threshold, exact, missed, invented in thresholds
    )
    return PAGE_OF_JUDGE.format(calibration=calibration, thresholds=chosen, sure=SURE)


OF_JUDGE = """The judge's figures are on renderings that no network was trained on: one or two things arranged
as in the model's training, three placed freely. """
PAGE = """# {title}

Made by `{command}`: the unmodified model, {steps} steps, guidance {guidance:g}; 95 % bootstrap intervals over
prompts. {of_judge}The second judge (`training/second_judge.py`) has another architecture
and seed.

| figure | value | 95 % interval | n | goal |
| --- | --- | --- | --- | --- |
{table}
## What it draws

![all 24 single things and 24 pairs](pictures/{prefix}things.png)
![things in sizes, places and at night](pictures/{prefix}settings.png)

Unmodified, seed 0, made by `{sheets}`: every noun alone, and 24 pairs and 24 settings picked at random by a seeded
generator.

## Failures

![pictures of unseen pairs with a thing missing](pictures/{prefix}failures.png)

The first unmodified pictures of unseen pairs in which the judge misses a thing, each with the prompt and what the judge
sees.
"""

PAGE_OF_JUDGE = """
## How far the judge's confidence can be trusted

Measured on renderings of two things. A noun counts as seen from a confidence of {sure} on.

| confidence | nouns in pictures | share that is there |
| --- | --- | --- |
{calibration}
The threshold was chosen on new pictures of the kind that the judge was trained on: none to four things, some of them
blends of two, which count as neither, and all degraded (blurred, faded, noisy, or passed through the autoencoder). With
a lower threshold, the judge sees things that are not there. With a higher one, it misses things that are.

| threshold | exact sets | nouns missed | nouns invented |
| --- | --- | --- | --- |
{thresholds}"""


def show(figure: Figure) -> None:
    """Print a line of the table as soon as it is known."""
    print(line(figure), flush=True)


def line(figure: Figure) -> str:
    """One line of the table."""
    bounds = f"{figure.low:.3f} - {figure.high:.3f}" if figure.high > figure.low else ""
    return f"| {figure.name} | {figure.value:.3f} | {bounds} | {figure.n} | {figure.goal} |"


if __name__ == "__main__":
    main()
