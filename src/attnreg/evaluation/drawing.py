"""Draw one cell of a run with a pipeline: the picture's bytes, its time, its memory, what was regulated."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float

from attnreg.evaluation.pictures import png_of
from attnreg.evaluation.spelling import edit_of
from attnreg.evaluation.store import Cell
from attnreg.evaluation.tasks import Drawn, Maps
from attnreg.models.about import about, drawn_with, folder_of
from attnreg.models.load import load_pipeline, set_scheduler
from attnreg.models.quiet import quiet_libraries
from attnreg.passes import counted
from attnreg.sampling import generate
from attnreg.trace import Trace


@dataclass(frozen=True)
class Pipelines:
    """Opens a model for a run: a callable, so that workers elsewhere can be given it."""

    drawing: Mapping[str, Any]
    """`Config.drawing()`."""
    device: str = "auto"
    mapped: frozenset[tuple[str, int]] = frozenset()
    """Prompts and seeds of which attention maps are kept: `plan.mapped_of`."""

    def __call__(self, model: str) -> Callable[[Cell], Drawn]:
        """A drawer with the model loaded. Raises `AttnregError` if it cannot be."""
        quiet_libraries()
        pipe = load_pipeline(model, device=self.device, dtype=self.drawing["dtype"])
        if self.drawing["scheduler"]:
            set_scheduler(pipe, self.drawing["scheduler"])
        pipe.set_progress_bar_config(disable=True)
        told = about(folder_of(model))
        options = {
            **drawn_with(told, self.drawing["steps"], self.drawing["guidance_scale"]),
            **{name: self.drawing[name] for name in ("negative_prompt", "height", "width")},
        }
        return lambda cell: draw(pipe, cell, options, (cell.prompt, cell.seed) in self.mapped)


def draw(pipe: Any, cell: Cell, options: Mapping[str, Any], maps: bool = False) -> Drawn:
    """Draw a cell; the seed alone decides the picture. Raises `AttnregError` where the method cannot."""
    edit = edit_of(cell.method)
    device = torch.device(getattr(pipe, "device", "cpu"))
    begin_peak(device)
    with counted(pipe) as passes:
        sample = generate(pipe, cell.prompt, edit, seed=cell.seed, maps=maps and edit is not None, **options)
    peak = peak_bytes(device)
    # A run compares attention without and with an edit of it: where there was none, there is nothing to compare.
    attention = sample.trace.attention() if sample.trace.records else []
    kept = plain_maps(sample.trace) if maps else None
    return Drawn(png_of(sample.picture), sample.seconds, peak, attention[0] if attention else {}, kept, passes.count)


def plain_maps(trace: Trace) -> Maps:
    """The maps of the one image of a trace as lists, to three digits: no picture of them shows more.

    Of a method that does not edit attention there are none.
    """
    found = trace.maps()[:1] if trace.records else []
    return {name: (_rows(before), _rows(after)) for one in found for name, (before, after) in one.items()}


def _rows(one: Float[torch.Tensor, "height width"]) -> list[list[float]]:
    return [[float(f"{value:.3g}") for value in row] for row in one.tolist()]


def begin_peak(device: torch.device) -> None:
    """Forget the peak of memory so far: the device's, or on Linux that of the process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif device.type == "cpu" and sys.platform == "linux":
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # man 5 proc: resets the peak resident set size


def peak_bytes(device: torch.device) -> int | None:
    """Peak memory since `begin_peak`: of the device, or on a CPU the resident set of the process. `None`: unknown."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if device.type != "cpu":
        return None
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None
