"""Processor time from a command to its first step, with the bundled model: `python -m benchmarks.startup`.

Each time in a process of its own. torch comes first, for what it takes alone nobody can spare who draws with it.
`--without peft torchao` tells what they cost where they are installed: they are then as if they were not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys

STAGES = ("import torch", "import diffusers, transformers", "open the bundled model", "one step, attention-balance")
MEASURED = """
import json, sys, time
for name in sys.argv[1:]:
    sys.modules[name] = None
taken = []
import torch
taken.append(time.process_time())
from attnreg.models.quiet import quiet_libraries
quiet_libraries()
taken.append(time.process_time())
from attnreg import configure, generate, load_pipeline
pipe = load_pipeline("pocket", device="cpu")
taken.append(time.process_time())
generate(pipe, "a cat and a dog", configure("attention-balance"), num_inference_steps=1)
taken.append(time.process_time())
print(json.dumps(taken + [len(sys.modules)]))
"""


def measured(without: list[str]) -> list[float]:
    """Seconds of processor time at the end of each stage, and the number of modules that were loaded."""
    asked = [sys.executable, "-W", "ignore", "-c", MEASURED, *without]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without", nargs="*", default=[], metavar="PACKAGE", help="packages that are not to be found")
    arguments = parser.parse_args()
    rounds = [measured(arguments.without) for _ in range(arguments.rounds)]
    print("| up to the end of | seconds of processor time, median | least to most |\n| --- | --- | --- |")
    *stages, modules = zip(*rounds, strict=True)
    for name, taken in zip(STAGES, stages, strict=True):
        print(f"| {name} | {statistics.median(taken):.1f} | {min(taken):.1f} to {max(taken):.1f} |")
    print(f"\n{arguments.rounds} processes, {modules[-1]:.0f} modules")


if __name__ == "__main__":
    main()
