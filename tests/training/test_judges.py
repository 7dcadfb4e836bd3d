"""How the judges are made: what they are shown, what they are told about it, and the whole way once in small."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attnreg.measure.pocket import PocketJudge
from attnreg.measure.pocket_weights import damage
from training import checkpoint, judge, second_judge
from training.judge_pictures import SIDE, Shown, batch, scene, spots
from training.words import COLOURS, NOUNS, Thing


def test_a_scene_shows_what_it_says() -> None:
    """Something lies about the centre of each thing, and the seed decides everything."""
    for seed in range(20):
        picture, shown = scene(random.Random(seed))
        again, _ = scene(random.Random(seed))
        assert np.array_equal(picture, again)
        assert picture.shape == (SIDE, SIDE, 3)
        for one in shown:
            x, y = int(one.x), int(one.y)
            window = picture[max(y - 40, 0) : y + 40, max(x - 40, 0) : x + 40]
            assert window.std(axis=(0, 1)).max() > 0.01, "there is something to see"
    assert [one.thing for one in scene(random.Random(0), [Thing("cat"), Thing("car", "red")])[1]] == [
        Thing("cat"),
        Thing("car", "red"),
    ]


@pytest.mark.parametrize("count", [0, 1, 3, 5])
def test_spots_are_apart_and_mostly_inside(count: int) -> None:
    for seed in range(30):
        placed = spots(count, random.Random(seed))
        assert len(placed) == count
        for index, (x, y, size) in enumerate(placed):
            assert 0 < x < SIDE
            assert 0 < y < SIDE
            for x2, y2, size2 in placed[:index]:
                assert max(abs(x - x2), abs(y - y2)) > 0.35 * (size + size2)


def test_worn_pictures_stay_pictures() -> None:
    pictures, shown = batch(4, random.Random(3), None)
    assert pictures.shape == (4, 3, SIDE, SIDE)
    assert len(shown) == 4
    assert pictures.min() >= -1
    assert pictures.max() <= 1
    assert torch.equal(pictures, batch(4, random.Random(3), None)[0])


def test_the_heat_is_one_at_the_centre_alone() -> None:
    heat, colour = judge.targets([[Shown(Thing("cat"), 20, 100), Shown(Thing("car", "blue"), 127.9, 3)], []])
    cat, car = NOUNS.index("cat"), NOUNS.index("car")
    assert (heat == 1).nonzero().tolist() == [[0, cat, 12, 2], [0, car, 0, 15]]
    assert heat[0, cat, 12, 3] == pytest.approx(np.exp(-0.5))
    assert heat[1].sum() == 0
    blue = list(COLOURS).index("blue")
    assert (colour >= 0).nonzero().tolist() == [[0, 0, 14], [0, 0, 15], [0, 1, 14], [0, 1, 15]]
    assert (colour[colour >= 0] == blue).all()


def test_the_loss_is_least_for_the_right_answer() -> None:
    heat, colour = judge.targets([[Shown(Thing("cat", "red"), 40, 40)]])
    right = torch.where(heat == 1, 9.0, -9.0)
    hues = torch.zeros(1, len(COLOURS), 16, 16)
    hues[0, list(COLOURS).index("red")] = 9
    good = judge.loss_of(right, hues, heat, colour)
    assert good < 0.01
    assert judge.loss_of(right.roll(1, dims=1), hues, heat, colour) > 5, "another noun"
    assert judge.loss_of(right.roll(3, dims=3), hues, heat, colour) > 5, "another place"
    assert judge.loss_of(right, hues.roll(1, dims=1), heat, colour) > good + 1, "another colour"


def test_the_second_judge_is_told_no_places() -> None:
    there = second_judge.presence([[Shown(Thing("cat"), 1, 1), Shown(Thing("cat"), 90, 90)], []])
    assert there.sum() == 1
    assert there[0, NOUNS.index("cat")] == 1
    model = second_judge.Namer(24).eval()
    assert model(torch.zeros(2, 3, SIDE, SIDE)).shape == (2, 24)


def test_the_whole_way_in_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of each judge, exported, opened and asked; the model's autoencoder wears half of the pictures."""
    weights = tmp_path / "judge.safetensors"
    common = [f"--work={tmp_path}", "--minutes=0.0001"]
    monkeypatch.setattr(sys, "argv", ["judge", *common, f"--out={weights}"])
    judge.main()
    second = tmp_path / "second-judge.safetensors"
    monkeypatch.setattr(sys, "argv", ["second_judge", *common, "--bfloat16", f"--out={second}"])
    second_judge.main()
    made = {"judge.pt", weights.name, "judge.sha256", "second-judge.pt", second.name, "second-judge.sha256"}
    assert {path.name for path in tmp_path.iterdir()} == made
    assert not damage(weights), "the checksum is that of the weights beside it"
    for name in ("judge", "second-judge"):
        state = checkpoint.load(tmp_path / f"{name}.pt")
        assert state
        assert state["step"] == 1
    learnt = checkpoint.load(tmp_path / "second-judge.pt")
    assert learnt
    for name, value in second_judge.opened(second).state_dict().items():
        assert torch.allclose(value.float(), learnt["model"][name].float(), atol=1e-3), name
    opened = PocketJudge(weights)
    assert (opened.nouns, opened.colours) == (NOUNS, tuple(COLOURS))
    assert opened.see([Image.new("RGB", (SIDE, SIDE))]) == [[]]
