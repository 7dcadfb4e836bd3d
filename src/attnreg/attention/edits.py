"""Which edit acts on which part of a model: every part has one owner at most."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from attnreg.regulation.edit import LatentEdit, LogitEdit
from attnreg.regulation.kinds import AttentionEdit, Composed, EmbeddingEdit, PredictionEdit, StartEdit
from attnreg.types import AttnregError


@dataclass(frozen=True)
class Edits:
    """One edit, or several that were composed, sorted by what they change."""

    logits: LogitEdit | None = None
    attention: AttentionEdit | None = None
    embedding: EmbeddingEdit | None = None
    start: StartEdit | None = None
    latent: LatentEdit | None = None
    prediction: PredictionEdit | None = None

    @property
    def acting(self) -> dict[str, Any]:
        """The edits there are, by the part they change."""
        return {one.name: edit for one in fields(self) if (edit := getattr(self, one.name)) is not None}


KINDS: dict[str, type] = {
    "logits": LogitEdit,
    "attention": AttentionEdit,
    "embedding": EmbeddingEdit,
    "start": StartEdit,
    "latent": LatentEdit,
    "prediction": PredictionEdit,
}
CLASHES = {
    frozenset(("logits", "attention")): "the attention over the text",
    # The phrases are denoised alone, each with the model's own attention; nothing of the whole prompt is left to edit.
    frozenset(("logits", "prediction")): "how the prompt is heard",
    frozenset(("attention", "prediction")): "how the prompt is heard",
    frozenset(("embedding", "prediction")): "how the prompt is heard",
}


def kinds_of(edit: Any) -> list[str]:
    """The parts of a model that an edit changes; none if it is no edit."""
    return [name for name, kind in KINDS.items() if isinstance(edit, kind) and not isinstance(edit, type)]


def edits_of(config: Any) -> Edits:
    """The edits of a config, or of all parts of a `Composed` one.

    Raises `AttnregError` if one of them is no edit, or if two change the same part.
    """
    found = Edits()
    owners: dict[str, str] = {}
    for edit in _flat(config):
        kinds, name = kinds_of(edit), type(edit).__name__
        if not kinds:
            raise AttnregError(
                f"expected an edit such as AttentionBalance(), got {name}; configure(...) makes one of a "
                "method's name, and docs/architecture.md says how to write one"
            )
        for kind in kinds:
            for taken, owner in owners.items():
                what = f"the {kind}" if kind == taken else CLASHES.get(frozenset((kind, taken)))
                if what:
                    raise AttnregError(
                        f"expected methods that change different parts of the model, got {owner} and {name}, which "
                        f"both decide {what}; choose one of the two"
                    )
        owners |= dict.fromkeys(kinds, name)
        found = replace(found, **dict.fromkeys(kinds, edit))
    return found


def _flat(config: Any) -> list[Any]:
    if isinstance(config, Composed):
        return [edit for part in config.parts for edit in _flat(part)]
    return [config]
