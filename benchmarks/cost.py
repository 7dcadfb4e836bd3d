"""What a regulated picture costs: seconds a picture, paired, and tensor operations a regulated layer.

`make cost` prints a table. Every method draws the same prompts and seeds in one process, the order
rotating from picture to picture, so that a machine that slows down slows all of them.
"""

from __future__ import annotations

import argparse
import random
import statistics
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from attnreg.attention.layers.catch import attend_with
from attnreg.attention.layers.correction import Part, attend_corrected
from attnreg.methods import METHODS
from attnreg.models.about import POCKET, about
from attnreg.models.load import load_pipeline
from attnreg.regulation.columns import LogitEdit, columns_of
from attnreg.regulation.edit import ProbabilityEdit, PromptColumns
from attnreg.sampling import configure, generate
from attnreg.types import Grid, Sample
from benchmarks.drawing import mean_absolute_difference
from benchmarks.sheets import prompts

VIEWS = {
    "view",
    "_unsafe_view",
    "expand",
    "transpose",
    "permute",
    "unsqueeze",
    "squeeze",
    "slice",
    "select",
    "t",
    "alias",
    "detach",
}


class CountOperations(TorchDispatchMode):
    """Counts the tensor operations that are dispatched; views, which compute nothing, are left out."""

    def __init__(self) -> None:
        super().__init__()
        self.count: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().removeprefix("aten::").split(".")[0]
        self.count += name not in VIEWS
        return func(*args, **(kwargs or {}))


def operations(edit: LogitEdit | ProbabilityEdit, side: int = 16, targets: int = 2) -> int:
    """Operations of one regulated layer in one step, beyond the plain attention call (second step: with a memory)."""
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(2, 8, positions, 40, generator=generator) for positions in (side * side, 77))
    prompt = PromptColumns(tuple((2 + 3 * i,) for i in range(targets)), 0, 10)
    grid, memory, step = Grid(side, side), dict[str, Any](), 0

    def layer() -> None:
        if isinstance(edit, LogitEdit):
            part = Part([1], slice(None), columns_of((prompt,), 0, query.dtype, query.device), grid)
            attend_corrected([(part, lambda seen: edit.bias(seen, step, "layer", memory))], query, key, key)
        else:
            attend_with(lambda logits: edit(logits, [prompt], grid, step, "layer", memory).probabilities,
                        torch.tensor([1]), query, key, key)  # fmt: skip

    layer()
    step = 1
    with torch.no_grad(), CountOperations() as counter:
        layer()
    return int(counter.count) - 1


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=12, help="pairs, of the twelve of benchmarks.sheets")
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    pipe = load_pipeline()
    pipe.set_progress_bar_config(disable=True)
    told = about(POCKET)
    assert told, "the bundled model says what it draws best with"
    options: dict[str, Any] = {"num_inference_steps": told.steps, "guidance_scale": told.guidance_scale}
    edits = {name: configure(name) for name in METHODS}
    names = list(edits)
    generate(pipe, "a cat", None, **options)  # the first picture pays for what is only done once
    seconds: dict[str, list[float]] = {name: [] for name in names}
    distances: dict[str, list[float]] = {name: [] for name in names}
    _, pairs = prompts(random.Random(0))
    for turn, (prompt, seed) in enumerate((p, s) for p in pairs[: arguments.prompts] for s in range(arguments.seeds)):
        order = names[turn % len(names) :] + names[: turn % len(names)]
        drawn: dict[str, Sample] = {name: generate(pipe, prompt, edits[name], seed=seed, **options) for name in order}
        for name, sample in drawn.items():
            seconds[name].append(sample.seconds)
            distances[name].append(mean_absolute_difference(sample.picture, drawn["none"].picture))
    print("| method | seconds a picture | extra time, paired median | operations a layer | mean abs. difference |")
    print("| --- | --- | --- | --- | --- |")
    for name, edit in edits.items():
        extra = statistics.median(a / b - 1 for a, b in zip(seconds[name], seconds["none"], strict=True))
        count = str(operations(edit)) if isinstance(edit, LogitEdit | ProbabilityEdit) else "0" if edit is None else ""
        row = [
            f"{statistics.median(seconds[name]):.2f}",
            f"{extra:+.1%}",
            count,
            f"{np.mean(distances[name]):.3f}",
        ]
        print(f"| {name} | {' | '.join(row)} |")
    threads = torch.get_num_threads()
    print(
        f"\n{len(seconds['none'])} pictures a method, {told.steps} steps, guidance {told.guidance_scale}, "
        f"CPU, {threads} threads"
    )


if __name__ == "__main__":
    main()
