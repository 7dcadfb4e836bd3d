"""Runs notebooks: `python -m website.notebooks` (`make notebooks`) runs those whose outputs are kept, and keeps them.

Kept are what cells print and show; not what goes to the error stream, which tells of the machine, and no times.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parent.parent / "examples"
KEPT = ("three-minutes.ipynb",)
"""Notebooks that hold their outputs. The others need a GPU and weights from the hub."""
INSTALL, PARAMETERS = "install", "parameters"
"""Tags of cells: what is installed already here, and what a test gives other values."""


def executed(path: Path, values: Mapping[str, Any] | None = None, seconds: int = 600) -> Any:
    """A notebook with the outputs of a new kernel.

    Args:
        path: an .ipynb file; it is not written to.
        values: other values for names of its cell tagged "parameters": set right after that cell.
        seconds: how long one cell may take.

    Returns:
        The notebook, without outputs on the error stream and without counts and times.

    Raises:
        CellExecutionError: a cell raised.
        ValueError: there are values, and no cell for them.
    """
    notebook = nbformat.read(path, as_version=4)
    cells = notebook.cells
    sources = {index: cell.source for index, cell in enumerate(cells)}
    if values and not any(PARAMETERS in cell.metadata.get("tags", ()) for cell in cells):
        raise ValueError(f"expected a cell tagged {PARAMETERS!r} in {path.name}, got none; tag one")
    for cell in cells:
        tags = cell.metadata.get("tags", ())
        if INSTALL in tags:
            cell.source = "pass"
        elif PARAMETERS in tags:
            cell.source += "".join(f"\n{name} = {value!r}" for name, value in (values or {}).items())
    client = NotebookClient(notebook, timeout=seconds, kernel_name="python3", record_timing=False)
    client.execute(cwd=str(path.parent), env={**os.environ, "HF_HUB_OFFLINE": "1"})
    for index, cell in enumerate(cells):
        cell.source = sources[index]
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = None
    return notebook


def main() -> None:
    """Runs the notebooks of `KEPT` and writes them back."""
    for name in KEPT:
        notebook = executed(EXAMPLES / name)
        # The kernel tells its Python's release, which is the machine's.
        notebook.metadata.language_info = {"name": "python"}
        nbformat.write(notebook, EXAMPLES / name)
        print(f"ran {name}")


if __name__ == "__main__":
    main()
