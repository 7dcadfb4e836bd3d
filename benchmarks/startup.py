"""Processor time from a command to its first step, with the bundled model: `python -m benchmarks.startup`.

Each time in a process of its own, in turns: as `attnreg` starts, and as a program that imports attnreg. torch comes
first, for what it takes alone nobody can spare who draws with it. Then the whole command, with the picture saved. A
process before the first round is not counted: it writes the bytecode.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile

STAGES = ("import torch", "import diffusers, transformers", "open the bundled model", "one step, attention-balance")
STARTS = {
    "a command": "from attnreg.models.starting import libraries_for\nlibraries_for('pocket')",
    "a program": "from attnreg.models.quiet import quiet_libraries\nquiet_libraries()",
}
MEASURED = """
import json, sys, time
taken = []
import torch
taken.append(time.process_time())
{start}
taken.append(time.process_time())
from attnreg import configure, generate, load_pipeline
pipe = load_pipeline("pocket", device="cpu")
taken.append(time.process_time())
generate(pipe, "a cat and a dog", configure("attention-balance"), num_inference_steps=1)
taken.append(time.process_time())
print(json.dumps(taken + [len(sys.modules)]))
"""
COMMAND = "from attnreg.cli import main; main()"
WORDS = ("generate", "a cat and a dog", "--method", "attention-balance", "--steps", "1", "--alone", "--device", "cpu")
AS_INSTALLED = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def measured(start: str) -> list[float]:
    """Seconds of processor time at the end of each stage, and the number of modules that were loaded."""
    asked = [sys.executable, "-W", "ignore", "-c", MEASURED.format(start=STARTS[start])]
    done = subprocess.run(asked, capture_output=True, text=True, check=True, env=AS_INSTALLED)
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def whole_command() -> float:
    """Seconds of processor time of `attnreg generate`, one step, from its start to its end."""

    def spent() -> float:
        told = resource.getrusage(resource.RUSAGE_CHILDREN)
        return told.ru_utime + told.ru_stime

    with tempfile.TemporaryDirectory() as out:
        asked = [sys.executable, "-W", "ignore", "-c", COMMAND, *WORDS, "--out", out]
        before = spent()
        subprocess.run(asked, capture_output=True, check=True, env=AS_INSTALLED)
        return spent() - before


def told(taken: tuple[float, ...]) -> str:
    """Median, least and most."""
    return f"{statistics.median(taken):.1f} ({min(taken):.1f} to {max(taken):.1f})"


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    for start in STARTS:
        measured(start)
    rounds = [(*(measured(start) for start in STARTS), whole_command()) for _ in range(arguments.rounds)]
    *processes, commands = zip(*rounds, strict=True)
    by_start = [list(zip(*found, strict=True)) for found in processes]
    print(f"| up to the end of | {' | '.join(STARTS)} |\n| --- | --- | --- |")
    for number, name in enumerate(STAGES):
        print(f"| {name} | {' | '.join(told(found[number]) for found in by_start)} |")
    print(f"| the command, picture saved | {told(commands)} | |")
    print(f"| modules | {' | '.join(f'{found[-1][-1]:,.0f}' for found in by_start)} |")
    print(f"\nSeconds of processor time: median (least to most) of {arguments.rounds} processes.")


if __name__ == "__main__":
    main()
