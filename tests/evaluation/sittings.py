"""Sittings with the fakes: here, or in processes of their own, to be killed.

As a script: reads one JSON object a line and works through it in a forked process, by wish killed at a moment told.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import diffusers
import fakes
import transformers

import attnreg.sampling  # noqa: F401  (else every forked process loads it anew)
from attnreg.evaluation.bench import Finished, run
from attnreg.evaluation.config import Config, checked
from attnreg.evaluation.store import Store

HERE = Path(__file__).parent


def sit(folder: str, log: str, count: int, config: dict[str, Any], seconds: float = 0.0, **options: Any) -> Finished:
    """One sitting with the fakes."""
    return run(
        Config(**checked({"prompts": "fake"} | config)),
        folder,
        prompts=fakes.prompts(count),
        open_model=fakes.FakeModels(log, seconds),
        open_judge=fakes.FakeJudges(log),
        **options,
    )


def sit_with_pipeline(folder: str, log: str, count: int, config: dict[str, Any]) -> Finished:
    """One sitting with real pipelines; every picture that is drawn and kept is a line of the log."""
    return run(
        Config(**checked({"prompts": "fake"} | config)),
        folder,
        prompts=fakes.prompts(count),
        device="cpu",
        open_judge=fakes.FakeJudges(log + " of judges"),
        progress=lambda line: fakes.note(log, "progress", line),
    )


def outcome(folder: str | Path) -> tuple[list[Any], dict[str, bytes | None], Any]:
    """Everything that a run decides: records but for time and memory, pictures, attention and its maps, failures."""
    store = Store(folder)
    records = sorted(
        (r.prompt, r.category, r.seed, r.method, r.model, r.picture, tuple(sorted(r.scores.items())))
        for r in store.records()
    )
    pictures = {record[5]: store.picture(record[5]) for record in records}
    return records, pictures, (store.attention(), store.maps(), store.failures(), store.prompts(), store.left())


class Sittings:
    """A process that has loaded everything, and forks one for each sitting: a start costs milliseconds."""

    def __init__(self, *preloaded: str) -> None:
        """preloaded: what diffusers or transformers load only when it is first used."""
        places = os.pathsep.join([*sys.path, str(HERE)])
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), *preloaded],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": places, "OMP_NUM_THREADS": "1"},
        )

    def start(self, kill: tuple[int, int] | None = None, pipeline: bool = False, **sitting: Any) -> None:
        """kill: after so many lines of its log and then so many calls and returns: the same moment on any machine."""
        assert self._process.stdin
        print(
            json.dumps({"kill": kill, "pipeline": pipeline, "sitting": sitting}), file=self._process.stdin, flush=True
        )

    def ended(self) -> int:
        """Waits for a sitting that was started: 0, or the number of the signal that killed it."""
        assert self._process.stdout
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


def main() -> None:
    for name in sys.argv[1:]:
        getattr(diffusers, name, None) or getattr(transformers, name)
    for line in sys.stdin:
        told = json.loads(line)
        if (child := os.fork()) == 0:
            code = 1
            try:
                if told["kill"]:
                    kill_at(*told["kill"])
                (sit_with_pipeline if told["pipeline"] else sit)(**told["sitting"])
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        print(abs(os.waitstatus_to_exitcode(status)), flush=True)


def kill_at(lines: int, calls: int) -> None:
    """Kill this process after so many lines more of its log and then so many calls and returns of functions."""
    write = fakes.note

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls -= 1
        if calls < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def note(log: str, *words: object) -> None:
        nonlocal lines
        write(log, *words)
        lines -= 1
        if lines == 0:
            sys.setprofile(count)

    fakes.note = note
    if lines == 0:
        sys.setprofile(count)


if __name__ == "__main__":
    main()
