"""attnreg bench tune: a method's settings chosen for a model, within a budget that is the same for every method."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from attnreg.commands.bench import bench
from attnreg.commands.kinds import COUNT, FOLDER, PROMPTS
from attnreg.commands.parameters import MODEL, MethodName
from attnreg.commands.terminal import tell
from attnreg.seeds import seeds_of


@bench.command(name="tune")
@click.argument("method", type=MethodName())
@MODEL
@click.option("--prompts", default="three-things", show_default=True, help="a prompt set; its development half is used")
@click.option("--half", default="development", show_default=True, help="development, and nothing else")
@click.option("--judge", default="pocket", show_default=True, help="who scores the pictures")
@click.option("--score", default="all things", show_default=True, help="the judge's score that is to be high")
@click.option("--seeds", default="0-3", show_default=True, help="of the pictures, one after the other")
@click.option("--budget", type=PROMPTS, help="passes of the denoiser, a backward pass counting two [40000]")
@click.option("--candidates", type=COUNT, help="settings that are tried, the published ones among them [16]")
@click.option("--name", default="tuned", show_default=True, help="of the preset")
@click.option("--out", type=FOLDER, default="tune", show_default=True, help="the run's folder")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps or auto")
def tune_command(
    method: str, prompts: str, seeds: str, name: str, out: Path, device: str, budget: int | None,
    candidates: int | None, **options: Any,
) -> None:  # fmt: skip
    """Choose the settings of METHOD for a model by successive halving, and write them to OUT/METHOD.json.

    The file is a preset: attnreg generate ... --method METHOD --preset OUT/METHOD.json. Stop it as you like: the same
    command goes on, and draws nothing twice.
    """
    from attnreg.evaluation.tuning import Search, tune
    from attnreg.writing import write_file

    told: dict[str, Any] = {"budget": budget, "candidates": candidates}
    given = {key: value for key, value in told.items() if value is not None}
    search = Search(method=method, prompts=prompts, seeds=seeds_of(seeds), **options, **given)
    command = shlex.join(["attnreg", *sys.argv[1:]])
    done = tune(search, out, device=device, command=command, say=tell)
    preset = {
        "settings": done.settings,
        "model": search.model,
        "chosen on": f"{search.prompts}, {search.half} half, {done.winner.pictures} pictures in the last round",
        "judged by": f"{search.judge}/{search.score}",
        "passes": {"budget": search.budget, "spent": done.spent, "a picture": round(done.winner.passes, 1)},
        "command": command,
    }
    path = out / f"{method.replace(':', '-')}.json"
    write_file(path, json.dumps({method: {name: preset}}, indent=1) + "\n")
    tell(f"best: {done.winner.method}")
    tell(f"saved {path}")
