"""Methods on pairs of things the model never saw together: the instrument by which edits are developed.

`python -m benchmarks.pairs "attention-regulation" "attention-balance(gain=2)"`: each method on the same prompts and
seeds as the unmodified model, judged by the bundled judge: both things there, colours, pictures gained and lost with an
exact test over pictures' prompts, mean absolute difference of pixels, time. Only the development half, unless `--test`
is said.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from attnreg.evaluation.prompts import fewer, halves, prompt_set
from attnreg.evaluation.spelling import edit_of
from attnreg.measure.pocket import PocketJudge
from attnreg.methods import DEFAULT
from attnreg.models.about import POCKET_NAME
from attnreg.models.load import load_pipeline
from attnreg.records import Record
from attnreg.statistics import Comparison, compare, line_up
from benchmarks.drawing import drawn, mean_absolute_difference


def main() -> None:
    """Draw, judge and print a line a method; the unmodified pictures' scores are kept to be drawn once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=[DEFAULT])
    parser.add_argument("--model", default=POCKET_NAME, help="another version of the bundled one")
    parser.add_argument("--prompts", default="unseen-pairs")
    parser.add_argument("--limit", type=int, default=1000, help="prompts")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, help="denoising steps, default: the model's own")
    parser.add_argument("--test", action="store_true", help="the test half: only for a table that will be committed")
    parser.add_argument("--out", type=Path, help="records, as JSON lines")
    arguments = parser.parse_args()
    parts = halves(prompt_set(arguments.prompts))
    prompts = fewer(parts.test if arguments.test else parts.development, arguments.limit)
    judge, pipe = PocketJudge(), load_pipeline(arguments.model)
    pipe.set_progress_bar_config(disable=True)
    records: list[Record] = []
    plain: list[Any] = []
    print("| method | all things | difference | gained / lost | p | right colours too | mean abs. difference | time |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for method in dict.fromkeys(["none", *arguments.methods]):
        began = time.perf_counter()
        made = list(drawn(pipe, prompts, range(arguments.seeds), edit_of(method), num_inference_steps=arguments.steps))
        seconds = (time.perf_counter() - began) / len(made)
        plain = plain or made
        for one, before, scores in zip(
            made, plain, judge([one.picture for one in made], [one.prompt for one in made]), strict=True
        ):
            moved = {"mean absolute difference": mean_absolute_difference(one.picture, before.picture)}
            named = {f"pocket/{name}": value for name, value in scores.items()}
            records.append(
                Record(
                    one.prompt.text, one.prompt.category, one.seed, method, "pocket", "", seconds, None, named | moved
                )
            )
        print(line(records, method), flush=True)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text("".join(json.dumps(vars(record)) + "\n" for record in records))


def line(records: list[Record], method: str) -> str:
    """The method's row of the table."""
    both = compare(line_up(records, "none", method, "pocket/all things"))
    everything = compare(line_up(records, "none", method, "pocket/all"))
    own = [record for record in records if record.method == method]
    plain = next(record.seconds for record in records if record.method == "none")
    distance = float(np.mean([record.scores["mean absolute difference"] for record in own]))
    cells = [
        method,
        *exchange(both),
        f"{100 * everything.second.value:.1f} %",
        f"{distance:.4f}",
        f"{own[0].seconds / plain:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def exchange(both: Comparison) -> tuple[str, str, str, str]:
    """Cells of a table: the method's rate, its difference to the other's, pictures gained and lost, p."""
    d = both.difference
    return (
        f"{100 * both.second.value:.1f} %",
        f"{100 * d.value:+.1f} ({100 * d.low:+.1f} to {100 * d.high:+.1f})",
        f"{both.gained} / {both.lost}",
        f"{both.p:.2g}",
    )


if __name__ == "__main__":
    main()
