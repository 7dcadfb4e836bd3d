"""The default: the best start where starts can be followed, a balance of attention where they cannot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from attnreg.regulation.balance import AttentionBalance
from attnreg.regulation.best_start import BestStart
from attnreg.types import Decision


@dataclass(frozen=True)
class Auto:
    """`best-start` for every image whose start can be followed, `attention-balance` for every other: never both.

    The best start shows the most things by the tables of docs/results, and costs least where nothing is wrong. It needs
    a run that begins with noise alone, on a known noise schedule, and targets of whole words. Whether it has them can
    be known no earlier than in the first call of the denoiser, of each image for itself; `Trace.decisions` tells.

    It has no settings: those of the two mean different things. It composes with nothing, since what it would change is
    not known beforehand.
    """

    start: ClassVar[BestStart] = BestStart()
    otherwise: ClassVar[AttentionBalance] = AttentionBalance()

    def decision(self, image: int, hindrance: str = "") -> Decision:
        """The account of what acts on one image.

        Args:
            image: which one of the call.
            hindrance: why its start cannot be followed, half a sentence; empty if it can.

        Returns:
            The method that acts, and why.
        """
        if hindrance:
            return Decision(image, "attention-balance", hindrance)
        return Decision(image, "best-start", "the run begins with noise alone, and what it leads to can be foreseen")
