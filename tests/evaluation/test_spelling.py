"""One way to write a method with its settings, whatever way it came in."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnreg.errors import AttnregError
from attnreg.evaluation.spelling import Spelled, edit_of, read_method, split_methods, tidy, write_method
from attnreg.regulation.config import AttentionRegulation

names = st.from_regex(r"[a-z][a-z0-9]{0,5}(-[a-z0-9]{1,5}){0,2}(:[a-z]{1,5})?", fullmatch=True)
values = st.recursive(
    st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=4,
)
settings = st.dictionaries(st.from_regex(r"set_[a-z]{1,6}", fullmatch=True), values, max_size=3)


@given(st.lists(st.builds(Spelled, names, settings), min_size=1, max_size=3))
def test_what_is_written_is_read(parts: list[Spelled]) -> None:
    assert read_method(write_method(parts)) == parts


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("none", [("none", {})]),
        ("a(x=0.5)", [("a", {"x": 0.5})]),
        (" a ( x = -1 , y = auto ) + b:c ", [("a", {"x": -1, "y": "auto"}), ("b:c", {})]),
        ("a(x=(0, 0.5), y=[one, two], z=true)", [("a", {"x": (0, 0.5), "y": ("one", "two"), "z": True})]),
        ("a(x='(+,')", [("a", {"x": "(+,"})]),
    ],
)
def test_reads(text: str, parts: list[tuple[str, dict[str, Any]]]) -> None:
    assert read_method(text) == parts


@pytest.mark.parametrize(
    "text", ["", "+a", "a+", "a(", "a(1)", "a(x)", "a(**x)", "a(x=f())", "a(x=1))", "a b", "a(x=1+y)"]
)
def test_refuses_what_is_written_otherwise(text: str) -> None:
    with pytest.raises(AttnregError, match="expected a method such as"):
        read_method(text)


def test_commas_within_parentheses_separate_nothing() -> None:
    text = "none, a(x=1, y=(2, 3)), b+c(z=(1, (2, 3)), w=4),d"
    assert split_methods(text) == ["none", "a(x=1, y=(2, 3))", "b+c(z=(1, (2, 3)), w=4)", "d"]


def test_defaults_are_left_out_and_the_order_is_the_configs() -> None:
    assert tidy("attention-regulation(iterations=2, window=(0,0.4), strength=0.5)") == (
        "attention-regulation(strength=0.5, window=(0.0, 0.4))"
    )
    assert tidy("attention-regulation(strength=1)") == "attention-regulation"


def test_parts_have_settings_of_their_own() -> None:
    assert edit_of("none") is None
    assert edit_of("attention-regulation(strength=0.5)") == AttentionRegulation(strength=0.5)
    composed: Any = edit_of("attention-regulation(strength=0.5)+prompt-weighting")
    assert [type(part).__name__ for part in composed.parts] == ["AttentionRegulation", "PromptWeighting"]
    assert composed.parts[0].strength == 0.5
    with pytest.raises(AttnregError):
        tidy("attention-regulation+attention-scaling")


def test_a_setting_given_twice_is_refused() -> None:
    with pytest.raises(AttnregError, match="got strength twice"):
        read_method("attention-regulation(strength=0.5, window=(0, 1), strength=2)")


@pytest.mark.parametrize(
    "text",
    [
        "m(" * 50_000, "m(a=" + "(" * 900 + ")" * 900 + ")", "m(a=" + "-" * 1500 + "1)", "m(a=" + "1+" * 900 + "1)",
        "m(a={[]: 1})", "m(a=" + "9" * 5000 + ")", "m(a=1" + "+b" * 20_000, "m(a='\ud800\0')" * 1000, "a+" * 20_000,
    ],
    ids=range(9),
)  # fmt: skip
def test_what_no_one_writes_is_refused_at_once(text: str) -> None:
    with pytest.raises(AttnregError, match="expected a method such as") as error:
        read_method(text)
    assert len(str(error.value)) < 500


def test_thousands_of_methods_in_one_text_are_refused_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(AttnregError, match="at most 1,000, got 20,000"):
        split_methods(",".join(f"attention-regulation(strength={i})" for i in range(20_000)))
    split_methods("(" * 200_000 + "," * 200_000)
    assert time.monotonic() - began < 5
    assert split_methods("a(b=(1,2)),c,,d)") == ["a(b=(1,2))", "c", "d)"]
