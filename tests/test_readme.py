"""The README's Python runs as it stands, with the bundled model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parent.parent


def test_python_blocks_run() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 2
    names: dict[str, Any] = {}
    torch.manual_seed(0)
    for block in blocks:
        # Fewer steps do as well here: what is tested is that the text runs.
        exec(block.replace("num_inference_steps=12", "num_inference_steps=2"), names)
    assert names["picture"].size == (128, 128)
    assert [target.text for target in names["trace"].targets[0]] == ["frog", "blue crown"]


def test_pictures_and_links_exist() -> None:
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "src/attnreg/models/pocket/README.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_make_targets_exist() -> None:
    """What the README tells a newcomer to type."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?m)(?:`|^)make ([a-z-]+)", (ROOT / "README.md").read_text(encoding="utf-8")):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"
