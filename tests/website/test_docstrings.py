"""What the reference shows says what goes in and what comes out, in Google's style."""

from __future__ import annotations

import re
from pathlib import Path

import griffe
import pytest

from website.settings_in_reference import shows_settings_alone

ROOT = Path(__file__).parent.parent.parent
ENTRY = re.compile(r"(?m)^::: (\S+)\n(?:    options:\n      members: \[(.*)\])?")
SHOWN = {
    name: [one.strip() for one in members.split(",") if one]
    for page in sorted((ROOT / "docs/reference").glob("*.md"))
    for name, members in ENTRY.findall(page.read_text(encoding="utf-8"))
}
"""What the pages show -> which members of it, if not all."""
NOTHING = ("None", "Iterator[None]", "Self")


@pytest.fixture(scope="module")
def package() -> griffe.Module:
    """The sources, read and not imported."""
    found = griffe.load("attnreg", search_paths=[ROOT / "src"], docstring_parser="google")
    assert isinstance(found, griffe.Module)
    return found


def functions_of(one: griffe.Object, members: list[str]) -> list[griffe.Function]:
    """The function itself, or the methods of a class that are shown."""
    if isinstance(one, griffe.Function):
        return [one]
    if isinstance(one, griffe.Class) and shows_settings_alone(one):
        return []
    own = [member for member in one.members.values() if isinstance(member, griffe.Function)]
    if members:
        return [method for method in own if method.name in members]
    return [method for method in own if not method.name.startswith("_") or method.name == "__call__"]


def missing(function: griffe.Function) -> list[str]:
    """What its docstring does not say."""
    if function.docstring is None:
        return ["anything"]
    told = {section.kind.value: section for section in function.docstring.parse("google")}
    names = [one.name for one in function.parameters if one.name not in ("self", "cls")]
    described = [one.name for one in told["parameters"].value] if "parameters" in told else []
    lacking = [name for name in names if name.strip("*") not in [one.strip("*") for one in described]]
    gives = str(function.returns or "None")
    # A function of nothing but itself, whose first line is what it gives, needs no section for that.
    if names and gives not in NOTHING and not {"returns", "yields"} & set(told):
        lacking.append("Returns")
    return lacking


@pytest.mark.parametrize("name", SHOWN)
def test_says_what_goes_in_and_comes_out(name: str, package: griffe.Module) -> None:
    one = package[name.removeprefix("attnreg.")]
    assert one.docstring, f"{name} has no docstring"
    faults = {function.path: lacking for function in functions_of(one, SHOWN[name]) if (lacking := missing(function))}
    assert not faults


def test_all_that_the_package_exports_is_shown(package: griffe.Module) -> None:
    exported = re.findall(r'^    "(\w+)",$', (ROOT / "src/attnreg/__init__.py").read_text(encoding="utf-8"), re.M)
    assert len(exported) > 10
    assert not set(exported) - {name.rpartition(".")[2] for name in SHOWN}
