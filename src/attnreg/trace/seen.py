"""What one picture attended to, target by target and step by step, as plain arrays."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from attnreg.trace.neglect import NEGLECTED, neglect
from attnreg.types import AttnregError

if TYPE_CHECKING:
    from attnreg.plot.explained import Panel

ArrayMap = Float[np.ndarray, "height width"]


@dataclass(frozen=True)
class Seen:
    """Where one image attended to each target, at every step: mean probabilities over heads and layers.

    Each value is the attention probability that one position of the map gives to all tokens of a target together.
    """

    words: tuple[str, ...]
    """The targets, as the prompt writes them; each is there once ("dog#2" is the second dog)."""
    steps: tuple[int, ...]
    """Calls of the denoiser, counted from 0."""
    total: int
    """How many there are in all."""
    edited: tuple[bool, ...]
    """Whether a method changed the attention itself, a step."""
    layers: tuple[str, ...]
    """Whose maps these are the mean of: all of one size."""
    before: Float[np.ndarray, "step target height width"]
    """Without the edit of attention, from the same latent."""
    after: Float[np.ndarray, "step target height width"]
    """With it; the same array where attention was never edited."""

    @property
    def is_edited(self) -> bool:
        """Whether a method changed the attention itself in any step."""
        return any(self.edited)

    def index(self, word: str) -> int:
        """Which target a word names: its whole text, else the one target that it is a word of ("crown").

        Raises `AttnregError` if there is none, or more than one.
        """
        if word in self.words:
            return self.words.index(word)
        within = [i for i, text in enumerate(self.words) if word.lower() in text.lower().split()]
        if len(within) == 1:
            return within[0]
        known = ", ".join(map(repr, self.words))
        if within:
            raise AttnregError(f"expected one of the targets {known}, got {word!r}, which is in several; name it whole")
        parts = dict.fromkeys(part for text in self.words for part in (text, *text.split()))
        close = difflib.get_close_matches(word, parts, n=1)
        advice = f"did you mean {close[0]!r}?" if close else "name one of them, or draw with targets=[...]"
        raise AttnregError(f"expected one of the targets {known}, got {word!r}; {advice}")

    def map(self, word: str, steps: Sequence[int] | None = None, *, edited: bool = True) -> ArrayMap:
        """The mean map of one target.

        Args:
            word: a target, or a word of one.
            steps: at which steps, counted from 0; by default those in which attention was edited, or if it never was,
                all.
            edited: with the edit, or without.

        Returns:
            Attention probabilities, `(height, width)`.

        Raises:
            AttnregError: for a word that names no target, and for a step at which nothing was seen.
        """
        maps = (self.after if edited else self.before)[self._at(steps), self.index(word)]
        mean: ArrayMap = maps.mean(0)
        return mean

    def shares(self, *, edited: bool = True) -> Float[np.ndarray, "step target"]:
        """Each target's share of all attention, a step: the mean of its map."""
        shares: Float[np.ndarray, "step target"] = (self.after if edited else self.before).mean((2, 3))
        return shares

    def neglected(self) -> dict[str, float]:
        """How likely each target is to be missing from the picture, 0 to 1; see `trace.neglect`."""
        return dict(zip(self.words, map(float, neglect(self.after)), strict=True))

    def panel(self, heading: str, picture: Any = None, *, edited: bool = True) -> Panel:
        """This as a part of a figure (`plot.explained.figure`).

        Args:
            heading: what stands over it.
            picture: the PIL image that was drawn; `None`: the maps alone.
            edited: with the edit of attention, or without.
        """
        from attnreg.plot.explained import Panel  # PIL, for those who draw

        scores = self.neglected().values() if edited else ()
        notes = tuple(f"neglect {score:.2f}" + (", may be missing" if score >= NEGLECTED else "") for score in scores)
        alarms = tuple(score >= NEGLECTED for score in scores)
        maps = self.after if edited else self.before
        return Panel(heading, picture, self.words, self.steps, self.total, maps, notes, alarms)

    def panels(self, picture: Any = None) -> list[Panel]:
        """This as a part of a figure, or as two parts where a method changed the attention: without that, and with it.

        Args:
            picture: as of `panel`.
        """
        if not self.is_edited:
            return [self.panel("", picture)]
        without = self.panel("Without the edit of attention", picture, edited=False)
        return [without, self.panel("With it", picture)]

    def _at(self, steps: Sequence[int] | None) -> list[int]:
        if steps is None:
            return [i for i, edited in enumerate(self.edited) if edited or not self.is_edited]
        if not steps:
            raise AttnregError("steps: expected at least one, got none; leave it out for the mean over all")
        if unseen := [step for step in steps if step not in self.steps]:
            raise AttnregError(
                f"steps: expected steps from {self.steps[0]} to {self.steps[-1]}, got {unseen[0]}; they count from 0"
            )
        return [self.steps.index(step) for step in steps]
