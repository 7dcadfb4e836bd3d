"""What an edit of the softmax that text and picture share is given and gives back."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from attnreg.regulation.edit import PromptWords
from attnreg.types import Grid


class JointAttention(NamedTuple):
    """What one image's positions give to text and picture in one layer: probabilities, mean over heads."""

    text: Float[Tensor, "pixel token"]
    own: Float[Tensor, "pixel pixel"]
    grid: Grid
    when: float
    """Steps before this one, and the share of its edited layers before this one: 2.5 is half of the third step."""


class JointChange(NamedTuple):
    """What becomes of the logits, alike in all heads: `L factor + text` towards the text, `L + own` to the picture."""

    factor: Float[Tensor, "pixel token"]
    text: Float[Tensor, "pixel token"]
    own: Float[Tensor, "pixel pixel"]


@runtime_checkable
class JointEdit(Protocol):
    """A way to change what positions of the picture give to text and to one another, where one softmax is over both."""

    @property
    def strength(self) -> float:
        """Factor of the edit; at 0 the model is unmodified."""

    @property
    def window(self) -> tuple[float, float]:
        """The fractions of the denoising steps between which the edit works, half-open."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, or patterns of them, it works in."""

    def over_joint(
        self, attention: JointAttention, words: PromptWords, total: int, memory: dict[str, Any]
    ) -> JointChange | None:
        """Say what becomes of one image's logits in one layer and step.

        Args:
            attention: what they would be without.
            words: the prompt, its targets and where they lie.
            total: how many denoising steps there are.
            memory: belongs to this image: empty at the first step of a run, kept by the caller until its end.

        Returns:
            The change; `None` if there is none.
        """
