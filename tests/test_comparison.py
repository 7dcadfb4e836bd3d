"""One prompt under several methods: the sheet, what is told under each picture, and what lies beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import attnreg.studio
import tiny
from attnreg.comparison import ComparedPicture, compare
from attnreg.models.load import load_pipeline
from attnreg.recipe import read_recipe
from attnreg.regulation.config import AttentionRegulation
from attnreg.studio import draw_again
from attnreg.types import AttnregError

PROMPT = "a cat and a dog"
SMALL: dict[str, Any] = {"steps": 2, "height": 64, "width": 64, "device": "cpu"}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    folder = tmp_path_factory.mktemp("comparison") / "tiny"
    tiny.stable_diffusion().save_pretrained(folder)
    return str(folder), load_pipeline(str(folder), device="cpu")


@pytest.fixture
def model(loaded: tuple[str, Any], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(attnreg.studio, "load_pipeline", lambda *_, **__: loaded[1])
    loaded[1].set_progress_bar_config(disable=True)
    return loaded[0]


def told(out: Path) -> dict[str, Any]:
    (path,) = out.glob("*.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_seeds_by_methods_with_a_sheet_and_their_account(model: str, tmp_path: Path) -> None:
    methods = ["attention-scaling(shift=2)", "attention-scaling(shift=2.0)", "attention-regulation(strength=0)"]
    said: list[str] = []
    paths = list(compare(PROMPT, methods, [0, 3], tmp_path, say=said.append, model=model, **SMALL))
    account = told(tmp_path)
    assert account["prompt"] == PROMPT
    assert account["targets"] == ["cat", "dog"]
    cells = account["pictures"]
    named = ["none", "attention-scaling(shift=2.0)", "attention-regulation(strength=0.0)"]
    assert [(cell["seed"], cell["method"]) for cell in cells] == [(s, m) for s in (0, 3) for m in named]
    assert len(paths) == 2 * 3 + 2
    assert len(said) == 6
    for cell in cells:
        assert cell["seconds"] > 0
        assert not cell["failed"]
        assert cell["verdict"] == {}, "the bundled judge knows nothing of this model"
        picture = tmp_path / cell["file"]
        assert read_recipe(picture).seed == cell["seed"]
        moved = 0 if cell["method"] in (named[0], named[2]) else None
        plain = next(c for c in cells if c["seed"] == cell["seed"] and c["method"] == "none")
        a, b = (np.asarray(Image.open(tmp_path / c["file"]).convert("RGB"), float) for c in (cell, plain))
        assert cell["distance"] == pytest.approx(np.sqrt(((a - b) ** 2).mean()) / 255)
        if moved == 0:
            assert cell["distance"] == 0, "strength 0 is the unmodified picture"
        else:
            assert cell["distance"] > 0
    sheet = next(path for path in paths if path.name.endswith("-sheet.png"))
    with Image.open(sheet) as paper:
        assert paper.width > 3 * 200


def test_nothing_is_written_over(model: str, tmp_path: Path) -> None:
    """Settings whose names are the same file's worth, and one seed less beside what is there."""

    def go(methods: list[str], seeds: list[int]) -> None:
        list(compare(PROMPT, methods, seeds, tmp_path, say=lambda _: None, model=model, **SMALL))

    both = ["attention-scaling(shift=2)", "attention-scaling(shift=-2)"]
    go(both, [0, 1])
    cells = told(tmp_path)["pictures"]
    assert len({cell["file"] for cell in cells}) == len(list(tmp_path.glob("*seed*.png"))) == 6
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    go(both, [0])
    go(both[:1], [0, 1])
    assert all(path.read_bytes() == content for path, content in before.items())
    assert len(list(tmp_path.glob("*.json"))) == 3
    go(both, [0, 1])
    assert len(list(tmp_path.glob("*.json"))) == 3, "the same comparison takes up its own files"
    for sheet in tmp_path.glob("*sheet.png"):
        sheet.unlink()
    go(both, [0, 1])
    assert len(list(tmp_path.glob("*.json"))) == 4, "figures without their sheet are somebody's"


def test_a_picture_of_it_can_be_drawn_again(model: str, tmp_path: Path) -> None:
    list(compare(PROMPT, ["attention-scaling(shift=2)"], [1], tmp_path, say=lambda _: None, model=model, **SMALL))
    (picture,) = tmp_path.glob("*scaling*.png")
    _, same, _ = draw_again(picture, "cpu", tmp_path / "again")
    assert same


def test_what_acted_by_default_is_told_and_kept(model: str, tmp_path: Path) -> None:
    list(compare(PROMPT, ["auto", "attention-scaling"], [0], tmp_path, say=lambda _: None, model=model, **SMALL))
    cells = told(tmp_path)["pictures"]
    assert [(cell["method"], cell["acted"]) for cell in cells] == [
        ("none", ""),
        ("auto", "best-start"),
        ("attention-scaling", ""),
    ]
    assert [read_recipe(tmp_path / cell["file"]).acted for cell in cells] == ["", "best-start", ""]


def test_a_method_that_cannot_draw_is_told_and_the_others_go_on(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AttnregError("expected something else; do that")

    monkeypatch.setattr(AttentionRegulation, "bias", refuse)
    list(compare(PROMPT, ["attention-regulation", "attention-scaling"], [0], tmp_path, say=print, model=model, **SMALL))
    unmodified, failed, other = told(tmp_path)["pictures"]
    assert (failed["file"], failed["failed"]) == ("", "expected something else; do that")
    assert not unmodified["failed"]
    assert other["distance"] > 0


@pytest.mark.parametrize(
    ("methods", "said"),
    [(["none"], "methods to compare"), (["no-such"], "no-such"), (["attention-scaling(strength=-1.0)"], "strength")],
)
def test_what_cannot_be_compared_is_refused_before_a_step(
    methods: list[str], said: str, model: str, tmp_path: Path
) -> None:
    with pytest.raises(AttnregError, match=said):
        list(compare(PROMPT, methods, [0], tmp_path, model=model, **SMALL))
    assert list(tmp_path.iterdir()) == []


def test_captions_say_what_matters() -> None:
    cell = ComparedPicture("a", 0, "x.png", 1.26, 3 * 2**20, 0.0456, {"things": 0.5, "all things": 0.0, "colours": 1.0})
    assert cell.caption == "50% of the things, 100% of the colours; moved 0.046; 1.3 s, 3 MiB"
    assert ComparedPicture("a", 0, "x.png", 1.0, None, 0.0, {"things": 1.0, "all things": 1.0}).caption == (
        "all there; moved 0.000; 1.0 s"
    )
    assert ComparedPicture("a", 0, "", 0.0, None, 0.0, failed="no").caption == "not drawn: no"
