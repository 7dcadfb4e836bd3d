"""The folder of what was drawn: found again from the PNGs alone, and no name leads out of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from attnreg.app.happened import Happened
from attnreg.app.history import HAPPENED, History, of_one
from attnreg.recipe import Recipe
from attnreg.trace import Sample, Trace
from attnreg.types import AttnregError, StartRecord

RECIPE = Recipe(prompt="a bird and a frog", seed=3, model="pocket", method="auto", acted="best-start")


def sample(seed: int = 3) -> Sample:
    trace = Trace()
    trace.regulated_steps = 1
    trace.starts.append(StartRecord(0, (0.5, 2.5), 1, False, "bird"))
    return Sample("a bird and a frog", seed, Image.new("RGB", (16, 16), "green"), trace, 1.5)


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "history")


def test_a_drawing_is_found_again_from_its_pictures(history: History) -> None:
    name = history.begin("a bird and a frog")
    plain = Recipe(**(vars(RECIPE) | {"method": "none", "acted": ""}))
    history.add(name, sample(), RECIPE)
    history.add(name, sample(), plain)
    history.tell(name, {3: Happened.of(sample())})
    again = History(history.root)
    assert again.drawings(9) == [name]
    assert [one.recipe for one in again.pictures(name)] == [plain, RECIPE]
    assert of_one(again.pictures(name)) == RECIPE
    told = again.happened(name)[3]
    assert (told.noises, told.chosen, told.seconds) == (("0.50", "2.50"), 1, 1.5)
    assert "begun from another noise" in told.account
    assert "bird" in told.before


@pytest.mark.parametrize("content", ["", "[]", "{", '{"x": {}}', '{"3": 7}', '{"3": {"account": 1}}', "\0", "null"])
def test_what_happened_may_be_gone(history: History, content: str) -> None:
    name = history.begin("x")
    history.add(name, sample(), RECIPE)
    (history.root / name / HAPPENED).write_text(content)
    assert history.happened(name) == {}
    assert history.drawings(9) == [name]


def test_what_is_no_number_is_no_score() -> None:
    told = Happened.of(sample()).told()
    old = {name: value for name, value in told.items() if name != "noises"}
    for wrong in ({"noises": [7]}, {"noises": 7}, {"chosen": True}):
        with pytest.raises(AttnregError, match="expected what happened"):
            Happened.read(told | wrong)
    for scores in ([True], ["1"], 7):
        with pytest.raises(AttnregError, match="expected what happened"):
            Happened.read(old | {"scores": scores})
    assert Happened.read(old | {"scores": [0, 0.0, 2.5]}).noises == ("0.00", "given up early", "2.50")
    whole = json.loads(json.dumps(Happened.of(sample()).told()))
    assert Happened.read(whole) == Happened.of(sample())


def test_the_latest_comes_first_and_pages_go_on(history: History) -> None:
    names = [f"20260101-00000{i}-x-{'0' * 12}" for i in range(4)]
    for name in names:
        history.add(name, sample(), RECIPE)
    assert history.drawings(2) == names[:1:-1]
    assert history.drawings(9, before=names[2]) == names[1::-1]
    assert history.drawings(9, hidden=[names[3]]) == names[2::-1]


def test_what_is_none_is_left_out(history: History) -> None:
    name = history.begin("x")
    (history.root / "notes").mkdir()
    (history.root / name).mkdir()
    (history.root / name / "seed0-none.png").write_bytes(b"no PNG")
    (history.root / "20260101-000000-a-file-000000000000").write_text("")
    Image.new("RGB", (8, 8)).save(history.root / name / "seed1-none.png")
    assert history.drawings(9) == []
    assert history.pictures(name) == []


def test_a_picture_that_changes_is_read_anew(history: History) -> None:
    name = history.begin("x")
    history.add(name, sample(), RECIPE)
    assert history.drawings(9) == [name]
    (path,) = (history.root / name).iterdir()
    path.write_bytes(b"broken")
    assert history.drawings(9) == []


@pytest.mark.parametrize(
    ("drawing", "name"),
    [
        ("..", "seed0-none.png"),
        (".", "seed0-none.png"),
        ("", "secret.png"),
        ("/etc", "passwd"),
        ("20260101-000000-x-000000000000", "../secret.png"),
        ("20260101-000000-x-000000000000", "..%2fsecret.png"),
        ("20260101-000000-x-000000000000", "seed0-none.png\n"),
        ("20260101-000000-x-000000000000", "seed0-none.png\0"),
        ("20260101-000000-x-000000000000", "seed2-link.png"),
        ("20260101-000000-x-000000000000", HAPPENED),
        ("20260101-000001-link-000000000000", "seed0-none.png"),
    ],
)
def test_no_name_leads_out(history: History, drawing: str, name: str) -> None:
    outside = history.root.parent / "elsewhere"
    outside.mkdir()
    (outside / "seed0-none.png").write_bytes(b"secret")
    folder = history.root / "20260101-000000-x-000000000000"
    folder.mkdir()
    (folder / "seed2-link.png").symlink_to(outside / "seed0-none.png")
    (history.root / "20260101-000001-link-000000000000").symlink_to(outside)
    (folder / HAPPENED).write_text("{}")
    (history.root.parent / "secret.png").write_bytes(b"secret")
    assert history.file(drawing, name) is None
    assert history.pictures(drawing) == []


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AttnregError, match="a folder that can be written"):
        History(tmp_path / "file")
