"""The notebooks run, show what they say, and hold nothing of the machine that ran them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from nbclient.exceptions import CellExecutionError

from website.notebooks import EXAMPLES, KEPT, executed

NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
SMALL = 200_000
"""Bytes that a committed notebook may have."""


def printed(notebook: Any) -> str:
    """What the cells printed and showed as text, one after the other."""
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "\n".join(one.get("text") or one["data"].get("text/markdown", "") for one in shown)


def kinds(notebook: Any) -> list[list[str]]:
    """Of each cell of code, what kinds of outputs it has, each once: what is printed comes in one piece or several."""
    return [
        sorted({kind for output in cell["outputs"] for kind in output.get("data", {output["output_type"]: 0})})
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    ]


def test_three_minutes_shows_what_it_says() -> None:
    """Seed 3 lacks a thing, the bird's map is the faint one, and the default mends just that seed."""
    notebook = executed(EXAMPLES / "three-minutes.ipynb")
    text = printed(notebook)
    assert re.findall(r"seed (\d): (both things|a thing is missing)", text) == [
        ("0", "both things"), ("1", "both things"), ("2", "both things"), ("3", "a thing is missing"),
    ]  # fmt: skip
    bird = [float(one) for one in re.findall(r"0\.\d+", text[text.index("bird: highest") :].split("\n")[0])]
    assert bird[3] < min(bird[:3]) / 2
    assert re.findall(r"seed (\d): nothing to do", text) == ["0", "1", "2"]
    assert "seed 3: the bird was in danger" in text
    assert "both things: [True, True, True, True]" in text
    shown = dict(re.findall(r"\| `([a-z-]+)` \| (\d+) \| 16 \|", text))
    assert int(shown["auto"]) > int(shown["none"])
    committed = json.loads((EXAMPLES / "three-minutes.ipynb").read_text(encoding="utf-8"))
    assert kinds(committed) == kinds(notebook), "run `make notebooks` again"


def test_real_models_runs_on_stand_ins(tiny_models: dict[str, Path], owlv2_folder: Path, tmp_path: Path) -> None:
    """Every cell, with random weights in the place of the real ones; both models have their table."""
    values = {
        "PROMPTS": 4,
        "MODELS": {str(folder): {"steps": 2, "height": 64, "width": 64} for folder in tiny_models.values()},
        "WEIGHTS": {"owlv2": str(owlv2_folder)},
        "OUT": str(tmp_path / "out"),
    }
    text = printed(executed(EXAMPLES / "real-models.ipynb", values))
    assert re.findall(r"([a-z-]+): (\d+) pictures, (\d+) failures", text) == [
        ("stable-diffusion", "8", "0"), ("sana", "8", "0"),
    ]  # fmt: skip
    assert len(re.findall(r"(?m)^\| auto \|", text)) == 2


def test_a_cell_that_raises_is_an_error(tmp_path: Path) -> None:
    """And values need a cell that they belong to."""
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "source": "1 / 0", "outputs": [], "execution_count": None}
    path = tmp_path / "bad.ipynb"
    path.write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    with pytest.raises(ValueError, match="expected a cell tagged 'parameters'"):
        executed(path, {"a": 1})
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        executed(path)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_committed_notebooks_are_small_and_of_no_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text) < SMALL
    assert not re.search(r"/(?:home|work|tmp|root|usr)/|site-packages|Traceback|stderr", text)
    notebook = json.loads(text)
    held = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    assert bool(held) == (path.name in KEPT)
    assert notebook["metadata"]["language_info"] == {"name": "python"}
