"""Joint attention in other orders: registers before the text, texts of differing lengths, words in several places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from attnreg.attention.families.family import (
    ASKED,
    LOGITS,
    MASKED,
    Family,
    Places,
    TextColumns,
    not_of_the_kind,
)
from attnreg.attention.families.joint import (
    JOINT,
    JOINT_STARTED,
    Joint,
    QwenImage,
    asked_by_picture,
    beside_channels,
    of_norm,
    patches,
)
from attnreg.types import Grid


@dataclass(frozen=True)
class AuraFlow(Joint):
    """Registers, which stand for no word, come before the text, and the picture behind both."""

    layers: str = r"(joint|single)_transformer_blocks\.\d+\.attn"
    negative: int | None = 2
    kinds: frozenset[str] = JOINT_STARTED
    time_divisor: float = 1000.0

    def places(self, layer: str, arguments: Mapping[str, Any], denoiser: nn.Module, queries: int, keys: int) -> Places:
        """The picture's positions, and the text's columns behind the registers."""
        grid, pixels = self.picture(arguments, denoiser)
        tokens: Any = denoiser.register_tokens
        registers, text = int(tokens.shape[1]), self.tokens(arguments)
        first = registers + text
        if queries != first + pixels or keys != queries:
            expected = f"over {registers} registers, {text} tokens of the text and {pixels} of the picture"
            raise not_of_the_kind(self, layer, expected, queries, keys)
        return Places(slice(first, first + pixels), registers, grid)


@dataclass(frozen=True)
class CogView(Joint):
    """The latent is an image; text comes first, with its padding on whichever side."""

    layers: str = r"transformer_blocks\.\d+\.attn1"
    kinds: frozenset[str] = JOINT_STARTED
    conditions: tuple[str, ...] = ("encoder_hidden_states",)

    def beside_latents(self, arguments: Mapping[str, Any], denoiser: nn.Module) -> str:
        """A control lies beside the latents in channels."""
        return beside_channels(self, arguments, denoiser)


@dataclass(frozen=True)
class HunyuanImage(Joint):
    """The picture, then what was quoted letter by letter, then the text without padding, then what pads both.

    Whatever is quoted moves the text of its own row.
    """

    layers: str = r"(single_)?transformer_blocks\.\d+\.attn"
    text_first: bool = False
    negative: int | None = None
    together: bool = False

    def tokens(self, arguments: Mapping[str, Any]) -> int:
        """Those of the letters and those of the text."""
        letters = arguments.get("encoder_hidden_states_2")
        return super().tokens(arguments) + (0 if letters is None else int(letters.shape[-2]))

    def places_of_rows(
        self,
        rows: Sequence[int],
        layer: str,
        arguments: Mapping[str, Any],
        denoiser: nn.Module,
        queries: int,
        keys: int,
    ) -> list[Places]:
        """The text begins behind the letters of its row."""
        whole = self.places(layer, arguments, denoiser, queries, keys)
        letters = arguments.get("encoder_attention_mask_2")
        if letters is None:
            return [whole] * len(rows)
        quoted: list[int] = letters.bool().sum(1).tolist()
        return [whole._replace(text=whole.text + quoted[row]) for row in rows]


@dataclass(frozen=True)
class Lumina2(Joint):
    """The text without padding, then the picture: it begins where the row's own text ends."""

    layers: str = r"layers\.\d+\.attn"
    negative: int | None = 2
    apart: bool = True
    together: bool = False
    kinds: frozenset[str] = JOINT_STARTED
    time_divisor: float = 1000.0
    rises: bool = True
    negated: bool = True
    conditions: tuple[str, ...] = MASKED

    def guided(self, prompted: Tensor, plain: Tensor, scale: float, told: Mapping[str, Any]) -> Tensor:
        """Rows of the picture keep the length that they have under the prompt, unless that is turned off."""
        guided = super().guided(prompted, plain, scale, told)
        return of_norm(guided, prompted) if told.get("cfg_normalization") else guided

    def guides_otherwise(self, told: Mapping[str, Any]) -> str:
        """It may be guided in the first steps alone."""
        return "" if told.get("cfg_trunc_ratio", 1.0) >= 1.0 else "guides in the first steps alone"

    def tokens(self, arguments: Mapping[str, Any]) -> int:
        """Those of the longest text, without padding."""
        return int(arguments["encoder_attention_mask"].sum(1).max())

    def places(self, layer: str, arguments: Mapping[str, Any], denoiser: nn.Module, queries: int, keys: int) -> Places:
        """Those of the first row."""
        return self.places_of_rows([0], layer, arguments, denoiser, queries, keys)[0]

    def places_of_rows(
        self,
        rows: Sequence[int],
        layer: str,
        arguments: Mapping[str, Any],
        denoiser: nn.Module,
        queries: int,
        keys: int,
    ) -> list[Places]:
        """The picture's positions behind the text of each row; shorter rows are filled up at their end."""
        grid, pixels = self.picture(arguments, denoiser)
        texts: list[int] = arguments["encoder_attention_mask"].sum(1).tolist()
        if queries != max(texts) + pixels or keys != queries:
            expected = f"over up to {max(texts)} tokens of the text and {pixels} of the picture"
            raise not_of_the_kind(self, layer, expected, queries, keys)
        return [Places(slice(texts[row], texts[row] + pixels), 0, grid) for row in rows]


@dataclass(frozen=True)
class HiDream(Joint):
    """The picture, then T5's tokens, Llama's last layer's and those of the Llama layer that the block is given."""

    layers: str = r"(double|single)_stream_blocks\.\d+\.block\.attn1"
    text_first: bool = False
    kinds: frozenset[str] = LOGITS | ASKED  # its experts let no gradient through; a word stands in two arguments
    text: str = "encoder_hidden_states_t5"
    row_axes: Mapping[str, int] = field(default_factory=lambda: {"encoder_hidden_states_llama3": 1}, hash=False)
    conditions: tuple[str, ...] = ("encoder_hidden_states_t5", "encoder_hidden_states_llama3", "pooled_embeds")
    time: str = "timesteps"
    pooled: str = "pooled_embeds"
    negated: bool = True

    def picture(self, arguments: Mapping[str, Any], denoiser: nn.Module) -> tuple[Grid, int]:
        """The latent in patches; one that is not square is filled up to as many as the largest has."""
        latent: Tensor = arguments[self.sample]
        grid = patches(latent, denoiser)
        most: Any = denoiser.max_seq
        return grid, grid.pixels if latent.shape[-2] == latent.shape[-1] else int(most)

    def tokens(self, arguments: Mapping[str, Any]) -> int:
        """T5's once and Llama's twice; in Llama's embeddings layers come first, then the batch."""
        return super().tokens(arguments) + 2 * int(arguments["encoder_hidden_states_llama3"].shape[-2])


@dataclass(frozen=True)
class Prx(Joint):
    """The picture alone asks; keys are the text's and then its own."""

    layers: str = r"blocks\.\d+\.attention"
    negative: int | None = 2
    kinds: frozenset[str] = JOINT | {"prediction"}  # some models predict the picture: no step is known to follow
    conditions: tuple[str, ...] = ("encoder_hidden_states", "attention_mask")

    def places(self, layer: str, arguments: Mapping[str, Any], denoiser: nn.Module, queries: int, keys: int) -> Places:
        """All queries; the text comes first among the keys."""
        grid, pixels = self.picture(arguments, denoiser)
        return asked_by_picture(self, layer, (queries, keys), grid, pixels, self.tokens(arguments), 0)


@dataclass(frozen=True)
class Nucleus(QwenImage):
    """The picture alone asks; keys are its own and then the text's."""

    scale: str = ""
    negated: bool = True

    def places(self, layer: str, arguments: Mapping[str, Any], denoiser: nn.Module, queries: int, keys: int) -> Places:
        """All queries; the text comes last among the keys."""
        grid, pixels = self.picture(arguments, denoiser)
        return asked_by_picture(self, layer, (queries, keys), grid, pixels, self.tokens(arguments), pixels)


MIXED: tuple[Family, ...] = (
    AuraFlow("AuraFlow", "AuraFlowTransformer2DModel", encoders=(TextColumns(),)),
    CogView("CogView3+", "CogView3PlusTransformer2DModel", encoders=(TextColumns(),)),
    CogView("CogView4", "CogView4Transformer2DModel", encoders=(TextColumns(),), apart=True),
    HunyuanImage(
        "HunyuanImage",
        "HunyuanImageTransformer2DModel",
        encoders=(TextColumns(dropped="prompt_template_encode_start_idx"),),
    ),
    Lumina2("Lumina 2", "Lumina2Transformer2DModel", encoders=(TextColumns(),)),
    HiDream(
        "HiDream",
        "HiDreamImageTransformer2DModel",
        encoders=(
            TextColumns("text_encoder_3", "tokenizer_3"),
            TextColumns("text_encoder_4", "tokenizer_4", behind=("text_encoder_3",)),
            TextColumns("text_encoder_4", "tokenizer_4", behind=("text_encoder_3", "text_encoder_4")),
        ),
    ),
    Prx("PRX", "PRXTransformer2DModel", encoders=(TextColumns(negatives_first=True),)),
    Nucleus("NucleusMoE", "NucleusMoEImageTransformer2DModel", encoders=(TextColumns(tokenizer="processor"),)),
)
"""Entries of `FAMILIES`."""
