"""What happened while a picture was drawn, kept beside it: its recipe tells how to draw it, this what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from attnreg.account import account, marks
from attnreg.trace import Sample
from attnreg.types import AttnregError, given_up_text


@dataclass(frozen=True)
class Happened:
    """Of one regulated picture, for the page. All but numbers is text that was written for readers."""

    account: str
    """What acted and what came of it, in one line."""
    before: str = ""
    """The mark below the unmodified picture, such as "bird not clearly read"; empty where nothing was in question."""
    after: str = ""
    """The mark below the regulated one, such as "begun from another noise"."""
    why: str = ""
    """Which method acted and why, where that was left to the run."""
    noises: tuple[str, ...] = ()
    """What came of every initial noise that was tried, the given one first: its score, or that it was given up."""
    chosen: int = 0
    """Which of them was drawn from."""
    seconds: float = 0.0

    @staticmethod
    def of(sample: Sample) -> Happened:
        """The account of a picture that was drawn just now."""
        trace = sample.trace
        before, after = marks(sample)
        start = trace.starts[0] if trace.starts else None
        return Happened(
            account=account(sample),
            before=before,
            after=after,
            why=str(trace.decisions[0]) if trace.decisions else "",
            noises=tuple(map(start.told, range(len(start.scores)))) if start else (),
            chosen=start.chosen if start else 0,
            seconds=round(sample.seconds, 3),
        )

    @staticmethod
    def read(value: Any) -> Happened:
        """What `told` wrote. Raises `AttnregError` if it is something else."""
        try:
            texts = {name: value[name] for name in ("account", "before", "after", "why")}
            chosen, seconds = value["chosen"], value["seconds"]
            noises = tuple(value["noises"]) if "noises" in value else _of_scores(value["scores"])
            if not all(isinstance(text, str) for text in (*texts.values(), *noises)) or not all(
                map(_is_number, (chosen, seconds))
            ):
                raise TypeError("of other types")
            return Happened(**texts, noises=noises, chosen=int(chosen), seconds=seconds)
        except (KeyError, TypeError) as error:
            raise AttnregError(
                f"expected what happened while a picture was drawn, got something else: {error}"
            ) from error

    def told(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def _of_scores(scores: Sequence[float]) -> tuple[str, ...]:
    """The same from a file of version 1, whose score of a noise that was given up is 0."""
    if not all(map(_is_number, scores)):
        raise TypeError("of other types")
    return tuple(f"{score:.2f}" if score or not at else given_up_text(0) for at, score in enumerate(scores))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
