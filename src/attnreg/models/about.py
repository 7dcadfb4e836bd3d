"""The bundled models: where they lie, which words they know, whether their files are whole."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnreg.errors import AttnregError
from attnreg.reading import path_of

POCKET_NAME = "pocket"
BUNDLED = {name: Path(__file__).parent / name for name in (POCKET_NAME, "pocket-joint")}
"""Models that come with the package: a UNet, and a transformer with joint attention that knows the same words."""
POCKET = BUNDLED[POCKET_NAME]
ABOUT = "attnreg.json"
"""A model directory may hold this file: the words it knows and the settings it draws best with."""
MOST_BYTES = 1 << 20
"""Of that file; the bundled model's has some thousands."""
MOST_STEPS, MOST_GUIDANCE = 1000, 1000


@dataclass(frozen=True)
class About:
    """What a small model says about itself: without the file, nothing is known and nothing is checked."""

    name: str
    things: tuple[str, ...]
    colours: tuple[str, ...]
    other: tuple[str, ...]
    steps: int
    guidance_scale: float
    held_out_pairs: tuple[tuple[str, str], ...] = ()
    """Pairs of things that no training picture shows together; empty where the model does not say."""

    def __post_init__(self) -> None:
        for pair in self.held_out_pairs:
            if len(pair) != 2 or pair[0] == pair[1] or not set(pair) <= set(self.things):
                raise ValueError(f"held_out_pairs: expected two of the model's things, got {' and '.join(pair)!r}")

    def check_words(self, prompt: str) -> None:
        """Raises `AttnregError` that names the first word of the prompt that the model was never taught."""
        known = (*self.things, *self.colours, *self.other)
        for word in re.findall(r"[^\W_]+(?:['-][^\W_]+)*|[^\w\s]", prompt.lower()):
            if word in known:
                continue
            close = difflib.get_close_matches(word, known, n=1)
            raise AttnregError(
                f"the model {self.name} does not know {word!r}"
                + (f": did you mean {close[0]!r}?" if close else "")
                + f"; it knows {len(self.things)} things ({', '.join(self.things)}), {len(self.colours)} colours "
                f"({', '.join(self.colours)}) and {' '.join(self.other)}"
            )


def folder_of(model: str) -> Path:
    """Where a model of that name lies, or would lie if it is a directory at all."""
    return BUNDLED.get(model) or path_of(model)


def drawn_with(told: About | None, steps: int | None, guidance_scale: float | None) -> dict[str, Any]:
    """Steps and guidance as options of a pipeline: what is asked for, else what the model says it draws best with.

    Args:
        told: what the model says, if it does.
        steps: that are asked for; `None` if it is left to the model.
        guidance_scale: likewise.

    Returns:
        The options; `None` where nothing is asked for and the model says nothing.
    """
    return {
        "num_inference_steps": told.steps if told and steps is None else steps,
        "guidance_scale": told.guidance_scale if told and guidance_scale is None else guidance_scale,
    }


def about(folder: Path) -> About | None:
    """What the model in a directory says about itself, if it does. Raises `AttnregError` if that cannot be read."""
    try:
        told: dict[str, Any] = _account(folder)["model"]
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in told.items()
        }
        values["held_out_pairs"] = tuple((str(a), str(b)) for a, b in told.get("held_out_pairs", ()))
        _check(values)
        return About(**values)
    except OSError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise AttnregError(
            f"expected the model's own account in {folder / ABOUT}, got {type(error).__name__}: {error}; "
            "download the model again, or delete that file to do without"
        ) from error


def checksums(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file of a model directory but the one that lists them, by path."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in _files(folder)
        if path.name != ABOUT
    }


def damaged(folder: Path) -> list[str]:
    """Files of a model directory that are missing or differ from its list of checksums.

    Raises `OSError` or `AttnregError` if the list itself cannot be read.
    """
    try:
        listed: dict[str, str] = dict(_account(folder)["sha256"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise AttnregError(f"expected a list of checksums in {ABOUT}, got {type(error).__name__}: {error}") from error
    found = checksums(folder)
    return sorted(name for name in listed.keys() | found.keys() if listed.get(name) != found.get(name))


def _check(told: dict[str, Any]) -> None:
    """Raises `ValueError` unless the settings of an account are such as one can draw with."""
    if not isinstance(told.get("name"), str) or not told["name"]:
        raise ValueError(f"name: expected a text, got {told.get('name')!r:.40}")
    for kind in ("things", "colours", "other"):
        words = told.get(kind)
        if not isinstance(words, tuple) or not all(isinstance(word, str) and word for word in words):
            raise ValueError(f"{kind}: expected a list of words, got {words!r:.40}")
    steps, guidance = told.get("steps"), told.get("guidance_scale")
    if type(steps) is not int or not 1 <= steps <= MOST_STEPS:
        raise ValueError(f"steps: expected a whole number of 1 to {MOST_STEPS}, got {steps!r:.40}")
    if isinstance(guidance, bool) or not isinstance(guidance, int | float) or not 0 <= guidance <= MOST_GUIDANCE:
        raise ValueError(f"guidance_scale: expected a number of 0 to {MOST_GUIDANCE}, got {guidance!r:.40}")


def _account(folder: Path) -> Any:
    """What a model directory's account holds, read within bounds. Raises `OSError` if there is none."""
    if not stat.S_ISREG((folder / ABOUT).stat().st_mode):
        raise ValueError("not a file")
    with (folder / ABOUT).open("rb") as file:
        text = file.read(MOST_BYTES + 1)
    if len(text) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES} bytes")
    return json.loads(text)


def _files(folder: Path) -> Iterable[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
