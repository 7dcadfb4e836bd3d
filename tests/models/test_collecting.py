"""What opening a model costs before its first step, counted; in a process of its own, for libraries load but once."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator

import pytest

from attnreg.models.collecting import without_collecting

OPENED = """
import gc, sys
import attnreg
assert "torch" not in sys.modules
load, collections = attnreg.load_pipeline, []
gc.callbacks.append(lambda phase, _: collections.append(phase))
load("pocket", device="cpu")
assert gc.isenabled()
gc.callbacks.clear()
print(len(collections), *(one for one in sys.argv[1:] if one in sys.modules))
"""
NEEDLESS = (
    "pandas", "matplotlib", "torchvision", "textblob", "spacy", "starlette", "ray", "attnreg.app", "attnreg.report",
    "attnreg.evaluation", "attnreg.measure", "attnreg.attention.families", "attnreg.regulation.newton",
)  # fmt: skip


def test_a_model_opens_with_few_collections_and_without_what_it_does_not_need() -> None:
    script = [sys.executable, "-W", "ignore", "-c", OPENED, *NEEDLESS]
    done = subprocess.run(script, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    collections, *loaded = done.stdout.split()
    assert loaded == []
    assert int(collections) < 20, "a few when it is over; two thousand where every import may have one"


@pytest.fixture
def collects_again() -> Iterator[None]:
    yield
    gc.enable()


@pytest.mark.usefixtures("collects_again")
@pytest.mark.parametrize("collects", [True, False])
def test_afterwards_it_is_as_before_also_after_an_error(collects: bool) -> None:
    if not collects:
        gc.disable()
    with without_collecting(), without_collecting():
        assert not gc.isenabled()
    assert gc.isenabled() == collects
    with pytest.raises(KeyError), without_collecting():
        raise KeyError
    assert gc.isenabled() == collects
