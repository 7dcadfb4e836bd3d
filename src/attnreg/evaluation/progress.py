"""How far a run is, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass
class RunProgress:
    """The account of one sitting's drawing: what is left, at the pace of each method so far."""

    left: dict[str, int]
    """Method -> pictures still to be drawn."""
    seconds: dict[str, list[float]]
    """Method -> seconds of each picture drawn so far, of earlier sittings too."""
    workers: int = 1
    done: int = 0
    failed: int = 0
    total: int = 0
    began: float = field(default_factory=time.monotonic)

    @staticmethod
    def of(todo: Iterable[str], known: Mapping[str, list[float]], workers: int) -> RunProgress:
        """todo: the method of each picture to be drawn. known: method -> seconds of pictures drawn before."""
        left: dict[str, int] = {}
        for method in todo:
            left[method] = left.get(method, 0) + 1
        return RunProgress(
            left, {name: list(times) for name, times in known.items()}, workers, total=sum(left.values())
        )

    def note(self, method: str, seconds: float | None) -> None:
        """One more is drawn, or could not be (`None`)."""
        self.done += 1
        self.left[method] -= 1
        if seconds is None:
            self.failed += 1
        else:
            self.seconds.setdefault(method, []).append(seconds)

    def time_left(self) -> float | None:
        """Seconds until all is drawn; `None` as long as nothing is known."""
        every = [one for times in self.seconds.values() for one in times]
        if not every:
            return None
        usual = sum(every) / len(every)
        work = sum(
            count * (sum(times) / len(times) if (times := self.seconds.get(method)) else usual)
            for method, count in self.left.items()
        )
        return work / self.workers

    def line(self) -> str:
        """Such as "drawn 12 of 276, 1 failed, 3 min 20 s so far, 41 min left"."""
        left = self.time_left()
        parts = [f"drawn {self.done - self.failed} of {self.total}", f"{self.failed} failed" if self.failed else ""]
        parts += [f"{spell(time.monotonic() - self.began)} so far"]
        parts += [f"{spell(left)} left" if left is not None else ""]
        return ", ".join(part for part in parts if part)


def spell(seconds: float) -> str:
    """Two units of a time: "3 min 20 s", "2 h 5 min", "40 s"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 172800:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
