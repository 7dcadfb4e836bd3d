"""What a model family answers: which modules let the picture look at text, and where in their calls both lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from attnreg.types import AttnregError, Grid, Queries

LATENT = "latent"
BY_SELF_ATTENTION = "latent by self-attention"
"""The latent, moved by what the picture gives to itself as well."""
LOGITS = frozenset({"logits"})


class Places(NamedTuple):
    """Where the picture and the text lie in one layer's attention call."""

    queries: Queries
    """The positions of the picture among the queries."""
    text: int
    """The first column of the text among the keys: there stands the first token of the prompt's embedding."""
    grid: Grid
    """The map that the picture's positions form, row by row."""


EMBEDDING = "embedding"
EDITED = frozenset({"logits", LATENT, EMBEDDING})
"""What is edited in most families."""
ASKED = frozenset({"start", "prediction"})
"""What takes that the denoiser can be asked about other texts, and guided as the pipeline guides it."""
STARTED = EDITED | ASKED
"""Where what a start leads to can be followed as well."""
WHOLE = STARTED | {"probabilities", "attention", BY_SELF_ATTENTION}
"""Where attention over the text alone, and over the picture alone, are layers of their own with a softmax as well."""
MASKED = ("encoder_hidden_states", "encoder_attention_mask")
"""The arguments of a denoiser that is given each text's mask beside it."""
Embeddings = Float[Tensor, "_ _ *_"] | Sequence[Float[Tensor, "_ _"]]
"""What texts became: `(text, token, channel)`, some with a layer before the channel, or a list of `(token, channel)`
where they differ in length."""


class Texts(NamedTuple):
    """What the pipeline's `encode_prompt` made of the prompts, and of the negative ones if it made them as well."""

    prompts: Embeddings
    negative: Embeddings | None


@dataclass(frozen=True)
class TextColumns:
    """A text encoder whose tokens stand in the prompt's embedding, each in a column of its own."""

    model: str = "text_encoder"
    """The pipeline's attribute, or a part of it where only that is called: "text_encoder.language_model"."""
    tokenizer: str = "tokenizer"
    """The pipeline's attribute that holds its tokenizer, or a processor that does."""
    after: str | int | None = None
    """Its tokens follow those of the encoder with this tokenizer, an attribute of the pipeline; or so many columns."""
    dropped: str | int = 0
    """So many of its first tokens are dropped; or the pipeline's attribute that says how many, or what they say."""
    keeps_padding: bool = False
    """Whether padding fills columns also where some of the first tokens are dropped."""
    shift: int | None = None
    """A token's column less its index, where a probe has found it."""
    cut_from_the_left: bool = False
    """Whether all but the last tokens are dropped instead, as many as the embedding holds; the first one is kept."""
    behind: tuple[str, ...] = ()
    """Its tokens follow all of those that the text encoders in these attributes of the pipeline received."""
    negatives_first: bool = False
    """Whether it reads the negative prompts in the same call, before the prompts."""


@dataclass(frozen=True)
class Family:
    """How one kind of denoiser is built, and how its pipelines call it."""

    name: str
    """As people call the models."""
    model: str
    """Name of the denoiser's class."""
    denoiser: str = "transformer"
    """The pipeline's attribute that holds it."""
    sample: str = "hidden_states"
    """The denoiser's argument that holds the latents."""
    text: str = "encoder_hidden_states"
    """The denoiser's argument that holds what the prompts became."""
    further: tuple[str, ...] = ()
    """The denoiser's arguments that hold more columns of the text, behind those of `text`, in their order."""
    row_axes: Mapping[str, int] = field(default_factory=dict, hash=False)
    """Arguments whose rows lie on another axis than the first, and on which."""
    time: str = "timestep"
    """The denoiser's argument that holds the time step."""
    channel_axis: int = 1
    """Of the latents: where a pipeline appends what is no latent, such as a mask, behind the latent's channels."""
    time_divisor: float = 1.0
    """What the scheduler's time step is divided by before the denoiser is told it."""
    rises: bool = False
    """Whether the time that the denoiser is told rises from noise to picture."""
    negated: bool = False
    """Whether the scheduler is given the other sign of what the denoiser predicts."""
    scale: str = ""
    """The variable of the pipeline's `__call__` that tells how strongly it guides; "": `pipe.guidance_scale` does."""
    conditions: tuple[str, ...] = ()
    """The denoiser's arguments that hold what `encode_prompt` returns of a text, in its order; of none it is `text`."""
    pooled: str = "pooled_projections"
    """The denoiser's argument, if it has it, that holds each prompt in one vector."""
    pooled_result: int | None = None
    """Which value that `encode_prompt` returns is the prompts in one vector each."""
    encoders: tuple[TextColumns, ...] = ()
    """Whose tokens are read as they were received; of none, the pipeline's `tokenizer` is asked."""
    parts: tuple[Mapping[str, Any], ...] = field(default=({},), hash=False)
    """What each of the calls of `encode_prompt` is further told that make the columns of a text between them."""
    kinds: frozenset[str] = EDITED
    """The parts of this model that can be edited; see `calls.edits.KINDS`."""
    negative: int | None = 1
    """Which value that `encode_prompt` returns is the negative prompts'; `None`: they are encoded on their own."""
    apart: bool = False
    """Whether negative prompts that are encoded with the others are denoised on their own."""
    checkpoints: bool = False
    """Whether activations are computed anew by the model's own gradient checkpointing; else whole blocks are run again
    from outside: under their own, some transformers leave out masks."""
    sees_itself: bool = False
    """Whether the picture attends to itself in the very calls in which it looks at text."""
    together: bool = False
    """Whether one softmax is over text and picture, and all of the text fills the same columns in every row.

    Then it can be heard more at the picture's cost.
    """
    tells_noise: bool = True
    """Whether it is known how much noise a latent holds at its scheduler's time steps."""
    pipelines: str = ""
    """What the names of its pipeline classes match, where another family has denoisers of the same class."""
    tested: str = "on a tiny pipeline with random weights"
    """How what is said of it is known to hold."""
    native: str = "pipe.{}.reset_attention_backend()"
    """What to call, of the denoiser's name, so that its layers attend by torch's own function."""

    def is_of(self, pipe: Any, denoiser: nn.Module) -> bool:
        """Whether a pipeline with this denoiser is of the family."""
        return any(base.__name__ == self.model for base in type(denoiser).__mro__)

    def check(self, pipe: Any) -> None:
        """Raises `AttnregError` if a pipeline of the family holds what cannot be regulated."""

    def is_text_attention(self, name: str, module: nn.Module) -> bool:
        """Whether a named module is one in which positions of the picture look at text."""
        raise NotImplementedError

    def default_layers(self, denoiser: nn.Module, names: Sequence[str]) -> list[str]:
        """Which of those layers "auto" means."""
        raise NotImplementedError

    def image_attention(self, name: str) -> str:
        """The name of the layer beside one of them in which positions of the picture look at one another alone."""
        raise AttnregError(
            f"expected a model with attention over the picture alone, got {self.name}; choose a method that edits "
            "attention to the text"
        )

    def told_time(self, time: Tensor, like: Any) -> Tensor:
        """A time step of the scheduler's as pipelines tell it to the denoiser, in the type of one that was told."""
        if self.rises:
            return 1 - time / self.time_divisor
        time = time.to(like.dtype) if isinstance(like, Tensor) else time
        return time if self.time_divisor == 1.0 else time / self.time_divisor

    def untold_time(self, told: float) -> float:
        """The scheduler's time step that the denoiser was told."""
        return (1 - told if self.rises else told) * self.time_divisor

    def stacked(self, latents: Any) -> Float[Tensor, row * latent]:
        """Latents as the denoiser is given them, or predicts them, in one tensor."""
        tensor: Tensor = latents
        return tensor

    def listed(self, latents: Float[Tensor, row * latent]) -> Any:
        """Latents as the denoiser is given them."""
        return latents

    def own(self, predicted: Any, latents: Float[Tensor, image * latent]) -> Float[Tensor, row * latent]:
        """The part of a prediction that the scheduler is given: some denoisers predict more."""
        mine = self.stacked(predicted).narrow(self.channel_axis, 0, latents.shape[self.channel_axis])
        return -mine if self.negated else mine

    def guided(self, prompted: Tensor, plain: Tensor, scale: float, told: Mapping[str, Any]) -> Tensor:
        """What pipelines make of the predictions with and without the prompt; told: the variables of their call."""
        return plain + scale * (prompted - plain)

    def beside_latents(self, arguments: Mapping[str, Any], denoiser: nn.Module) -> str:
        """What a call is given in one tensor with the latents, in words; "" if nothing, or channels told by scaling."""
        return ""

    def texts(self, result: Any) -> Texts:
        """What `encode_prompt` returned, sorted."""
        if not isinstance(result, tuple):
            return Texts(result, None)
        return Texts(result[0], None if self.negative is None else result[self.negative])

    def guides_otherwise(self, told: Mapping[str, Any]) -> str:
        """What is unlike `guided` in the guidance of a call with these variables, in words; "" if nothing is."""
        return ""

    def conditions_in(self, result: Any, negative: bool = False) -> tuple[Any, ...]:
        """What `encode_prompt` returned for `conditions`: of the prompts, or of the negative prompts beside them."""
        values = result if isinstance(result, tuple) else (result,)
        first = (self.negative or 0) if negative else 0
        # Either the negative prompts' values follow each of the prompts', or all of them.
        return values[first :: 2 if self.negative == 1 else 1][: len(self.conditions)]

    def conditioned(self, values: Sequence[Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The denoiser's arguments for texts of which `encode_prompt` returned these values, in a call like another."""
        made = dict(zip(self.conditions, values, strict=True))
        return {name: _like(value, arguments[name]) for name, value in made.items() if name in arguments}

    def without_prompt(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Of a call's arguments those that a further call for negative prompts is given as well."""
        return dict(arguments)

    @property
    def has_negative_calls(self) -> bool:
        """Whether there may be calls of the denoiser for negative prompts alone."""
        return self.apart or self.negative is None

    def embeddings(self, arguments: Mapping[str, Any]) -> Any:
        """What the texts of a call became, as `encode_prompt` returned it."""
        return arguments[self.text]

    def given(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The arguments of `encode_prompt`, the user's prompts under the name `prompt`."""
        return given

    def told_apart(self, given: Mapping[str, Any]) -> str:
        """What a text encoder without columns is to read in the prompt's place, in words; "" if it reads the same."""
        return ""

    def is_first_part(self, given: Mapping[str, Any]) -> bool:
        """Whether a call of `encode_prompt` makes the first columns alone, and the next call those behind them."""
        return False

    def keys(self, arguments: Mapping[str, Any]) -> int | None:
        """How many keys the attention call over the text has; `None`: it is the layer's first."""
        return None

    def tokens(self, arguments: Mapping[str, Any]) -> int:
        """How many columns the text fills among the keys."""
        return sum(int(arguments[name].shape[-2]) for name in (self.text, *self.further))

    def places(self, layer: str, arguments: Mapping[str, Any], denoiser: nn.Module, queries: int, keys: int) -> Places:
        """Where picture and text lie in a layer's attention call of so many queries and keys.

        Raises `AttnregError` if the call is not of the kind that the family makes.
        """
        raise NotImplementedError

    def places_of_rows(
        self,
        rows: Sequence[int],
        layer: str,
        arguments: Mapping[str, Any],
        denoiser: nn.Module,
        queries: int,
        keys: int,
    ) -> list[Places]:
        """The same of some rows of the batch: in a few families texts of another length move what lies behind them."""
        return [self.places(layer, arguments, denoiser, queries, keys)] * len(rows)

    def own_keys(self, places: Places, queries: int, keys: int) -> slice | None:
        """Where the picture's positions stand among the keys of such a call; `None` if they do not."""
        return None

    def is_aside(self, arguments: Mapping[str, Any]) -> bool:
        """Whether a call of the denoiser is none of a step's own: it is left alone, and not counted."""
        return False


def _like(value: Any, other: Any) -> Any:
    """A value in the type, and on the device, of another one."""
    return value.to(other) if isinstance(value, Tensor) and isinstance(other, Tensor) else value


def tokenizer_in(held: Any) -> Any:
    """The tokenizer in what a pipeline holds: itself, or a processor around it. Some tokenizers hold one in turn."""
    return held if hasattr(held, "all_special_ids") else getattr(held, "tokenizer", held)


def not_of_the_kind(family: Family, layer: str, expected: str, queries: int, keys: int) -> AttnregError:
    """The error for an attention call that is not what the family makes."""
    return AttnregError(
        f"expected {layer} of {family.name} to attend {expected}, got {queries} queries and {keys} keys; "
        "leave the layer out with layers=..., or report the model"
    )
