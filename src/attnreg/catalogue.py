"""What is known of each model family, made from the families themselves and from the installed diffusers."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from attnreg.attention.calls.edits import edits_for, edits_of
from attnreg.attention.families import FAMILIES
from attnreg.attention.families.family import Family
from attnreg.methods import METHODS
from attnreg.sampling import configure
from attnreg.types import AttnregError

AROUND = {"Optional", "Union", "None"}
"""What an annotation says beside the class."""


@dataclass(frozen=True)
class FamilyRow:
    """One family of `FAMILIES`, as a person reads of it."""

    name: str
    denoiser: str
    """Class of diffusers."""
    pipelines: tuple[str, ...]
    """Those of the installed diffusers that hold such a denoiser and encode prompts; not each of them is tested."""
    default_layers: str
    """What "auto" means, in words."""
    edits: tuple[str, ...]
    """The parts of the model that can be edited."""
    methods: tuple[str, ...]
    """That work there."""
    tested: str
    """How."""


def family_rows() -> list[FamilyRow]:
    """A row for every family, in the order in which a pipeline is asked for its denoiser."""
    return [
        FamilyRow(
            name=family.name,
            denoiser=family.model,
            pipelines=pipelines_of(family),
            default_layers=(inspect.getdoc(type(family).default_layers) or "").partition("\n")[0],
            edits=tuple(sorted(family.kinds | ({"whole text"} if family.together else set()))),
            methods=tuple(name for name in METHODS if name != "none" and works(name, family)),
            tested=family.tested,
        )
        for family in FAMILIES
    ]


def works(method: str, family: Family) -> bool:
    """Whether a method of `METHODS`, with its default settings, is taken by the denoisers of a family."""
    edit = configure(method)
    if edit is None:
        return True
    try:
        edits_for(family, edits_of(edit))
    except AttnregError:
        return False
    return True


def pipelines_of(family: Family) -> tuple[str, ...]:
    """The pipeline classes of the installed diffusers that a family's denoiser can stand in; none without diffusers.

    Told by their components: the source is read, not imported. Only those that encode a prompt can be regulated; one
    that takes another kind of denoiser as well is left out, for it may exchange it (videos).
    """
    found = {
        name
        for name, one in _classes(tuple(family.model for family in FAMILIES)).items()
        if one.components.get(family.denoiser, frozenset()) == frozenset({family.model})
        and _encodes(name)
        and _is_called(name, family)
    }
    return tuple(sorted(found))


def _is_called(name: str, family: Family) -> bool:
    """Whether a pipeline's name is one of the family's, or none of another family's with denoisers of that class."""
    if family.pipelines:
        return re.fullmatch(family.pipelines, name) is not None
    others = (one.pipelines for one in FAMILIES if one.model == family.model and one.pipelines)
    return not any(re.fullmatch(pattern, name) for pattern in others)


@dataclass(frozen=True)
class _Class:
    bases: tuple[str, ...]
    components: dict[str, frozenset[str]]
    encodes: bool


def _encodes(name: str) -> bool:
    """Whether a class, or one that it is made from, has an `encode_prompt`."""
    one = _classes(tuple(family.model for family in FAMILIES)).get(name)
    return one is not None and (one.encodes or any(map(_encodes, one.bases)))


@lru_cache(maxsize=2)
def _classes(models: tuple[str, ...]) -> dict[str, _Class]:
    """The public classes in files of diffusers' pipelines that name one of the models."""
    spec = find_spec("diffusers")
    folders = [Path(place) / "pipelines" for place in (spec.submodule_search_locations if spec else None) or ()]
    found: dict[str, _Class] = {}
    for path in (path for folder in folders for path in sorted(folder.rglob("*.py"))):
        source = path.read_text(encoding="utf-8")
        if any(model in source for model in models):
            found |= dict(_read(source, models))
    return found


def _read(source: str, models: Sequence[str]) -> Iterator[tuple[str, _Class]]:
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            methods = {one.name: one for one in node.body if isinstance(one, ast.FunctionDef)}
            made = methods.get("__init__")
            parameters = made.args.args + made.args.kwonlyargs if made else []
            components = {
                one.arg: frozenset(re.findall(r"\w+", ast.unparse(one.annotation))) - AROUND
                for one in parameters
                if one.annotation is not None
            }
            bases = tuple(base.id for base in node.bases if isinstance(base, ast.Name))
            yield node.name, _Class(bases, components, "encode_prompt" in methods)
