"""What regulation adds to whole denoisers, plain and regulated in alternation: time, memory, launches.

`python -m benchmarks.overhead --json FILE --plot FILE`. The shapes are those of `benchmarks.denoisers`, full size where
the weights fit in `--memory`, else with fewer blocks of the same layers, which the row says. Every round makes one
plain call and one of each method, in another order each time, and a method is compared with the plain call of its own
round: by the clock, and by the processor time of the process, of which other work on the machine takes no part. Told is
the median of these ratios with the interval of medians of resampled rounds.

A row that the file holds with as many rounds is not measured again, and one with fewer goes on; the file is written
after every round. `--rounds 0` only tells what it holds. Methods are written as everywhere: Attend-and-Excite without
its refinements, whose number depends on the picture, and `"best-start(enough=0)" --steps 20` for what it adds where the
given start is kept. `--share` is the part of the steps that is regulated, but for methods with their own way.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from attnreg.attention.calls.edits import edits_for, edits_of
from attnreg.attention.families import family_of
from attnreg.attention.regulate import regulate
from attnreg.devices import check_device
from attnreg.evaluation.spelling import edit_of
from attnreg.models.load import DTYPES
from attnreg.types import AttnregError
from attnreg.writing import write_file
from benchmarks.cost import CountOperations
from benchmarks.denoisers import DENOISERS, Denoiser
from benchmarks.layers import peak_bytes
from benchmarks.overhead_told import plot, table

PROMPT = "a frog and a blue crown"
METHODS = (
    "attention-balance",
    "attention-regulation",
    "attention-regulation:reference",
    "taca",
    "attend-and-excite(refinements=0)",
    "syngen",
)


@dataclass(frozen=True)
class Setting:
    """What decides a row, beside how often it was measured."""

    denoiser: str
    blocks: int
    method: str
    device: str
    dtype: str
    steps: int
    share: float
    threads: int


@dataclass(frozen=True)
class Row(Setting):
    """One method on one denoiser: each round's ratios to the plain call beside it, and what is counted once."""

    whole: bool
    """Whether the denoiser has all its blocks."""
    held: int
    """Bytes of all weights of the pipeline."""
    launches: tuple[int, int]
    """Operations of a call, plain and with the method."""
    peak: tuple[int, int]
    """Most bytes of a call beyond the weights, likewise."""
    plain_seconds: list[float]
    clock: list[float]
    processor: list[float]

    @property
    def setting(self) -> Setting:
        """What it is a row of."""
        return Setting(**{one.name: getattr(self, one.name) for one in fields(Setting)})


@dataclass(frozen=True)
class Asked:
    """What is to be measured."""

    methods: Sequence[str]
    rounds: int
    steps: int
    share: float
    device: str
    dtype: str


class Sitting:
    """One denoiser, and calls of it."""

    def __init__(self, denoiser: Denoiser, blocks: int, asked: Asked) -> None:
        self.asked = asked
        pipe, dtype = denoiser.pipeline(blocks), DTYPES[asked.dtype]
        self.pipe = pipe.to(asked.device) if dtype == torch.float32 else pipe.to(asked.device, dtype)
        self.options = denoiser.options | {
            "num_inference_steps": asked.steps, "height": denoiser.side, "width": denoiser.side,
            "output_type": "latent",
        }  # fmt: skip
        modules = (one for one in self.pipe.components.values() if isinstance(one, torch.nn.Module))
        self.held = sum(one.nbytes for module in modules for one in module.parameters())

    def edit(self, method: str) -> Any:
        """The method's edit in a share of the steps. Raises `AttnregError` if this denoiser does not take it."""
        edit = edit_of(method)
        edits_for(family_of(self.pipe)[0], edits_of(edit))
        if "window" not in {field.name for field in fields(edit)}:
            return edit  # it has its own way with the steps
        return replace(edit, window=(0.0, self.asked.share))

    def draw(self, edit: Any) -> None:
        """One call of the pipeline; afterwards the device has done all of it."""
        generator = torch.Generator().manual_seed(0)
        if edit is None:
            self.pipe(PROMPT, generator=generator, **self.options)
        else:
            with regulate(self.pipe, config=edit):
                self.pipe(PROMPT, generator=generator, **self.options)
        if self.asked.device.startswith("cuda"):
            torch.cuda.synchronize()

    def taken(self, edit: Any) -> tuple[float, float]:
        """Seconds of a call: by the clock, and of the processor."""
        clock, processor = time.perf_counter(), time.process_time()
        self.draw(edit)
        return time.perf_counter() - clock, time.process_time() - processor

    def counted(self, edit: Any) -> tuple[int, int]:
        """Operations of a call, and the most bytes that it held beyond the weights."""
        with CountOperations() as counter:
            if self.asked.device.startswith("cuda"):
                before = torch.cuda.memory_allocated()
                torch.cuda.reset_peak_memory_stats()
                self.draw(edit)
                peak = torch.cuda.max_memory_allocated() - before
            else:
                peak = peak_bytes(lambda: self.draw(edit))
        return counter.count, peak


def measure(
    name: str, denoiser: Denoiser, blocks: int, asked: Asked, rows: list[Row], save: Callable[[], None]
) -> list[str]:
    """Measure what is missing of one denoiser's rows.

    Args:
        name: of the denoiser.
        denoiser: what is built.
        blocks: how many of its blocks.
        asked: which methods, how often, and how.
        rows: what was measured; added to.
        save: called after every round.

    Returns:
        What was left out, in one line each.
    """
    known = {row.setting: row for row in rows}
    settings = {
        method: Setting(
            name, blocks, method, asked.device, asked.dtype, asked.steps, asked.share, torch.get_num_threads()
        )
        for method in asked.methods
    }
    left = {
        method: setting
        for method, setting in settings.items()
        if setting not in known or len(known[setting].clock) < asked.rounds
    }
    if not left:
        return []
    sitting, edits, refused = Sitting(denoiser, blocks, asked), {}, []
    for method in left:
        try:
            edits[method] = sitting.edit(method)
        except AttnregError as error:
            refused.append(f"{name}, {method}: {error}")
    plain_counts = sitting.counted(None) if edits else (0, 0)  # the first calls pay for what is only done once
    for method, edit in edits.items():
        if left[method] not in known:
            launches, peaks = zip(plain_counts, sitting.counted(edit), strict=True)
            made = Row(
                **asdict(left[method]), whole=blocks == denoiser.blocks[0], held=sitting.held, launches=launches,
                peak=peaks, plain_seconds=[], clock=[], processor=[],
            )  # fmt: skip
            rows.append(made)
            known[left[method]] = made
    while due := [method for method in edits if len(known[left[method]].clock) < asked.rounds]:
        _round(sitting, {method: (edits[method], known[left[method]]) for method in due})
        save()
    return refused


def _round(sitting: Sitting, due: dict[str, tuple[Any, Row]]) -> None:
    """One plain call and one of each method, in an order that differs from round to round."""
    order: list[str | None] = [None, *due]
    random.Random(max(len(row.clock) for _, row in due.values())).shuffle(order)
    taken = {method: sitting.taken(None if method is None else due[method][0]) for method in order}
    plain = taken[None]
    for method, (_, row) in due.items():
        row.plain_seconds.append(plain[0])
        row.clock.append(taken[method][0] / plain[0])
        row.processor.append(taken[method][1] / plain[1])


def read(path: Path | None) -> list[Row]:
    """The rows that a file holds; none where there is no file."""
    if path is None or not path.exists():
        return []
    return [
        Row(**one | {"launches": tuple(one["launches"]), "peak": tuple(one["peak"])})
        for one in json.loads(path.read_text(encoding="utf-8"))
    ]


def main() -> None:
    """Measure what is missing, then print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=list(METHODS))
    parser.add_argument("--denoisers", nargs="*", default=list(DENOISERS), choices=list(DENOISERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2, help="denoising steps a call")
    parser.add_argument("--share", type=float, default=0.5, help="of the steps, counted from the first, is regulated")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=list(DTYPES))
    parser.add_argument("--memory", type=float, default=8.0, help="GB that a denoiser's weights may take")
    parser.add_argument("--blocks", type=int, help="of the denoiser, whatever the memory, for a quick look")
    parser.add_argument("--side", type=int, help="of the picture in pixels, where the model's own takes too long")
    parser.add_argument("--json", type=Path, help="what was measured before, and shall be kept")
    parser.add_argument("--plot", type=Path, help="a PNG")
    arguments = parser.parse_args()
    device, dtype = check_device(arguments.device), DTYPES[arguments.dtype]
    asked = Asked(
        arguments.methods, arguments.rounds, arguments.steps, arguments.share, device, str(dtype).split(".")[-1]
    )
    rows = read(arguments.json)

    def save() -> None:
        if arguments.json:
            write_file(arguments.json, json.dumps([asdict(row) for row in rows], indent=1).encode())

    refused: list[str] = []
    for name in arguments.denoisers if asked.rounds else []:
        denoiser = DENOISERS[name]
        if arguments.side:
            name, denoiser = f"{name} at {arguments.side} pixels", replace(denoiser, side=arguments.side)
        blocks = arguments.blocks or denoiser.largest(arguments.memory * 1e9 / dtype.itemsize)
        refused += measure(name, denoiser, blocks, asked, rows, save)
    print(table(rows))
    print("\n".join(["", *refused]))
    if arguments.plot:
        plot(rows).save(arguments.plot)


if __name__ == "__main__":
    main()
