"""What watching adds to a picture of the bundled model: `python -m benchmarks.watching`, each method watched and not.

Both are drawn in one process, in turns, and compared in pairs by the processor time of the process, of which other
work on the machine takes no part; one thread. What is launched is counted once, which no other work disturbs:
`--rounds 0` counts alone.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np
import torch

from attnreg.models.about import POCKET, POCKET_NAME, about
from attnreg.models.load import load_pipeline
from attnreg.sampling import configure, generate
from benchmarks.cost import CountOperations

PROMPT = "a frog and a blue crown"
METHODS = ("none", "auto", "attention-balance", "attention-regulation")


def seconds(pipe: Any, method: str, seed: int, maps: bool, options: dict[str, Any]) -> float:
    """Processor time of one picture."""
    began = time.process_time()
    generate(pipe, PROMPT, configure(method), seed=seed, maps=maps, **options)
    return time.process_time() - began


def launched(pipe: Any, method: str, maps: bool, options: dict[str, Any]) -> int:
    """Operations of one picture."""
    with CountOperations() as counter:
        seconds(pipe, method, 0, maps, options)
    return int(counter.count)


def interval(ratios: list[float]) -> tuple[float, float]:
    """95 % of the medians of resampled pairs."""
    rng = np.random.default_rng(0)
    low, high = np.quantile(np.median(rng.choice(ratios, (2000, len(ratios))), axis=1), [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=list(METHODS))
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pipe, told = load_pipeline(POCKET_NAME), about(POCKET)
    assert told, "the bundled model says what it draws best with"
    pipe.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": told.steps, "guidance_scale": told.guidance_scale}
    seconds(pipe, "none", 0, True, options)  # the first call pays for what is only done once
    ratios: dict[str, list[float]] = {name: [] for name in arguments.methods}
    for seed in range(arguments.rounds):
        for name in arguments.methods:
            order = (True, False) if seed % 2 else (False, True)
            taken = {maps: seconds(pipe, name, seed, maps, options) for maps in order}
            ratios[name].append(taken[True] / taken[False])
    print("| method | operations | more if watched | time, watched / not | pairs |\n| --- | --- | --- | --- | --- |")
    for name, found in ratios.items():
        plain, watched = (launched(pipe, name, maps, options) for maps in (False, True))
        low, high = interval(found) if found else (0.0, 0.0)
        ratio = f"{statistics.median(found):.3f} ({low:.3f} to {high:.3f})" if found else ""
        print(f"| {name} | {plain:,} | {watched - plain:+,} | {ratio} | {len(found)} |")


if __name__ == "__main__":
    main()
