"""The table of methods and families in the docs: made from the code, and true of every pipeline it names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from test_promises import edit_of

import tiny_families
from attnreg import METHODS, AttnregError, regulate
from attnreg.attention.families import FAMILIES
from attnreg.attention.families.family import Family
from attnreg.catalogue import works
from benchmarks import families
from tiny_families import SMALL

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family.name)
def built(request: pytest.FixtureRequest) -> tuple[Family, Any]:
    return request.param, tiny_families.EVERY[request.param.name]()


@pytest.mark.parametrize("method", [name for name in METHODS if name != "none"])
def test_what_the_table_says_holds_of_a_pipeline(built: tuple[Family, Any], method: str) -> None:
    family, pipe = built
    edit = edit_of(method, starts=8, enough=1.1)  # as quick as it can be told to be; starts as they are by default
    if not works(method, family):
        with pytest.raises(AttnregError, match=rf"works on {re.escape(family.name)}, got"):
            regulate(pipe, config=edit).__enter__()
        return
    with regulate(pipe, config=edit) as trace:
        if family.name in SMALL:  # on the UNets `test_promises` draws with every method
            options = {"num_inference_steps": 3, "output_type": "latent"} | SMALL[family.name]
            pipe(prompt="a cat and a blue balloon", **options)
            assert trace.regulated_steps > 0 or trace.starts


def test_all_but_the_unets_of_stable_diffusion_are_drawn() -> None:
    assert {family.name for family in FAMILIES} - SMALL.keys() == {"Stable Diffusion"}


def test_the_page_has_the_table() -> None:
    assert families.table() in PAGE.read_text(encoding="utf-8"), "run python -m benchmarks.families, paste it there"


def test_the_page_names_every_family() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert not [family.name for family in FAMILIES if f"## {family.name}" not in text]
