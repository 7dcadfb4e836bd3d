"""attnreg bench: methods against one another, on many prompts, judged; resumable, on one machine or many."""

from __future__ import annotations

import re
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from attnreg.commands.kinds import COUNT, COUNT_OR_NONE, GUIDANCE, PROMPTS, SEED, SIDE, STEPS, PathName
from attnreg.commands.terminal import tell
from attnreg.shown import told, visible

SOMETIMES = 30.0
"""Seconds between two lines of progress where they are not written over one another."""


@click.group()
def bench() -> None:
    """Compare methods: many prompts, the same seeds for each, judged."""


@bench.command(name="run")
@click.argument("config", required=False, type=PathName())
@click.option("--prompts", multiple=True, help="a prompt set or a file of prompts; repeat it for more")
@click.option("--methods", multiple=True, metavar="METHOD,...", help="such as none,attention-regulation(strength=0.5)")
@click.option("--models", multiple=True, help="pocket, a diffusers directory or a hub id; repeat it for more")
@click.option("--seeds", metavar="0-3", help="one picture a prompt, method and seed: 0, 0-3 or 1,5,9")
@click.option("--judges", multiple=True, metavar="JUDGE,...", help="who scores the pictures")
@click.option("--weights", multiple=True, metavar="JUDGE=PLACE", help="where a judge's weights are; repeat it for more")
@click.option("--limit", type=PROMPTS, help="of each prompt set, at most so many, drawn at random")
@click.option("--half", type=click.Choice(["development", "test"]), help="of each prompt set, only that half")
@click.option("--prompt-seed", type=SEED, help="decides the chances of a prompt set, and the limit [0]")
@click.option("--find-things", is_flag=True, default=None, help="read noun phrases off prompts that do not list things")
@click.option("--subset", multiple=True, metavar="METHOD=COUNT", help="give a slow method so many prompts only")
@click.option("--subset-seed", type=SEED, help="decides which [0]")
@click.option("--maps", type=COUNT_OR_NONE, help="of so many prompts, keep where attention lay (first seed) [0]")
@click.option("--steps", type=STEPS, help="denoising steps [the model's own]")
@click.option("--guidance-scale", type=GUIDANCE, help="classifier-free guidance [the model's own]")
@click.option("--negative-prompt", help="what guidance moves away from")
@click.option("--height", type=SIDE, help="of the pictures, in pixels [the model's own]")
@click.option("--width", type=SIDE, help="of the pictures, in pixels [the model's own]")
@click.option("--scheduler", help="ddim, dpm++, euler, euler-a, heun, ... [the model's own]")
@click.option("--dtype", help="float32, float16, bfloat16 or auto [auto]")
@click.option(
    "--out", default="bench", show_default=True, help="the run's folder, or an address such as s3://bucket/run"
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps or auto")
@click.option("--executor", type=click.Choice(["local", "ray"]), default="local", show_default=True, help="who draws")
@click.option("--workers", type=COUNT, help="of the Ray cluster [one a GPU, or one a core]")
@click.option("--batch", type=COUNT, default=16, show_default=True, help="pictures a judge sees at a time")
@click.option("--download", is_flag=True, help="let judges fetch weights from the hub")
@click.option("--retry-failed", is_flag=True, help="try again what a method could not draw")
def run_command(
    config: Path | None, out: str, device: str, executor: Any, workers: int | None, batch: int, download: bool,
    retry_failed: bool, **options: Any,
) -> None:  # fmt: skip
    """Draw and judge what CONFIG, a YAML file, or the options ask for; what OUT holds already is not done again.

    Options stand in the place of what CONFIG says. Without CONFIG, a run that is there is taken up again: what is given
    of prompts, methods, models, seeds and judges is added to it. Stop it as you like: the same command goes on.
    """
    given = _given(options)
    asked = _asked(config, given, out)
    from attnreg.evaluation.bench import run

    show = _Progress()
    done = run(
        asked,
        out,
        executor=executor,
        workers=workers,
        device=device,
        batch=batch,
        download=download,
        retry_failed=retry_failed,
        command=shlex.join(["attnreg", *sys.argv[1:]]),
        say=show.say,
        progress=show.progress,
    )
    show.say(f"{done.asked} pictures in {out}: {done.drawn} drawn and {done.judged} verdicts given now")
    if done.failures:
        show.say(f"{len(done.failures)} could not be drawn:")
        for (prompt, seed, method, model), error in done.failures:
            show.say(f"  {method}, {model}, seed {seed}, {prompt!r}: {error}")


def _given(options: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in options.items() if value not in (None, ())}
    if "judges" in given:
        given["judges"] = tuple(name.strip() for text in given["judges"] for name in text.split(",") if name.strip())
    if "methods" in given:
        from attnreg.evaluation.spelling import split_methods

        given["methods"] = tuple(method for text in given["methods"] for method in split_methods(text))
    for name in ("subset", "weights"):
        if name in given:
            given[name] = pairs_of(f"--{name}", given[name])
    if "subset" in given:
        for method, count in given["subset"].items():
            if not re.fullmatch("[0-9]{1,18}", count):
                raise click.BadParameter(f"expected a number of prompts after {method}=, got {told(count)}")
        given["subset"] = {method: int(count) for method, count in given["subset"].items()}
    return given


def pairs_of(option: str, texts: Sequence[str]) -> dict[str, str]:
    """What NAME=VALUE, given several times, tells; a usage error if a name comes twice."""
    pairs = [_pair(option, text) for text in texts]
    names = [name for name, _ in pairs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise click.BadParameter(f"{option}: expected every name once, got {told(twice[0])} twice; keep one of them")
    return dict(pairs)


def _pair(option: str, text: str) -> tuple[str, str]:
    # The last "=" for a subset, whose method may hold others; the first for weights, whose place may.
    name, sign, value = text.rpartition("=") if option == "--subset" else text.partition("=")
    if not (name and sign and value):
        raise click.BadParameter(f"{option}: expected NAME=VALUE, got {told(text)}")
    return name, value


def _asked(config: Path | None, given: dict[str, Any], out: str) -> Any:
    from attnreg.evaluation.config import Config, checked, config_of, read_config
    from attnreg.evaluation.store import last_config

    if config is not None:
        return read_config(config).with_these(**given)
    if (before := last_config(out)) is not None:
        return config_of(before, out).with_more(**given)
    if "prompts" not in given:
        raise click.UsageError(f"expected CONFIG or --prompts, or with --out a run to go on with; {out} holds none")
    return Config(**checked(given))


class _Progress:
    """Lines on the terminal's last line, or where that cannot be written over, one now and then."""

    def __init__(self) -> None:
        self._terminal, self._width, self._last = sys.stderr.isatty(), 0, 0.0

    def say(self, line: str) -> None:
        if self._width:
            click.echo("\r" + " " * self._width + "\r", err=True, nl=False)
            self._width = 0
        tell(line)

    def progress(self, line: str) -> None:
        if self._terminal:
            click.echo("\r" + visible(line).ljust(self._width), err=True, nl=False)
            self._width = max(self._width, len(line))
        elif time.monotonic() - self._last >= SOMETIMES:
            self._last = time.monotonic()
            tell(line, err=True)
