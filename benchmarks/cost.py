"""What a regulated picture costs: seconds a picture, paired, and tensor operations a regulated layer.

`make cost` prints a table. Every method draws the same prompts and seeds in one process, the order
rotating from picture to picture, so that a machine that slows down slows all of them.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from attnreg.attention.families import family_of
from attnreg.attention.layers.catch import attend_with
from attnreg.attention.layers.correction import Part, attend_corrected
from attnreg.catalogue import works
from attnreg.methods import METHODS
from attnreg.models.about import POCKET, about
from attnreg.models.load import load_pipeline
from attnreg.regulation.columns import LogitEdit, columns_of
from attnreg.regulation.edit import ProbabilityEdit, PromptColumns
from attnreg.sampling import configure, generate
from attnreg.trace import Sample
from attnreg.types import Grid
from benchmarks.drawing import mean_absolute_difference
from benchmarks.sheets import prompts

FREE = {
    "_fused_sdp_choice",
    "promote_types",
    "unbind",
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
    "diagonal",
    "empty",
}


class Shape(NamedTuple):
    """Of an attention call."""

    rows: int
    heads: int
    pixels: int
    text: int
    channels: int


class CountOperations(TorchDispatchMode):
    """Counts the tensor operations that are dispatched; views and questions, which compute nothing, are left out."""

    def __init__(self) -> None:
        super().__init__()
        self.count: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().removeprefix("aten::").split(".")[0]
        self.count += name not in FREE
        return func(*args, **(kwargs or {}))


class Layer:
    """One attention call over some text, plain and regulated as the library does it, what its trace is told included.

    Args:
        shape: of the call.
        edit: what regulates it.
        targets: words of the prompt, one column each.
        joint: whether text and picture attend to one another: the text's positions are then queries and keys also.
    """

    def __init__(self, shape: Shape, edit: LogitEdit | ProbabilityEdit, targets: int = 2, joint: bool = False) -> None:
        self.edit, self.corrects = edit, isinstance(edit, LogitEdit)
        generator = torch.Generator().manual_seed(0)
        rows, heads, pixels, text, channels = shape
        queries, keys = (pixels + text,) * 2 if joint else (pixels, text)
        # As diffusers makes them: the heads of a position side by side.
        query, key, value = (
            torch.randn(rows, count, heads, channels, generator=generator).transpose(1, 2)
            for count in (queries, keys, keys)
        )
        self.call = query, key, value
        self.prompt = PromptColumns(tuple((2 + 3 * i,) for i in range(targets)), 0, 10)
        self.grid = Grid(math.isqrt(pixels), pixels // math.isqrt(pixels))
        self.row, self.queries = rows - 1, slice(queries - pixels, queries)
        self.memory: dict[str, Any] = {}
        self.step = 0

    def plain(self) -> Tensor:
        """The call as it is."""
        return F.scaled_dot_product_attention(*self.call)

    def regulated(self) -> Tensor:
        """The call as one step regulates it; the memory is kept from step to step."""
        step, self.step = self.step, self.step + 1
        edit: Any = self.edit
        if self.corrects:
            query = self.call[0]
            columns = columns_of((self.prompt,), 0, query.dtype, query.device)
            part = Part([self.row], self.queries, columns, self.grid, lambda change: told.append(change.measure()))
            told: list[Any] = []
            bias = partial(edit.bias, step=step, layer="layer", memory=self.memory)
            return attend_corrected([(part, bias)], *self.call)

        def edited(logits: Tensor) -> Any:
            return edit(logits, [self.prompt], self.grid, step, "layer", self.memory).probabilities

        return attend_with(edited, torch.tensor([self.row]), *self.call)


@torch.no_grad()
def operations(edit: LogitEdit | ProbabilityEdit, side: int = 16, targets: int = 2) -> int:
    """Operations of one regulated layer in one step, beyond the plain attention call (second step: with a memory)."""
    layer = Layer(Shape(2, 8, side * side, 77, 40), edit, targets)
    layer.regulated()
    with CountOperations() as counter:
        layer.regulated()
    with CountOperations() as plain:
        layer.plain()
    return int(counter.count - plain.count)


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
    edits = {name: configure(name) for name in METHODS if works(name, family_of(pipe)[0])}
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
