"""What a page asks for: what is wrong is said beside its field, all at once, and nothing else is let through."""

from __future__ import annotations

from typing import Any

import pytest

from attnreg.app import bounds
from attnreg.app.fields import FIELDS
from attnreg.app.offered import Offered
from attnreg.app.order import RefusedError, read_order, read_targets
from attnreg.methods import METHODS

FORM = {"model": "pocket", "prompt": "a bird and a frog"}


def errors(offered: dict[str, Offered], **fields: Any) -> dict[str, str]:
    with pytest.raises(RefusedError) as refused:
        read_order(FORM | fields, offered)
    return refused.value.errors


def test_empty_fields_are_the_models_own(pocket: dict[str, Offered]) -> None:
    plain = read_order(FORM, pocket)
    blank = {
        name: "" for name in ("method", "seeds", "steps", "guidance_scale", "negative_prompt", "height", "scheduler")
    }
    assert read_order(FORM | blank, pocket).recipe == plain.recipe
    assert plain.seeds == (0,)
    assert (plain.recipe.steps, plain.recipe.guidance_scale, plain.recipe.method) == (12, 2.25, "auto")
    assert plain.recipe.chosen == ["bird", "frog"]
    assert plain.recipe.targets is None


def test_texts_and_numbers_are_the_same(pocket: dict[str, Offered]) -> None:
    numbers = {"steps": 3, "guidance_scale": 1.5, "height": 64, "width": 128, "seeds": [0, 1, 5]}
    texts = {"steps": " 3 ", "guidance_scale": "1.5", "height": "64", "width": "128", "seeds": "0-1,5"}
    one, other = (read_order(FORM | fields, pocket) for fields in (numbers, texts))
    assert (one.recipe, one.seeds) == (other.recipe, other.seeds)
    assert (one.recipe.steps, one.recipe.height, one.recipe.width, one.seeds) == (3, 64, 128, (0, 1, 5))


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("prompt", "", "Expected a prompt, got nothing"),
        ("prompt", "  \n", "Expected a prompt, got nothing"),
        ("prompt", None, "Expected a prompt, got nothing"),
        ("prompt", "x" * 10_000, "at most 2,000 characters, got 10,000"),
        ("prompt", "a bird and a helicopter", "does not know 'helicopter'"),
        ("prompt", "and a", "name words of the prompt below"),
        ("prompt", ["a bird"], "Expected a text"),
        ("targets", ["cat"], "No token of the prompt matches 'cat'"),
        ("targets", ["bird", "bird"], "each target once"),
        ("targets", [], "at least one word that is switched on"),
        ("targets", "bird", "a list of words"),
        ("targets", ["bird"] * 99, "at most 32 words"),
        ("targets", ["b" * 999], "at most 200 characters"),
        ("method", "magic", "Expected a method of"),
        ("method", "auto+attention-balance", "."),
        ("model", "../../etc/passwd", "Expected one of pocket"),
        ("model", None, "Expected one of pocket"),
        ("settings", {"gain": "3"}, "Expected settings of auto"),
        ("settings", {"gain": 3}, "settings as texts"),
        ("settings", "gain=3", "settings as texts"),
        ("seeds", "three", "Seeds: expected for example 0, 0-3"),
        ("seeds", "0-99", "at most 16 seeds at once, got 100"),
        ("seeds", "5-2", "write the smaller first"),
        ("seeds", -1, "Seeds: expected whole numbers from 0"),
        ("steps", "0", "a whole number from 1 to 200"),
        ("steps", "1e3", "a whole number from 1 to 200"),
        ("steps", 2.5, "a whole number from 1 to 200"),
        ("steps", True, "a whole number from 1 to 200"),
        ("steps", "9" * 5000, "a whole number from 1 to 200"),
        ("steps", "٣", "a whole number from 1 to 200"),
        ("height", "100", "multiple of 8"),
        ("height", "8192", "from 32 to 2048"),
        ("width", "-64", "from 32 to 2048"),
        ("guidance_scale", "-1", "a number from 0"),
        ("guidance_scale", "nan", "a number from 0"),
        ("guidance_scale", ".", "a number from 0"),
        ("guidance_scale", float("nan"), "a number from 0"),
        ("scheduler", "magic", "Expected a scheduler of ddim"),
        ("negative_prompt", "y" * 2_001, "at most 2,000 characters"),
        ("adjectives", "no", "true or false"),
    ],
)
def test_what_is_wrong_stands_beside_its_field(pocket: dict[str, Offered], field: str, value: Any, told: str) -> None:
    found = errors(pocket, **{field: value})
    assert list(found) == [field]
    assert told in found[field]
    assert found[field][0].isupper()
    assert found[field][-1] in ".)!?"
    assert "\n" not in found[field]
    assert "targets=[" not in found[field], "no Python in a page"


def test_all_that_is_wrong_is_said_at_once(pocket: dict[str, Offered]) -> None:
    found = errors(pocket, prompt="", steps="x", height="3", seeds="y")
    assert set(found) == {"prompt", "steps", "height", "seeds"}


def test_settings_of_the_method_are_checked(pocket: dict[str, Offered]) -> None:
    balance = {"method": "attention-balance"}
    order = read_order(FORM | balance | {"settings": {"strength": "0.5", "gain": " "}}, pocket)
    assert order.recipe.settings == {"strength": 0.5}
    assert "strength" in errors(pocket, **balance, settings={"strength": "much"})["settings"]
    assert "Strength: expected" in errors(pocket, **balance, settings={"strength": "-1"})["settings"]


@pytest.mark.parametrize("body", [None, [], "x", 3, {"prompt": "a bird", "model": "pocket", "path": "/etc/passwd"}])
def test_what_is_no_form_is_refused(pocket: dict[str, Offered], body: Any) -> None:
    with pytest.raises(RefusedError) as refused:
        read_order(body, pocket)
    assert list(refused.value.errors) == ["form"]


def test_words_that_are_found_and_notes(pocket: dict[str, Offered]) -> None:
    assert read_targets(FORM, pocket) == {"targets": ["bird", "frog"], "notes": []}
    assert read_targets(FORM | {"prompt": "a red bird", "adjectives": False}, pocket)["targets"] == ["bird"]
    assert read_targets(FORM | {"targets": ["frog"]}, pocket)["targets"] == ["frog"]


def test_nothing_is_to_be_heeded_without_a_method(pocket: dict[str, Offered]) -> None:
    """A prompt without a noun can be drawn by the model as it is."""
    assert read_order(FORM | {"prompt": "red", "method": "none"}, pocket).recipe.chosen == []


def test_every_method_can_be_asked_for(pocket: dict[str, Offered]) -> None:
    for name in METHODS:
        assert read_order(FORM | {"method": name}, pocket).recipe.method == name


def test_every_field_has_a_bound() -> None:
    assert set(FIELDS) >= {"prompt", "targets", "seeds", "steps", "height", "width", "negative_prompt", "settings"}
    assert bounds.MOST_SEEDS * bounds.MOST_STEPS <= 16 * 200
