"""Which edit acts on which part of a model: every part has one owner at most."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from attnreg.attention.families.family import BY_SELF_ATTENTION, LATENT, Family
from attnreg.regulation.auto import Auto
from attnreg.regulation.columns import LogitEdit, TextEdit
from attnreg.regulation.edit import AskingEdit, LatentEdit, ProbabilityEdit
from attnreg.regulation.joint import JointEdit
from attnreg.regulation.kinds import AttentionEdit, Composed, EmbeddingEdit, PredictionEdit, StartEdit
from attnreg.types import AttnregError


@dataclass(frozen=True)
class Edits:
    """One edit, or several that were composed, sorted by what they change."""

    logits: LogitEdit | ProbabilityEdit | None = None
    attention: AttentionEdit | None = None
    joint: JointEdit | None = None
    embedding: EmbeddingEdit | None = None
    start: StartEdit | None = None
    latent: LatentEdit | None = None
    prediction: PredictionEdit | None = None
    auto: Auto | None = None
    """Whose the start and the logits are, of which one alone acts on an image."""

    @property
    def acting(self) -> dict[str, Any]:
        """The edits there are, by the part they change."""
        return {name: edit for name in KINDS if (edit := getattr(self, name)) is not None}

    @property
    def asked(self) -> frozenset[str]:
        """What a step is asked beside maps; see `edit.AskingEdit`."""
        asks = self.latent.asks if isinstance(self.latent, AskingEdit) and self.latent.strength else frozenset()
        return frozenset(asks)

    def check_windows(self, total: int) -> None:
        """Raises `AttnregError` for a window that lies between two of so many steps."""
        for edit in self.acting.values():
            start, end = edit.window
            if edit.strength and start < end and not any(start <= step / total < end for step in range(total)):
                raise AttnregError(
                    f"window: expected one that holds a step, got {edit.window}, between two of {total} steps; "
                    f"widen it to at least 1/{total}"
                )


@dataclass(frozen=True)
class Unedited:
    """In the place of an edit: the model is watched, and nothing is changed."""

    layers: tuple[str, ...] = ("auto",)
    """Which layers are looked at."""


KINDS: dict[str, type | tuple[type, ...]] = {
    "logits": (LogitEdit, ProbabilityEdit),
    "attention": AttentionEdit,
    "joint": JointEdit,
    "embedding": EmbeddingEdit,
    "start": StartEdit,
    "latent": LatentEdit,
    "prediction": PredictionEdit,
}
IN_LAYERS = frozenset({"logits", "attention", "joint"})
"""Those that act inside of attention layers."""
CLASHES = {
    frozenset(("logits", "attention")): "the attention over the text",
    frozenset(("logits", "joint")): "the attention over the text",
    # The phrases are denoised alone, each with the model's own attention; nothing of the whole prompt is left to edit.
    frozenset(("logits", "prediction")): "how the prompt is heard",
    frozenset(("attention", "prediction")): "how the prompt is heard",
    frozenset(("embedding", "prediction")): "how the prompt is heard",
}


def kinds_of(edit: Any) -> list[str]:
    """The parts of a model that an edit changes; none if it is no edit."""
    return [name for name, kind in KINDS.items() if isinstance(edit, kind) and not isinstance(edit, type)]


def edits_for(family: Family, edits: Edits) -> Edits:
    """The edits in a family: what is decided by itself does without starts where they cannot be followed.

    Raises `AttnregError` if one of the edits changes a part that cannot be edited there.
    """
    if edits.auto and "start" not in family.kinds:
        edits = replace(edits, start=None)
    for kind, edit in edits.acting.items():
        kind = _in_detail(kind, edit)
        if kind == "joint" and edit.strength and not (family.together and family.sees_itself):
            raise AttnregError(
                f"expected a method that works on {family.name}, got {type(edit).__name__}, which edits what positions "
                "of the picture give to one another in a softmax that they share with the text: there is none, or the "
                "text lies elsewhere in each row; choose attention-balance"
            )
        if edit.strength and kind not in family.kinds | {"joint"}:
            raise AttnregError(
                f"expected a method that works on {family.name}, got {type(edit).__name__}, which edits the {kind}; "
                f"there those work that edit the {' or the '.join(sorted(family.kinds))}: choose attention-balance"
            )
    for asked in sorted(edits.asked):
        if not _answers(family, asked):
            raise AttnregError(
                f"expected a method that works on {family.name}, got {type(edits.latent).__name__}, which "
                f"{ASKED[asked]}; choose attention-balance"
            )
    logits = edits.logits
    if isinstance(logits, TextEdit) and logits.whole_text and logits.strength and not family.together:
        raise AttnregError(
            f"expected a method that works on {family.name}, got {type(logits).__name__}, which raises the text "
            "against the picture in one softmax: there the picture looks at the text alone, or "
            "the text lies elsewhere in each row; choose attention-balance"
        )
    return edits


ASKED = {
    "level": "must know how noisy a latent is: of its scheduler that is not known",
    "picture": "goes on from the picture that is predicted: there it is not known how that is told under guidance",
    "text": "changes the prompt's embedding in every step: there it cannot be changed",
}
"""What is asked of a step -> why a method cannot do without it, and a family cannot answer."""


def _answers(family: Family, asked: str) -> bool:
    """Whether a step of a family's denoiser can be asked something."""
    return family.tells_noise if asked == "level" else {"picture": "start", "text": "embedding"}[asked] in family.kinds


def _in_detail(kind: str, edit: Any) -> str:
    """The part that an edit changes, as families tell which of them can be edited."""
    if isinstance(edit, ProbabilityEdit):
        return "probabilities"
    if kind == "embedding" and getattr(edit, "values_apart", False):
        return "values"
    return BY_SELF_ATTENTION if kind == LATENT and edit.needs_self else kind


def edits_of(config: Any) -> Edits:
    """The edits of a config, or of all parts of a `Composed` one.

    Raises `AttnregError` if one of them is no edit, or if two change the same part.
    """
    if isinstance(config, Unedited):
        return Edits()
    if isinstance(config, Auto):
        return Edits(start=config.start, logits=config.otherwise, auto=config)
    found = Edits()
    owners: dict[str, str] = {}
    for edit in _flat(config):
        kinds, name = kinds_of(edit), type(edit).__name__
        if isinstance(edit, Auto):
            raise AttnregError(
                "expected auto alone, got it composed with others; it decides by itself what acts: name the methods, "
                "such as best-start+attention-balance"
            )
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
