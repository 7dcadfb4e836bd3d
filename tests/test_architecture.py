"""The rooms of the package and the arrows between them: a walk over every import, those inside functions included."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "attnreg"

WORDS = ("words", "phrases", "heads", "targets", "token_spans")
CORE = ("types", *WORDS, "regulation")
"""Tensors and words: no pipeline, no picture, no file."""
DOORS = ("shown", "limits", "errors", "reading", "writing", "spreadsheet", "seeds")
"""What comes from outside, and what goes there."""
TOOLS = (*DOORS, "account", "devices", "models", "png", "presets", "recipe", "retelling", "plot", "report")
LOWER = (*CORE, "trace", "attention", "methods", "watching", "passes", "sampling")
JUDGING = ("measure", "records", "statistics", "significance")

MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "shown": (),
    "limits": (),
    "errors": ("shown",),
    "writing": ("errors",),
    "reading": ("errors", "limits", "shown"),
    "spreadsheet": (),
    "seeds": ("errors", "limits", "shown"),
    "devices": ("errors",),
    "types": ("errors",),
    "plot": (),
    "trace": ("types", "plot"),
    "words": ("types",),
    "phrases": ("types", "words"),
    "heads": ("types", "words", "phrases"),
    "targets": ("types", "words", "phrases"),
    "token_spans": ("words", "targets"),
    "regulation": ("types", "words", "shown"),
    "measure": ("devices", "types", "reading"),
    "models": ("errors", "devices", "types", "reading"),
    "png": DOORS,
    "recipe": (*DOORS, "types", "png"),
    "records": (),
    "significance": DOORS,
    "statistics": (*DOORS, "types", "records", "significance"),
    "report": (*DOORS, "types", "plot", "records", "statistics"),
    "attention": (*CORE, "trace"),
    "methods": ("errors", *CORE),
    "watching": ("types", "attention", "models"),
    "passes": ("attention", "models"),
    "sampling": (*CORE, "trace", "attention", "methods", "models", "watching"),
    "catalogue": LOWER,
    "account": ("types", "trace"),
    "presets": DOORS,
    "retelling": (*DOORS, "types", "methods", "recipe"),
    "evaluation": (*LOWER, *TOOLS, *JUDGING),
    "studio": (*LOWER, *TOOLS, *JUDGING),
    "explain": (*LOWER, *TOOLS, "studio"),
    "doctor": (*LOWER, *TOOLS, *JUDGING, "evaluation", "studio"),
    "comparison": (*LOWER, *TOOLS, *JUDGING, "evaluation", "studio"),
    "commands": (
        *LOWER,
        *TOOLS,
        *JUDGING,
        "catalogue",
        "evaluation",
        "studio",
        "explain",
        "doctor",
        "comparison",
        "app",
    ),
    "app": (*LOWER, *TOOLS, *JUDGING, "evaluation", "studio", "explain", "doctor"),
    "cli": (*LOWER, *TOOLS, *JUDGING, "evaluation", "studio", "doctor", "app", "commands"),
    "__main__": ("cli",),
}
"""Which rooms a room may know, itself apart. A new room of the package needs a row."""

FILES = ("pathlib", "os", "io", "tempfile", "shutil", "glob")
NEVER: dict[str, tuple[str, ...]] = {
    "types": ("diffusers", "transformers", "PIL", *FILES),
    "trace": ("diffusers", "transformers", "PIL", *FILES),
    "plot": ("torch", "diffusers", "transformers", *FILES),
    "words": ("diffusers", "transformers", "PIL", *FILES),
    "phrases": ("diffusers", "transformers", "PIL", *FILES),
    "heads": ("diffusers", "transformers", "PIL", *FILES),
    "targets": ("diffusers", "transformers", "PIL", *FILES),
    "regulation": ("diffusers", "transformers", "PIL", *FILES),
    "report": ("torch",),
}
"""Libraries that a room does without."""
OUTSIDE = ("training", "benchmarks", "tests", "tiny")
"""What lies in the repository but not in the wheel."""


SHARED = ("method", "setting")
"""What every file of `methods/` may know of that room; another method it may not."""


class Arrow(NamedTuple):
    """One import: who, what (a dotted name), in which line."""

    importer: str
    imported: str
    line: int


def module_name(path: Path) -> str:
    """`src/attnreg/methods/__init__.py` -> `attnreg.methods`."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """`attnreg.methods.method` -> `methods`; of the package itself, ``."""
    return [*module.split("."), ""][1]


def arrows(module: str, source: str, is_package: bool = False) -> Iterator[Arrow]:
    """Every import of a module's source, wherever it stands, with relative ones resolved."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Arrow(module, alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = (node.module or "").split(".") if node.module else []
            if node.level:
                here = module.split(".") if is_package else module.split(".")[:-1]
                base = [*here[: len(here) - node.level + 1], *base]
            for alias in node.names:
                # "from attnreg import studio" names a module, "from attnreg.types import Grid" something inside one.
                yield Arrow(module, ".".join([*base, alias.name]), node.lineno)
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                yield Arrow(module, "an import by a computed name", node.lineno)


def faults(module: str, source: str, is_package: bool = False) -> list[str]:
    """What a module's imports break, one line each."""
    room = room_of(module)
    if not room:  # the package's own names are loaded by name, when asked for
        return []
    if room not in MAY_IMPORT:
        return [f"{module}: room {room} has no row in MAY_IMPORT"]
    found = []
    for arrow in arrows(module, source, is_package):
        top, _, rest = arrow.imported.partition(".")
        where = f"{module}:{arrow.line} imports {arrow.imported}"
        if top == "an import by a computed name":
            if module != "attnreg.methods.method":  # which loads what METHODS names: `test_methods.py` says from where
                found.append(where)
        elif top in OUTSIDE:
            found.append(f"{where}, which is not part of the package")
        elif top in NEVER.get(room, ()):
            found.append(f"{where}, which {room} does without")
        elif top == "attnreg":
            other = rest.split(".")[0]
            if other not in MAY_IMPORT:
                found.append(f"{where}: name the module that it is in")
            elif other != room and other not in MAY_IMPORT[room]:
                found.append(f"{where}: an arrow upward or sideways")
            elif other == room == "methods" and module != "attnreg.methods" and rest.split(".")[1] not in SHARED:
                found.append(f"{where}: one method knows another")
    if room in CORE:
        opened = [
            n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "open"
        ]
        found += [f"{module}:{node.lineno} opens a file" for node in opened]
    return found


SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_arrows_run_downward(path: Path) -> None:
    assert faults(module_name(path), path.read_text(encoding="utf-8"), path.name == "__init__.py") == []


def test_the_walk_sees_the_package() -> None:
    """Known arrows, one of them inside a function, are found where they are; else the test above could be blind."""
    seen = {
        (arrow.importer, arrow.imported)
        for path in SOURCES
        for arrow in arrows(module_name(path), path.read_text(encoding="utf-8"), path.name == "__init__.py")
    }
    assert ("attnreg.studio", "attnreg.sampling.generate") in seen
    assert ("attnreg.cli", "attnreg.studio") in seen
    assert ("attnreg.targets", "attnreg.phrases.find_phrases") in seen
    assert {room_of(module_name(path)) for path in SOURCES} - {""} <= MAY_IMPORT.keys()


def test_the_table_itself_has_no_circle() -> None:
    """Rooms can be put in an order in which each knows only earlier ones."""
    placed: list[str] = []
    while ready := [room for room, below in MAY_IMPORT.items() if room not in placed and set(below) <= set(placed)]:
        placed += ready
    assert set(placed) == set(MAY_IMPORT)


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        ("attnreg.types", "from attnreg.targets import find_targets", "upward"),
        ("attnreg.words", "import attnreg.phrases", "upward"),
        ("attnreg.targets", "from attnreg.regulation.basis import gaussian_basis", "upward or sideways"),
        ("attnreg.regulation.solver", "from ..attention import regulate", "upward"),
        ("attnreg.regulation.solver", "def f():\n    from attnreg import sampling", "upward"),
        ("attnreg.regulation.solver", "if TYPE_CHECKING:\n    import diffusers", "does without"),
        ("attnreg.regulation.solver", "import os.path", "does without"),
        ("attnreg.regulation.solver", "text = open('x').read()", "opens a file"),
        ("attnreg.targets", "from transformers import CLIPTokenizer", "does without"),
        ("attnreg.targets", "from PIL import Image", "does without"),
        ("attnreg.targets", "from pathlib import Path", "does without"),
        ("attnreg.phrases", "import io, tempfile", "does without"),
        ("attnreg.attention.run", "from attnreg.methods import METHODS", "upward or sideways"),
        ("attnreg.attention.run", "from ..methods.attention_scaling import AttentionScaling", "upward or sideways"),
        ("attnreg.methods.other", "from attnreg.methods.attention_scaling import AttentionScaling", "one method"),
        ("attnreg.methods.other", "from . import attention_scaling", "one method"),
        ("attnreg.methods.other", "from attnreg.attention.layers.catch import Patch", "upward or sideways"),
        ("attnreg.measure.judge", "from attnreg.attention.run import RegulatedRun", "upward or sideways"),
        ("attnreg.measure.judge", "from attnreg.sampling import generate", "upward"),
        ("attnreg.measure.judge", "from attnreg.regulation.edit import Edited", "upward or sideways"),
        ("attnreg.report.page", "import torch", "does without"),
        ("attnreg.report.page", "from torch.nn import functional", "does without"),
        ("attnreg.plot", "from attnreg.sampling import generate", "upward"),
        ("attnreg.models.load", "from attnreg.recipe import Recipe", "upward or sideways"),
        ("attnreg.sampling", "from attnreg.studio import Session", "upward"),
        ("attnreg.studio", "from attnreg.cli import main", "upward"),
        ("attnreg.studio", "from training.words import NOUNS", "not part of the package"),
        ("attnreg.cli", "import benchmarks.cost", "not part of the package"),
        ("attnreg.studio", "from attnreg import Sample", "name the module"),
        ("attnreg.studio", "from importlib import import_module\nimport_module('attnreg.' + 'cli')", "computed name"),
        ("attnreg.studio", "__import__('training')", "computed name"),
        ("attnreg.gadgets", "x = 1", "no row"),
    ],
)
def test_the_checker_finds_faults(module: str, source: str, fault: str) -> None:
    assert [line for line in faults(module, source) if fault in line], f"{source!r} in {module} was let through"


@pytest.mark.parametrize(
    ("module", "source", "is_package"),
    [
        ("attnreg.methods", "from attnreg.methods.attention_scaling import AttentionScaling", True),
        ("attnreg.methods", "from .attention_scaling import AttentionScaling", True),
        ("attnreg.methods.other", "from attnreg.methods.method import Method", False),
        ("attnreg.regulation.solver", "from .basis import gaussian_basis", False),
        ("attnreg.attention.run", "from attnreg.regulation.edit import LogitEdit\nimport os", False),
        ("attnreg.cli", "def f():\n    from attnreg import studio", False),
        ("attnreg.targets", "import ios, torch", False),
        ("attnreg", "from importlib import import_module\nimport_module('attnreg.cli')", True),
    ],
)
def test_the_checker_lets_pass(module: str, source: str, is_package: bool) -> None:
    assert faults(module, source, is_package) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_files_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


def test_files_are_named_for_an_idea() -> None:
    named = [*SOURCES, *(ROOT / "training").glob("*.py"), *(ROOT / "benchmarks").glob("*.py")]
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "tools"}
    assert [path for path in named if path.stem in vague or vague & set(path.relative_to(ROOT).parts)] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_only_families_name_the_class_of_a_denoiser(path: Path) -> None:
    """All else works through what a family answers: a new one is an entry, and nothing else."""
    if "families" in path.parts:
        return
    assert named_denoisers(path.read_text(encoding="utf-8")) == []


def named_denoisers(source: str) -> list[str]:
    """The words that are classes of the installed diffusers' transformers and UNets, or are called like one."""
    classes = r"\w*(UNet\w*ConditionModel|Transformer2DModel|Transformer3DModel|DiT\w*Model)"
    return [word for word in re.findall(r"\w+", source) if word in denoisers() or re.fullmatch(classes, word)]


@cache
def denoisers() -> frozenset[str]:
    """The models in the files of diffusers' transformers and UNets, and what is made from one of them."""
    spec = find_spec("diffusers")
    assert spec is not None
    assert spec.submodule_search_locations
    models = Path(spec.submodule_search_locations[0]) / "models"
    paths = [path for room in ("transformers", "unets") for path in (models / room).glob("*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    bases = {
        name: set(re.findall(r"\w+", of)) for name, of in re.findall(r"^class (\w+)\(([^)]*)\)", text, re.MULTILINE)
    }
    own = {name for name, of in bases.items() if "ModelMixin" in of}
    return frozenset(own | {name for name, of in bases.items() if of & own})


def test_the_names_of_denoisers_are_seen() -> None:
    """The families' own are among those that are looked for, so that none of them can stand elsewhere."""
    from attnreg.attention.families import FAMILIES

    assert {family.model for family in FAMILIES} <= denoisers()
    assert named_denoisers("a UNet, its Transformer2D; model: StableCascadeUNet") == ["StableCascadeUNet"]
