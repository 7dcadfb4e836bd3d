"""A run's gains and losses seed by seed: `python -m benchmarks.by_seed RUN METHOD ...`.

Where a choice was made after some of the seeds had been looked at, the others tell what it is worth.
"""

from __future__ import annotations

import argparse

from attnreg.evaluation import Store
from attnreg.seeds import seeds_of
from attnreg.statistics import compare, line_up
from benchmarks.pairs import exchange


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("methods", nargs="*", default=["best-start", "attention-regulation"])
    parser.add_argument("--seeds", nargs="*", default=["0-1", "2-3"], help="groups of seeds")
    parser.add_argument("--score", default="pocket/all things")
    arguments = parser.parse_args()
    records = Store(arguments.run).records()
    print("| seeds | method | none | method's | difference, points | gained / lost | p |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for seeds in arguments.seeds:
        some = [record for record in records if record.seed in seeds_of(seeds)]
        for method in arguments.methods:
            both = compare(line_up(some, "none", method, arguments.score))
            cells = (seeds, method, f"{100 * both.first.value:.1f} %", *exchange(both))
            print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
