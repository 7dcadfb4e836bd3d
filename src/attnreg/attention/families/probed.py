"""The family of a denoiser that is in no entry: what a probe found of it stands in the place of an adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor, nn

from attnreg.attention.families.family import LOGITS, Family, Places, TextColumns, Texts, not_of_the_kind
from attnreg.types import AttnregError

PROBE = "probe"
"""What the family is called."""


class LayerFound(NamedTuple):
    """One layer in which the picture looks at text, in calls of one size."""

    places: Places
    queries: int
    keys: int
    """How many there are of each."""
    first: bool
    """Whether it is the first attention call of the layer."""
    together: bool
    """Whether positions of the picture are among the keys."""


@dataclass
class Findings:
    """What a probe found; filled in the first call of the denoiser, and for calls of another size again."""

    layers: dict[str, LayerFound] = field(default_factory=dict)


@dataclass(frozen=True)
class Probed(Family):
    """What was found by changing the text or the picture and looking at what moves; nothing, before a first call."""

    name: str = PROBE
    model: str = ""
    sample: str = ""
    text: str = ""
    negative: int | None = None
    kinds: frozenset[str] = LOGITS
    together: bool = True
    """Until it is known better."""
    found: Findings = field(default_factory=Findings, compare=False)

    def is_text_attention(self, name: str, module: nn.Module) -> bool:
        """Whether the module was found to be one."""
        return name in self.found.layers

    def default_layers(self, denoiser: nn.Module, names: Sequence[str]) -> list[str]:
        """All of them: nothing is known of how they differ."""
        return list(names)

    def texts(self, result: Any) -> Texts:
        """The first value with a vector a token is the prompts', a second one the negative prompts'.

        Raises `AttnregError` if there is none, or so many that they cannot be told apart.
        """
        values = result if isinstance(result, tuple) else (result,)
        texts = [value for value in values if _is_text(value)]
        if any(isinstance(value, Tensor) and value.ndim > 3 for value in values):
            raise AttnregError(
                "expected encode_prompt to return one vector a token, got several "
                "of each besides; this pipeline cannot be probed, its family needs an entry of its own"
            )
        if not 1 <= len(texts) <= 2:
            raise AttnregError(
                f"expected encode_prompt to return the prompt's embedding and perhaps a negative one, got {len(texts)} "
                "values with a vector a token; this pipeline cannot be probed, its family needs an entry of its own"
            )
        alike = len(texts) == 2 and type(texts[0]) is type(texts[1]) and texts[0][0].shape[1:] == texts[1][0].shape[1:]
        return Texts(texts[0], texts[1] if alike else None)

    def keys(self, arguments: Mapping[str, Any]) -> int | None:
        """How many keys the call has that was found, where it is not the first of its layer."""
        if all(one.first for one in self.found.layers.values()):
            return None
        return next(iter(self.found.layers.values())).keys

    def tokens(self, arguments: Mapping[str, Any]) -> int:
        """As many as the embedding has; of several the longest."""
        return max(len(text) for text in arguments[self.text])

    def places(self, layer: str, arguments: Mapping[str, Any], denoiser: nn.Module, queries: int, keys: int) -> Places:
        """Where they were found."""
        found = self.found.layers[layer]
        if (found.queries, found.keys) != (queries, keys):
            expected = f"from {found.queries} positions to {found.keys}, as when it was probed"
            raise not_of_the_kind(self, layer, expected, queries, keys)
        return found.places


def _is_text(value: Any) -> bool:
    """Whether a value holds a vector a token for each of some texts."""
    if isinstance(value, Tensor):
        return value.is_floating_point() and value.ndim == 3
    return isinstance(value, list) and bool(value) and all(
        isinstance(one, Tensor) and one.is_floating_point() and one.ndim == 2 for one in value
    )  # fmt: skip


def probed(pipe: Any, names: Sequence[str]) -> tuple[Probed, nn.Module]:
    """A family of which nothing is known yet, and what seems to be the pipeline's denoiser.

    Args:
        pipe: a pipeline of diffusers.
        names: what denoisers are called.

    Returns:
        The family, with the text encoders and tokenizers that the pipeline holds, and the denoiser, as it is held.

    Raises:
        AttnregError: it is not clear which module denoises, or there is no text encoder beside a tokenizer.
    """
    held = {name: one for name in names if isinstance(one := getattr(pipe, name, None), nn.Module)}
    if len(held) != 1:
        raise AttnregError(
            f"expected a pipeline with one denoiser to probe, called {' or '.join(names)}, got {type(pipe).__name__} "
            f"with {' and '.join(held) or 'none'}; its family needs an entry of its own"
        )
    ((name, model),) = held.items()
    encoders = []
    for part, module in getattr(pipe, "components", {}).items():
        if part.startswith("text_encoder") and isinstance(module, nn.Module):
            tokenizers = (part.replace("text_encoder", "tokenizer"), "tokenizer", "processor")
            tokenizer = next((one for one in tokenizers if getattr(pipe, one, None) is not None), None)
            encoders += [TextColumns(part, tokenizer)] if tokenizer else []
    if not encoders:
        raise AttnregError(
            f"expected a pipeline with text encoders and tokenizers, got {type(pipe).__name__} without: no word could "
            "be found in what its prompts become; load the whole pipeline"
        )
    return Probed(
        model=type(getattr(model, "_orig_mod", model)).__name__, denoiser=name, encoders=tuple(encoders)
    ), model
