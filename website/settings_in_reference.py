"""A griffe extension: the settings of a method appear in the reference with their default and their meaning.

A setting is a dataclass field written `name: type = setting(default, check, "what it means")` (`regulation/settings.py`).
Nothing is imported to find them: the source is read.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from griffe import Attribute, Docstring, ExprCall, Extension

NAMED = {"in_window": "in_window", "in_layers": "in_layers"}


class SettingsInReference(Extension):
    """Gives each setting a docstring and shows its default alone."""

    def on_attribute_instance(self, *, node: Any, attr: Attribute, **_: Any) -> None:
        """Called for every attribute of every module."""
        value = attr.value
        if not isinstance(value, ExprCall) or str(value.function) not in ("setting", "in_window", "in_layers"):
            return
        arguments = [str(one) for one in value.arguments]
        if str(value.function) == "setting":
            default, meaning = arguments[0], ast.literal_eval(arguments[2])
        elif str(value.function) == "in_window":
            default, meaning = f"({', '.join(arguments)})", _help_of("in_window")
        else:
            default, meaning = f"({arguments[0]},)", _help_of("in_layers")
        attr.docstring = Docstring(meaning[0].upper() + meaning[1:] + ".", parent=attr)
        attr.value = default


def _help_of(function: str) -> str:
    """What a shared setting means: the `help` of the function that makes it."""
    source = Path(__file__).parent.parent / "src/attnreg/regulation/settings.py"
    for one in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(one, ast.FunctionDef) and one.name == function:
            for line in one.body:
                if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "help":
                    return str(ast.literal_eval(line.value))
    raise LookupError(function)
