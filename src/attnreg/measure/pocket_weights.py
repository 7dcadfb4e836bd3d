"""The weights of the bundled judge: read in one piece, and told from damaged ones by the checksum beside them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from attnreg.types import AttnregError

WEIGHTS = Path(__file__).parent / "pocket-judge.safetensors"
SUM = ".sha256"
"""Ending of the file with the SHA-256 of the weights, as `sha256sum` writes it."""
REMEDY = "install attnreg anew or make them: make train-judge"


def damage(weights: Path | None = None) -> str:
    """What is wrong with the weights' file, in a few words; empty if it is the one that was trained.

    Args:
        weights: another file than the bundled one.
    """
    path = weights or WEIGHTS
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        listed = path.with_suffix(SUM).read_text("ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        return f"cannot be read ({error})"
    return "" if listed[:1] == [found] else f"damaged ({path.name})"


def read(path: Path) -> tuple[dict[str, tuple[str, ...]], dict[str, Any]]:
    """The words that the judge knows ("nouns", "colours"), and its weights by name.

    Raises:
        AttnregError: there is no such file, or it is damaged.
    """
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        raise AttnregError(f"expected the judge's weights at {path}, got no such file; {REMEDY}")
    try:
        with safe_open(path, "pt") as file:
            told = {kind: tuple(json.loads(file.metadata()[kind])) for kind in ("nouns", "colours")}
            return told, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise AttnregError(f"expected the judge's weights at {path}, got them damaged ({error}); {REMEDY}") from error
