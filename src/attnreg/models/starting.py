"""The libraries that draw, loaded for one model by a process that does nothing else: without what it has no use for.

diffusers, transformers and accelerate import some packages wherever they are installed: PEFT for LoRAs, torchao for
quantised weights, SciPy for some schedules and for losses, boto3 for accelerate's own settings. That is a fifth of the
time from a command to its first step. Which of them a model needs, its directory says.

What was not found while the libraries loaded is not there for them until the process ends: never to be called in a
program of someone else's, who may open other models later.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from attnreg.errors import AttnregError
from attnreg.models.about import folder_of
from attnreg.models.directory import INDEX
from attnreg.models.quiet import quiet_libraries
from attnreg.reading import json_of, text_of

OPTIONAL = ("boto3", "peft", "scipy", "torchao")
"""Packages that the libraries do without, and import where they are installed."""
LIBRARIES = ("accelerate", "diffusers", "transformers")
ADAPTER, QUANTISED, SCHEDULER = "adapter_config.json", "quantization_config", "scheduler_config.json"
WITHOUT_SCIPY = (
    "DDIMScheduler", "DDPMScheduler", "DPMSolverMultistepScheduler", "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler", "FlowMatchEulerDiscreteScheduler", "HeunDiscreteScheduler", "LCMScheduler",
    "PNDMScheduler", "UniPCMultistepScheduler",
)  # fmt: skip
"""Schedulers of diffusers that need SciPy for beta sigmas alone. Of others it is not known."""
MOST_FILES, MOST_BYTES = 200, 1 << 20
"""How many configurations of a model are read, and how much of each: real ones have a dozen of some kilobytes."""


def libraries_for(model: str | None) -> None:
    """Load what draws with a model, in a process of our own.

    Where one of them is loaded already, all is left as it is.

    Args:
        model: as `load_pipeline` takes it. Of one that is no directory, or `None`, nothing is known: all is loaded.

    Raises:
        AttnregError: no file can be named so.
    """
    if any(name in sys.modules for name in LIBRARIES):
        quiet_libraries()
        return
    with not_found(unneeded(folder_of(model)) if model else ()):
        quiet_libraries()


def unneeded(folder: Path) -> tuple[str, ...]:
    """The packages of `OPTIONAL` that a pipeline's directory says nothing of; none if there is doubt.

    Args:
        folder: in diffusers' layout. Anything else is no fault here: opening it tells what is wrong.
    """
    if not folder.is_dir():
        return ()
    needed: set[str] = set()
    try:
        paths = [path for pattern in ("*.json", "*/*.json", "*/*/*.json") for path in sorted(folder.glob(pattern))]
        named = [path for path in paths if path.name in (ADAPTER, SCHEDULER, INDEX, "config.json")]
        if not named or len(named) > MOST_FILES:
            return ()
        for path in named:
            text = text_of(path, most=MOST_BYTES)
            told = json_of(text, str(path))
            if not isinstance(told, dict) or QUANTISED in text:
                return ()
            if path.name == ADAPTER:
                needed.add("peft")
            if path.name == SCHEDULER and (told.get("use_beta_sigmas") or told.get("_class_name") not in WITHOUT_SCIPY):
                needed.add("scipy")
    except (AttnregError, OSError):
        return ()
    return tuple(name for name in OPTIONAL if name not in needed)


@contextmanager
def not_found(names: Collection[str]) -> Iterator[None]:
    """Meanwhile, importing one of these packages fails as if it were not installed; those loaded already stay."""
    absent = [name for name in names if name not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment]  # Python's own sign: ModuleNotFoundError, and no spec
    try:
        yield
    finally:
        for name in absent:
            if sys.modules.get(name, absent) is None:
                del sys.modules[name]
