"""A griffe extension: the settings of a method appear in the reference with their default and their meaning.

A setting is a dataclass field, `name: type = setting(default, check, "what it means")` (`regulation/settings.py`).
Nothing is imported to find them: the source is read.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from griffe import Attribute, Class, Docstring, ExprCall, Extension

MAKERS = ("setting", "in_window", "in_layers", "padding_competes")
"""What makes a setting."""


def shows_settings_alone(one: Class) -> bool:
    """Whether the reference shows the settings of a class and none of its functions.

    Those of a method are what its protocol describes.
    """
    made = any(isinstance(member, Attribute) and _maker(member) for member in one.members.values())
    return made or any(str(base).endswith("Settings") for base in one.bases)


def _maker(attribute: Attribute) -> str:
    """Which of `MAKERS` made an attribute, or nothing."""
    value = attribute.value
    return name if isinstance(value, ExprCall) and (name := str(value.function)) in MAKERS else ""


class SettingsInReference(Extension):
    """Gives each setting a docstring."""

    def __init__(self) -> None:
        super().__init__()
        self.classes: list[Any] = []
        """Those with a setting of their own; their attributes do not show it any more."""

    def on_attribute_instance(self, *, node: Any, attr: Attribute, **_: Any) -> None:
        """Called for every attribute of every module."""
        if not (maker := _maker(attr)):
            return
        assert isinstance(attr.value, ExprCall)
        arguments = [str(one) for one in attr.value.arguments]
        if maker == "setting":
            default, meaning = arguments[0], ast.literal_eval(arguments[2])
        elif maker == "in_window":
            default, meaning = f"({', '.join(arguments)})", _help_of(maker)
        elif maker == "in_layers":
            default, meaning = f"({arguments[0]},)", _help_of(maker)
        else:
            default, meaning = "True", _help_of(maker)
        sentence = meaning[0].upper() + meaning[1:]
        attr.docstring = Docstring(f"{sentence}. Default: `{default}`.", parent=attr)
        attr.value = default
        self.classes.append(attr.parent)

    def on_class_members(self, *, cls: Class, **_: Any) -> None:
        """Called when all of a class is read: one of settings loses its functions."""
        if cls in self.classes or shows_settings_alone(cls):
            for name in [name for name, member in cls.members.items() if member.is_function]:
                cls.del_member(name)


def _help_of(function: str) -> str:
    """What a shared setting means: the `help` of the function that makes it."""
    source = Path(__file__).parent.parent / "src/attnreg/regulation/settings.py"
    for one in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(one, ast.FunctionDef) and one.name == function:
            for line in one.body:
                if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "help":
                    return str(ast.literal_eval(line.value))
    raise LookupError(function)
