"""Gathers what the site is made of into one folder: docs/, some files from elsewhere in the tree, the notebooks.

The files are written to be read where they lie, in a checkout or on a forge. Their links are changed here to where each
page is on the site, and a blank line is put where Python-Markdown wants one and other readers do not.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

from website.notebook_page import page_of

FROM_ELSEWHERE = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
    "src/attnreg/models/pocket/README.md": "pocket-card.md",
    "src/attnreg/models/pocket-joint/README.md": "pocket-joint-card.md",
    "README.md": "index.md",
    "LICENSE": "licence.txt",
    "CITATION.cff": "citation.txt",
}
"""Files of the tree -> pages. Those that are not in docs/, and that pages link to."""
LINK = re.compile(r"(?<!\\)\]\((?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?\)")
FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
BLOCK = re.compile(r"[-*] |\d+\. |\|")


def gather(root: Path, folder: Path) -> list[str]:
    """Fills `folder` with the pages and what they show.

    Args:
        root: the top of the tree.
        folder: is emptied first.

    Returns:
        What is wrong: links that lead to no page, one line each.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(root / "docs", folder)
    sources = {path: folder / path.relative_to(root / "docs") for path in (root / "docs").rglob("*") if path.is_file()}
    sources |= {root / source: folder / page for source, page in FROM_ELSEWHERE.items()}
    notebooks = sorted((root / "examples").glob("*.ipynb"))
    sources |= {notebook: folder / "examples" / f"{notebook.stem}.md" for notebook in notebooks}
    wrong: list[str] = []
    for source, page in sources.items():
        page.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".ipynb":
            text = page_of(source, page.parent / f"{page.stem}-pictures")
        elif source.suffix in (".md", ""):
            text = source.read_text(encoding="utf-8")
        else:
            shutil.copyfile(source, page)
            continue
        text = with_blank_lines(FRONT_MATTER.sub("", text))
        page.write_text(relinked(text, source, page, sources, wrong), encoding="utf-8")
    return wrong


def relinked(text: str, source: Path, page: Path, sources: dict[Path, Path], wrong: list[str]) -> str:
    """The text with its relative links changed from where they lead in the tree to where that is on the site."""

    def changed(link: re.Match[str]) -> str:
        place = Path(os.path.normpath(source.parent / link[1]))
        if place not in sources:
            if not place.is_relative_to(page.parent) and not (page.parent / link[1]).is_file():
                wrong.append(
                    f"{source.name} links to {link[1]}, which is no page; docs/, or FROM_ELSEWHERE, must hold it"
                )
            return link[0]
        return f"]({os.path.relpath(sources[place], page.parent)}{link[2] or ''})"

    return LINK.sub(changed, text)


def with_blank_lines(text: str) -> str:
    """The text with blank lines around each fence, and before each list and table that follows a paragraph directly.

    Python-Markdown reads them as part of the paragraph otherwise, and knows no escaped "<"; GitHub does both.
    """
    lines: list[str] = []
    fence = ""
    for line in text.split("\n"):
        before = lines[-1] if lines else ""
        marks = re.match(r"`{3,}", line)
        if fence:
            fence = "" if line.strip() == fence else fence
            lines.append(line)
            continue
        after_fence = re.fullmatch(r"`{3,}", before) and line.strip()
        in_paragraph = before.strip() and not BLOCK.match(before) and not before.startswith(" ")
        if after_fence or (marks and before.strip()) or (BLOCK.match(line) and in_paragraph):
            lines.append("")
        fence = marks[0] if marks else ""
        lines.append(line.replace("\\<", "&lt;"))
    return "\n".join(lines)


def navigation(entries: list[Any], folder: Path) -> list[Any]:
    """The navigation without entries whose page is not there, and without sections that are empty then.

    Args:
        entries: as mkdocs.yml has them: paths, or titles with a path or a list.
        folder: where the pages are.

    Returns:
        The same, with those that are there.
    """
    kept: list[Any] = []
    for entry in entries:
        if isinstance(entry, str):
            kept += [entry] if (folder / entry).is_file() else []
            continue
        [(title, inside)] = entry.items()
        if isinstance(inside, list):
            if found := navigation(inside, folder):
                kept.append({title: found})
        elif (folder / inside).is_file():
            kept.append(entry)
    return kept


def named(entries: list[Any]) -> set[str]:
    """Every path that a navigation names."""
    found: set[str] = set()
    for entry in entries:
        inside = entry if isinstance(entry, str) else next(iter(entry.values()))
        found |= named(inside) if isinstance(inside, list) else {inside}
    return found
