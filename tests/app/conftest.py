"""One bundled model for all tests of the app, and servers on free ports, each with a history of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="starlette is not installed")
pytest.importorskip("uvicorn", reason="uvicorn is not installed")

from app_served import Served
from attnreg.app.offered import Offered


@pytest.fixture(scope="session")
def pocket() -> dict[str, Offered]:
    return {"pocket": Offered.load("pocket", "pocket", "cpu", "auto")}


@pytest.fixture(scope="session")
def serve(pocket: dict[str, Offered]) -> Iterator[Callable[[Path], Served]]:
    """Starts an app with a history in a folder."""
    begun: list[Served] = []

    def start(folder: Path) -> Served:
        begun.append(Served(pocket, folder))
        return begun[-1]

    yield start
    for one in begun:
        one.close()


@pytest.fixture(scope="module")
def served(serve: Callable[[Path], Served], tmp_path_factory: pytest.TempPathFactory) -> Served:
    return serve(tmp_path_factory.mktemp("app"))
