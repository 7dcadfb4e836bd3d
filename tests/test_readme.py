"""The Python of the README and of the pages runs as it stands, with the bundled model."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from attnreg.report.tables import into_readme

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(("page", "least"), [("README.md", 1), ("docs/usage.md", 2), ("docs/extending.md", 1)])
def test_python_blocks_run(page: str, least: int) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= least
    names: dict[str, Any] = {}
    torch.manual_seed(0)
    for block in blocks:
        # Fewer steps do as well here: what is tested is that the text runs.
        exec(block.replace("num_inference_steps=12", "num_inference_steps=2"), names)
    assert names["picture"].size == (128, 128)
    assert [target.text for target in names["trace"].targets[0]] == ["frog", "blue crown"]


DOCUMENTS = (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "src/attnreg/models/pocket/README.md")


def headings(page: Path) -> set[str]:
    """What a link may name of a page: its headings in small letters, words joined by dashes."""
    found = re.findall(r"(?m)^#+ (.+)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_pictures_and_links_exist(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", document.read_text(encoding="utf-8")):
        place, _, heading = target.partition("#")
        page = document.parent / place if place else document
        assert page.exists(), f"{document.name} links to {target}"
        assert not heading or heading in headings(page), f"{document.name} links to {target}"


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/usage.md", "docs/results.md"])
def test_make_targets_exist(page: str) -> None:
    """What a newcomer is told to type."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?m)(?:`|^)make ([a-z-]+)", (ROOT / page).read_text(encoding="utf-8")):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"


def test_the_table_of_the_readme_is_the_measured_one() -> None:
    """Every figure of its rows, from the CSV of the run."""
    with (ROOT / "docs/results/unseen-pairs.csv").open(encoding="utf-8", newline="") as file:
        measured = {row["method"]: row for row in csv.DictReader(file) if row["score"] == "pocket/all things"}
    rows = re.findall(
        r"(?m)^\| (.+?) \| (.+?) \| (.*?) ?\| (.*?) ?\| (.*?) ?\|$", (ROOT / "README.md").read_text("utf-8")
    )
    told = {(re.findall(r"`(.+?)`", name) or ["none"])[0]: cells for name, *cells in rows[1:] if "---" not in name}
    assert set(told) == set(measured)
    for name, (shown, spoilt, passes, distance) in told.items():
        row = measured[name]
        assert shown.strip("*") == f"{float(row['mean']):.1%}".replace("%", " %")
        assert row["pictures"] == "440"
        assert passes == f"{float(row['passes']):.0f}"
        if name != "none":
            assert (spoilt, distance) == (row["lost"], f"{float(row['distance']):.3f}")


def test_the_table_of_all_methods_has_its_marks() -> None:
    """Between them `make results` writes it anew."""
    text = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    assert into_readme(text, "| a |") != text
