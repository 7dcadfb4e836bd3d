"""What the neglect score of a word tells of the picture: `python -m benchmarks.neglect draw`, then `tell`.

`draw` draws the 276 prompts of Attend-and-Excite, two seeds each, with the unmodified bundled model, and keeps every
step's maps of each word and whether the bundled judge sees it in the picture. One file a picture: it goes on where it
was stopped. `tell` chooses the threshold on the development half and prints precision and recall of "this word is
missing" on the test half, beside other scores that were tried.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from attnreg.attention.regulate import watch
from attnreg.evaluation.prompts import halves, prompt_set
from attnreg.measure.pocket import pocket_judge
from attnreg.models.about import POCKET_NAME
from attnreg.models.load import load_pipeline
from attnreg.trace import Seen
from attnreg.trace.neglect import MIDDLE, NEGLECTED, STEEPNESS, clarity, score_of
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


class Word(NamedTuple):
    """One word of one picture."""

    development: bool
    picture: int
    missing: bool
    signals: dict[str, float]
    """What might tell, each the higher the likelier the word is there."""


def words_of(out: Path, jobs: Sequence[Job]) -> Iterator[Word]:
    """Every word of every picture that was drawn."""
    development = {prompt.text for prompt in halves(prompt_set(PROMPTS)).development}
    for picture, job in enumerate(jobs):
        if not (path := path_of(out, job)).exists():
            continue
        with np.load(path) as file:
            maps, missing = file["maps"], file["missing"]
        mean = maps.mean(0, dtype=np.float64)
        told = {
            "clarity (the score)": clarity(maps),
            "mean attention": mean.mean((1, 2)),
            "highest attention": mean.max((1, 2)),
            "highest by mean": mean.max((1, 2)) / mean.mean((1, 2)),
        }
        for word in range(len(missing)):
            signals = {name: float(values[word]) for name, values in told.items()}
            yield Word(job[0].text in development, picture, bool(missing[word]), signals)


def fitted(values: Float[np.ndarray, " word"], missing: Bool[np.ndarray, " word"]) -> tuple[float, float]:
    """`MIDDLE` and `STEEPNESS` of the logistic curve of the logarithm that fits best (Newton's method)."""
    design = np.stack([np.ones_like(values), np.log(values)], 1)
    weights = np.zeros(2)
    for _ in range(50):
        chance = 1 / (1 + np.exp(-design @ weights))
        curvature = design.T @ (design * (chance * (1 - chance))[:, None])
        weights += np.linalg.solve(curvature, design.T @ (missing - chance))
    return float(np.exp(-weights[0] / weights[1])), float(-weights[1])


class Verdict(NamedTuple):
    """What a threshold makes of some words."""

    precision: float
    recall: float

    @property
    def both(self) -> float:
        """F1: the harmonic mean."""
        return 2 * self.precision * self.recall / max(self.precision + self.recall, 1e-12)


def verdict(said: Bool[np.ndarray, " word"], missing: Bool[np.ndarray, " word"]) -> Verdict:
    """Precision and recall of "this word is missing"."""
    right = float((said & missing).sum())
    return Verdict(right / max(float(said.sum()), 1.0), right / max(float(missing.sum()), 1.0))


def interval(
    said: Bool[np.ndarray, " word"], missing: Bool[np.ndarray, " word"], pictures: np.ndarray
) -> tuple[tuple[float, float], tuple[float, float]]:
    """95 % of precision and of recall, over pictures that are drawn anew with replacement."""
    rng, each = np.random.default_rng(0), [np.flatnonzero(pictures == one) for one in np.unique(pictures)]
    found = []
    for _ in range(2000):
        some = np.concatenate([each[i] for i in rng.integers(len(each), size=len(each))])
        found.append(verdict(said[some], missing[some]))
    low, high = np.quantile(np.array(found), [0.025, 0.975], axis=0)
    return (float(low[0]), float(high[0])), (float(low[1]), float(high[1]))


def told_apart(values: Float[np.ndarray, " word"], missing: Bool[np.ndarray, " word"]) -> float:
    """The chance that a word that is there has the higher value than one that is not: the area under the ROC curve."""
    there, gone = values[~missing][:, None], values[missing]
    return float(((there > gone) + 0.5 * (there == gone)).mean())


def tell(out: Path, jobs: Sequence[Job]) -> None:
    """Print what was chosen on the development half, and what it brings on the test half."""
    words = list(words_of(out, jobs))
    half = {
        name: [one for one in words if one.development == (name == "development")] for name in ("development", "test")
    }
    values = {
        name: {key: np.array([one.signals[key] for one in some]) for key in words[0].signals}
        for name, some in half.items()
    }
    missing = {name: np.array([one.missing for one in some]) for name, some in half.items()}
    own = "clarity (the score)"
    middle, steepness = fitted(values["development"][own], missing["development"])
    scores = {name: 1 / (1 + (found[own] / middle) ** steepness) for name, found in values.items()}
    steps = np.linspace(0.05, 0.95, 91)
    best = max(steps, key=lambda least: verdict(scores["development"] >= least, missing["development"]).both)
    print(f"{len({one.picture for one in words})} of {len(jobs)} pictures; chosen on the development half: ", end="")
    print(f"MIDDLE {middle:.3g}, STEEPNESS {steepness:.3g}, NEGLECTED {best:.2f}")
    print(f"in use: MIDDLE {MIDDLE:g}, STEEPNESS {STEEPNESS:g}, NEGLECTED {NEGLECTED:g}\n")
    print(
        "| half | words | missing | said to be missing | precision (95 %) | recall (95 %) |\n| --- "
        + "| --- " * 5
        + "|"
    )
    for name, some in half.items():
        said, gone = score_of(values[name][own]) >= NEGLECTED, missing[name]
        one, spans = verdict(said, gone), interval(said, gone, np.array([word.picture for word in some]))
        shown = [f"{value:.0%} ({low:.0%} to {high:.0%})" for value, (low, high) in zip(one, spans, strict=True)]
        print(f"| {name} | {len(some)} | {gone.sum()} ({gone.mean():.1%}) | {said.sum()} | {' | '.join(shown)} |")
    print("\n| told by | development | test |\n| --- | --- | --- |")
    for key in words[0].signals:
        print(f"| {key} | {' | '.join(f'{told_apart(values[name][key], missing[name]):.2f}' for name in half)} |")
    print("\n| score, test half | words | missing |\n| --- | --- | --- |")
    score, gone = score_of(values["test"][own]), missing["test"]
    for low, high in ((0.0, 0.05), (0.05, 0.15), (0.15, 0.35), (0.35, 0.65), (0.65, 1.0)):
        inside = (score >= low) & (score < high)
        print(f"| {low:g} to {high:g} | {inside.sum()} | {gone[inside].mean() if inside.any() else 0:.0%} |")


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
    else:
        tell(arguments.out, jobs)


if __name__ == "__main__":
    main()
