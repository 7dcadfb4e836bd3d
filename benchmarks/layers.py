"""One regulated attention layer against the plain call: time, memory and operations, of the layers of real models.

`python -m benchmarks.layers`. Plain and regulated calls take turns in one process, and each regulated call is divided
by the plain one beside it, by the processor time of the process, of which other work on the machine takes no part; the
median of these ratios is told, with the interval of medians of resampled pairs. Memory is what torch's allocator held
at most while a call ran (its profiler tells every allocation), beside the queries, keys and values that were there
before; what a matrix library keeps for itself is left out. The edit is timed in its second and later steps, where it
has a memory of the step before.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from attnreg.evaluation.spelling import edit_of
from attnreg.regulation.columns import LogitEdit
from benchmarks.cost import CountOperations, Layer, Shape

LAYERS: dict[str, tuple[Shape, bool]] = {
    "SD 64 x 64": (Shape(2, 8, 64 * 64, 77, 40), False),
    "SD 32 x 32": (Shape(2, 8, 32 * 32, 77, 40), False),
    "SD 16 x 16": (Shape(2, 8, 16 * 16, 77, 40), False),
    "FLUX 512 + 1,024": (Shape(1, 24, 1024, 512, 128), True),
    "FLUX 512 + 4,096": (Shape(1, 24, 4096, 512, 128), True),
}
"""Name -> the shape of the call, and whether text and picture attend to one another."""
METHODS = ["attention-balance", "attention-regulation", "attention-regulation:reference"]


def seconds(call: Callable[[], Any]) -> float:
    """Of the processor, in one call."""
    began = time.process_time()
    call()
    return time.process_time() - began


def ratios(layer: Layer, budget: float, least: int = 5, most: int = 200) -> list[float]:
    """Regulated by plain, of neighbouring calls, the one or the other first in turn; for about `budget` seconds."""
    found: list[float] = []
    began = time.perf_counter()
    while len(found) < least or (time.perf_counter() - began < budget and len(found) < most):
        if len(found) % 2:
            plain, regulated = seconds(layer.plain), seconds(layer.regulated)
        else:
            regulated, plain = seconds(layer.regulated), seconds(layer.plain)
        found.append(regulated / plain)
    return found


def interval(found: list[float]) -> tuple[float, float]:
    """Where 95 of 100 medians of resampled ratios lie."""
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(found, k=len(found))) for _ in range(1000))
    return medians[25], medians[974]


def peak_bytes(call: Callable[[], Any]) -> int:
    """Most bytes that torch's allocator held during a call, beyond those before it."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as told:
        kept = call()
    del kept
    assert told.profiler is not None
    events = [one for one in told.profiler.kineto_results.events() if one.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda one: one.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def extra_memory(layer: Layer) -> float:
    """The regulated call's peak over the plain one's, minus 1; both with queries, keys and values."""
    given = sum(one.nbytes for one in layer.call)
    return (given + peak_bytes(layer.regulated)) / (given + peak_bytes(layer.plain)) - 1


def launched(layer: Layer) -> int:
    """Operations beyond the plain call's."""
    with CountOperations() as regulated:
        layer.regulated()
    with CountOperations() as plain:
        layer.plain()
    return int(regulated.count - plain.count)


@torch.no_grad()
def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=METHODS)
    parser.add_argument("--layers", nargs="*", default=list(LAYERS), choices=list(LAYERS))
    parser.add_argument("--budget", type=float, default=5.0, help="seconds a method and layer, about")
    arguments = parser.parse_args()
    print("| layer | method | time, regulated / plain | pairs | peak memory | operations beyond the plain call |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in arguments.layers:
        shape, joint = LAYERS[name]
        for method in arguments.methods:
            edit = edit_of(method)
            if joint and not isinstance(edit, LogitEdit):
                continue  # it needs all logits of text alone
            layer = Layer(shape, edit, joint=joint)
            layer.plain()
            layer.regulated()
            found = ratios(layer, arguments.budget)
            low, high = interval(found)
            cells = [
                name,
                method,
                f"{statistics.median(found):.2f} ({low:.2f} to {high:.2f})",
                str(len(found)),
                f"{extra_memory(layer):+.1%}",
                str(launched(layer)),
            ]
            print(f"| {' | '.join(cells)} |", flush=True)
    print(f"\nfloat32, CPU, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
