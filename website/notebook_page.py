"""A notebook as a page: its text as it is, its code as fences, its outputs as text or pictures beside the page."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

FENCE = "````"
"""Longer than any fence that a cell may hold."""


def page_of(notebook: Path, pictures: Path) -> str:
    """Markdown of a notebook.

    Args:
        notebook: an .ipynb file of format 4.
        pictures: the folder for its pictures, beside the page; made if there are any.

    Returns:
        The page.
    """
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    parts = []
    for number, cell in enumerate(cells):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"{FENCE}python\n{source}\n{FENCE}")
        for place, output in enumerate(cell["outputs"]):
            parts.append(_shown(output, pictures, f"{notebook.stem}-{number}-{place}"))
    return "\n\n".join(part for part in parts if part) + "\n"


def _shown(output: dict[str, Any], pictures: Path, name: str) -> str:
    data = output.get("data", {})
    for kind, ending in (("image/png", "png"), ("image/webp", "webp"), ("image/jpeg", "jpg")):
        if kind in data:
            pictures.mkdir(parents=True, exist_ok=True)
            (pictures / f"{name}.{ending}").write_bytes(base64.b64decode("".join(data[kind])))
            return f"![what the cell above draws]({pictures.name}/{name}.{ending})"
    if "text/markdown" in data:
        return "".join(data["text/markdown"])
    text = "".join(output.get("text", data.get("text/plain", "")))
    text = re.sub(r"\x1b\[[0-9;]*m", "", text).rstrip()
    return f"{FENCE}text\n{text}\n{FENCE}" if text else ""
