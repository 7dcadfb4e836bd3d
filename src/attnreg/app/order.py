"""What a page asks for, checked field by field: whatever is wrong is said beside the field that it is in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from attnreg.app.fields import FIELDS
from attnreg.app.offered import Offered
from attnreg.errors import AttnregError
from attnreg.recipe import Recipe
from attnreg.sampling import configure, read_settings
from attnreg.shown import told


class RefusedError(Exception):
    """Nothing is drawn: a sentence for each field that is to be mended; "form" where it is no field's fault."""

    def __init__(self, errors: dict[str, str]) -> None:
        super().__init__(errors)
        self.errors = errors


@dataclass(frozen=True)
class Order:
    """What is to be drawn."""

    offered: Offered
    options: dict[str, Any]
    """Of `Session.open`, all but the model."""
    seeds: tuple[int, ...]
    recipe: Recipe
    """What the sitting will draw by, for seed 0: every default filled in."""
    notes: tuple[str, ...]


def read_order(body: Any, offered: Mapping[str, Offered]) -> Order:
    """Check what a page asks for.

    Args:
        body: a JSON object; numbers may be texts, as fields have them, and an empty text stands for the default.
        offered: the models by name.

    Raises:
        RefusedError: something is wrong; all fields that are, at once.
    """
    values, model = read_fields(body, FIELDS, offered)
    errors: dict[str, str] = {}
    written = values.pop("settings")
    with_settings: dict[str, Any] = {}
    with beside(errors, "settings"):
        with_settings = read_settings(values["method"], written)
        edit = configure(values["method"], with_settings)
    if model.about:
        with beside(errors, "prompt"):
            model.about.check_words(values["prompt"])
    if errors:
        raise RefusedError(errors)
    if edit or values["targets"]:
        with beside(errors, "targets" if values["targets"] else "prompt"):
            model.targets(values["prompt"], values["targets"], values["adjectives"])
    if errors:
        raise RefusedError(errors)
    seeds = values.pop("seeds")
    options = values | {"settings": with_settings}
    with beside(errors, "form"):
        session = model.checked(options)
        return Order(model, options, seeds, session.recipe, session.notes)
    raise RefusedError(errors)


def read_targets(body: Any, offered: Mapping[str, Offered]) -> dict[str, Any]:
    """The words of a prompt that would be heeded, and notes on others. Raises `RefusedError` as `read_order`."""
    values, model = read_fields(body, ("prompt", "targets", "adjectives"), offered)
    errors: dict[str, str] = {}
    with beside(errors, "targets" if values["targets"] else "prompt"):
        found = model.targets(**values)
        return {"targets": [target.text for target in found.targets], "notes": list(found.notes)}
    raise RefusedError(errors)


class beside:  # noqa: N801  (reads as a word of a sentence: with beside(errors, "prompt"))
    """Lets an `AttnregError` become the sentence beside a field."""

    def __init__(self, errors: dict[str, str], field: str) -> None:
        self.errors, self.field = errors, field

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> bool:
        if isinstance(error, AttnregError):
            self.errors[self.field] = sentence(str(error))
        return isinstance(error, AttnregError)


def sentence(text: str) -> str:
    """An error's line as it stands beside a field: a capital at its beginning, a full stop at its end."""
    text = re.sub(r"; name the words: targets=\[\.\.\.\]", "; name words of the prompt below", text)
    text = text.replace("name the words: targets=[...]", "name words of the prompt below")
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?", ")")) else ".")


def read_fields(body: Any, fields: Iterable[str], offered: Mapping[str, Offered]) -> tuple[dict[str, Any], Offered]:
    """The values of some fields, and the model. Raises `RefusedError`."""
    if not isinstance(body, dict):
        raise RefusedError({"form": sentence(f"expected an object with the fields of the form, got {told(body, 60)}")})
    errors: dict[str, str] = {}
    if unknown := [name for name in body if name not in FIELDS and name not in ("model", "page")]:
        errors["form"] = sentence(f"expected fields of the form, got {told(unknown[0], 60)}; reload the page")
    values: dict[str, Any] = {}
    for name in fields:
        with beside(errors, name):
            values[name] = FIELDS[name](body.get(name))
    model = offered.get(body["model"]) if isinstance(body.get("model"), str) else None
    if model is None:
        errors["model"] = f"Expected one of {', '.join(offered)}, got {told(body.get('model'), 60)}."
    if errors or model is None:
        raise RefusedError(errors)
    return values, model
