"""What every judge is given and gives back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from attnreg.measure.asked import Prompt

Scores = dict[str, float]
"""Name -> value for one picture. Larger is better, but for names that end in "distance". Yes/no is 1.0/0.0."""


@runtime_checkable
class Judge(Protocol):
    """Scores pictures, many at once."""

    @property
    def needs_unmodified(self) -> bool:
        """Whether it compares with the picture that the unmodified model draws from the same prompt and seed."""

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Make sure, before anything is drawn, that it can judge every prompt.

        Args:
            prompts: those of the pictures to come.

        Raises:
            AttnregError: it cannot judge one of them.
        """

    def __call__(
        self, pictures: Sequence[Any], prompts: Sequence[Prompt], unmodified: Sequence[Any] | None = None
    ) -> list[Scores]:
        """Judge pictures.

        Args:
            pictures: PIL pictures.
            prompts: what each was asked to show.
            unmodified: what the unmodified model draws from the same prompts and seeds, for judges that compare.

        Returns:
            The scores of each picture, in order.
        """
