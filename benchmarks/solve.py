"""The search of `attention-regulation` alone, against the published one: time, and the loss that is reached.

`python -m benchmarks.solve`. Maps of two targets, one of them neglected, 8 heads; the reference takes its 20 steps from
its random start, ours those of the first step of a picture (cold) and of every later one (warm, from the weights that
the first found, on maps that have moved a little). Compared by the processor time of the process, each with its
neighbour: a busy machine counts little. With `--flush` the processor takes denormal numbers for 0: the reference's
basis is full of them, which costs it most of its time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from attnreg.regulation.basis import gaussian_basis
from attnreg.regulation.config import AttentionRegulation
from attnreg.regulation.reference import ReferenceRegulation, published_basis
from attnreg.types import Grid
from benchmarks.layers import interval

HEADS, TARGETS = 8, 2


def maps(grid: Grid, seed: int) -> Tensor:
    """Rows of logits as the search is given them: of the targets, one of them neglected, and of all other tokens."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(HEADS, TARGETS + 1, grid.pixels, generator=generator)
    logits += 0.2 * torch.randn(logits.shape, generator=torch.Generator().manual_seed(seed))
    logits[:, -1] += 4
    logits[:, 0] -= 2
    return logits.log_softmax(1)


def processor_seconds(call: Callable[[], Any], times: int = 3) -> float:
    """Of a few calls."""
    began = time.process_time()
    for _ in range(times):
        call()
    return time.process_time() - began


@torch.no_grad()
def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="*", default=[16, 32, 64])
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--flush", action="store_true", help="denormal numbers are 0 to the processor")
    arguments = parser.parse_args()
    torch.set_flush_denormal(arguments.flush)
    ours, theirs = AttentionRegulation(), ReferenceRegulation()
    print("| map | search | times faster than the reference's | its loss | the reference's |")
    print("| --- | --- | --- | --- | --- |")
    for side in arguments.sides:
        grid = Grid(side, side)
        basis, published = gaussian_basis(grid), published_basis(grid)
        shape = torch.Size((HEADS, TARGETS, len(basis)))
        start = theirs.random_start((HEADS, TARGETS, len(published)), 0, "layer")
        first, later = maps(grid, 1), maps(grid, 2)
        cold = ours._searched(first, basis, grid, shape, None)
        for name, logits, previous in (("cold", first, None), ("warm", later, cold.weights)):
            search = partial(ours._searched, logits, basis, grid, shape, previous)
            reference = partial(theirs._descend, logits, published, start)
            losses = f"{float(search().loss_after.mean()):.3f} | {float(reference()[2].mean()):.3f}"
            found = [processor_seconds(reference) / processor_seconds(search) for _ in range(arguments.pairs)]
            low, high = interval(found)
            faster = f"{statistics.median(found):.0f} ({low:.0f} to {high:.0f})"
            print(f"| {side} x {side} | {name} | {faster} | {losses} |", flush=True)


if __name__ == "__main__":
    main()
