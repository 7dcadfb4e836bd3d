"""What an edit that looks with a gradient can ask of a denoising step."""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor

from attnreg.regulation.edit import Maps
from attnreg.types import AttnregError, Embedding


class Sight(ABC):
    """What one step of the denoiser can be asked about one image, by an edit that looks with a gradient."""

    @abstractmethod
    def __call__(self, latent: Float[Tensor, "*latent"]) -> Maps:
        """Run the denoiser once on a latent and this image's prompt alone, without guidance.

        Args:
            latent: in the place of the pipeline's own.

        Returns:
            What the prompt attends to, with a graph from the latent to the maps.
        """

    @property
    @abstractmethod
    def level(self) -> tuple[float, float]:
        """`(A, S)` of the pipeline's own latent `A x + S e`: how much picture x, and how much noise e of variance 1."""

    @property
    @abstractmethod
    def channel_axis(self) -> int:
        """Which axis of one image's latent holds the channels."""

    @abstractmethod
    def picture(self, latent: Float[Tensor, "*latent"]) -> Float[Tensor, "*latent"]:
        """Run the denoiser under the pipeline's guidance, without a graph.

        Args:
            latent: in the place of the pipeline's own.

        Returns:
            The picture x that is predicted from it, in float32.
        """

    @property
    @abstractmethod
    def prompt(self) -> Embedding:
        """What this image's prompt became."""

    @property
    @abstractmethod
    def nothing(self) -> Embedding:
        """What the prompt becomes if it says nothing (`kinds.Encode.emptied`); for an `AskingEdit` for text alone."""

    @abstractmethod
    def under(self, text: Embedding, latent: Float[Tensor, "*latent"]) -> Maps:
        """Run the denoiser once on a latent, as `__call__`, under another embedding.

        Args:
            text: in the place of the prompt's.
            latent: in the place of the pipeline's own.

        Returns:
            What the text attends to, with a graph from both to the maps.
        """


def asked(see: object, what: str) -> Sight:
    """What an edit that asks for more than maps was given, if it can be asked.

    Args:
        see: as `edit.LatentEdit.update` is given it.
        what: the edit asks for, for the error.

    Returns:
        The same.

    Raises:
        AttnregError: it tells maps alone.
    """
    if not isinstance(see, Sight):
        raise AttnregError(
            f"expected a Sight, which {what}, got {type(see).__name__}; draw inside of regulate(pipe, ...)"
        )
    return see
