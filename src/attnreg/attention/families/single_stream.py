"""Models with one kind of block over text and picture together: Krea 2, Ernie-Image, Ideogram 4, Qwen-Image 2.1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from attnreg.attention.families.family import EMBEDDING, LOGITS, MASKED, Family, Places, TextColumns
from attnreg.attention.families.joint import JOINT, JOINT_STARTED, Joint, asked_by_picture, grid_of
from attnreg.types import AttnregError, Grid


@dataclass(frozen=True)
class Krea2(Joint):
    """Every token has an embedding of several layers; `position_ids` are the text's and then the picture's."""

    negative: int | None = None
    kinds: frozenset[str] = JOINT_STARTED
    channel_axis: int = 2
    time_divisor: float = 1000.0
    conditions: tuple[str, ...] = MASKED

    def guided(self, prompted: Tensor, plain: Tensor, scale: float, told: Mapping[str, Any]) -> Tensor:
        """A scale of 0 is none."""
        return prompted + scale * (prompted - plain)

    def picture(self, arguments: Mapping[str, Any], denoiser: nn.Module) -> tuple[Grid, int]:
        """The positions behind the text's."""
        grid = grid_of(arguments["position_ids"][self.tokens(arguments) :, 1:])
        return grid, grid.pixels


@dataclass(frozen=True)
class ErnieImage(Joint):
    """The latent is an image; text follows the picture, shorter texts filled up."""

    layers: str = r"layers\.\d+\.self_attention"
    text_first: bool = False
    text: str = "text_bth"
    negative: int | None = None
    kinds: frozenset[str] = JOINT_STARTED - {EMBEDDING}  # texts are filled up behind what `encode_prompt` returned
    conditions: tuple[str, ...] = ("text_bth",)

    def conditioned(self, values: Sequence[Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The texts filled up, and how long they are."""
        (texts,) = values
        lengths = torch.tensor([len(text) for text in texts])
        filled = super().conditioned([pad_sequence(texts, batch_first=True)], arguments)
        return filled | {"text_lens": lengths.to(arguments["text_lens"])}

    def embeddings(self, arguments: Mapping[str, Any]) -> list[Tensor]:
        """Each without what it was filled up with."""
        lengths = arguments["text_lens"].tolist()
        return [text[:length] for text, length in zip(arguments[self.text], lengths, strict=True)]

    def picture(self, arguments: Mapping[str, Any], denoiser: nn.Module) -> tuple[Grid, int]:
        """The latent in patches."""
        config: Any = denoiser.config
        grid = Grid(*(side // config.patch_size for side in arguments[self.sample].shape[-2:]))
        return grid, grid.pixels


@dataclass(frozen=True)
class Ideogram4(Joint):
    """Latents and texts as long as the whole sequence, each with zeros in the other's places.

    Texts are filled up on the left. The picture without a prompt is denoised by a second model, which is left alone.
    """

    layers: str = r"layers\.\d+\.attention"
    negative: int | None = None
    kinds: frozenset[str] = LOGITS  # the second model would be given other latents
    image_indicator: int = 2
    """What `indicator` holds at the picture's places."""

    def picture(self, arguments: Mapping[str, Any], denoiser: nn.Module) -> tuple[Grid, int]:
        """The places that the model is told are the picture's."""
        own = arguments["indicator"][0] == self.image_indicator
        grid = grid_of(arguments["position_ids"][0][own][:, 1:])
        return grid, grid.pixels

    def tokens(self, arguments: Mapping[str, Any]) -> int:
        """Those before the picture's."""
        own = arguments["indicator"][0] == self.image_indicator
        return int(len(own) - own.sum())


@dataclass(frozen=True)
class QwenImage21(Joint):
    """The picture's own queries attend in a call of their own, to the text and the picture.

    The text does not see the picture: its keys are kept after the first step, in which it attends in a call before.
    """

    negative: int | None = None
    kinds: frozenset[str] = JOINT - {EMBEDDING}  # the parts of its text encoder are called one by one

    def keys(self, arguments: Mapping[str, Any]) -> int | None:
        """The text's and the picture's."""
        return self.tokens(arguments) + int(arguments[self.sample].shape[1])

    def picture(self, arguments: Mapping[str, Any], denoiser: nn.Module) -> tuple[Grid, int]:
        """The only one of the shapes: the tokens of pictures to refer to would stand between the words."""
        shapes = arguments["img_shapes"][0]
        if len(shapes) != 1:
            raise AttnregError(
                f"expected a picture drawn from text alone, got {len(shapes) - 1} to refer to, which stand between the "
                "words; leave image out, or choose another pipeline"
            )
        _, height, width = shapes[0]
        return Grid(height, width), height * width

    def places(self, layer: str, arguments: Mapping[str, Any], denoiser: nn.Module, queries: int, keys: int) -> Places:
        """All queries are the picture's; the text's columns come first."""
        grid, pixels = self.picture(arguments, denoiser)
        return asked_by_picture(self, layer, (queries, keys), grid, pixels, self.tokens(arguments), 0)


SINGLE_STREAM: tuple[Family, ...] = (
    Krea2(
        "Krea 2",
        "Krea2Transformer2DModel",
        encoders=(TextColumns(dropped="prompt_template_encode_start_idx", keeps_padding=True),),
    ),
    ErnieImage("Ernie-Image", "ErnieImageTransformer2DModel", encoders=(TextColumns(),)),
    Ideogram4(
        "Ideogram 4",
        "Ideogram4Transformer2DModel",
        encoders=(TextColumns("text_encoder.language_model.embed_tokens"),),
    ),
    QwenImage21(
        "Qwen-Image 2.1",
        "QwenImage21Transformer2DModel",
        encoders=(TextColumns(tokenizer="processor", dropped="_drop_idx"),),
    ),
)
"""Spliced into `FAMILIES`."""
