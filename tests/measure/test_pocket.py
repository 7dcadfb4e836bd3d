"""The bundled judge: what it calls seen, how that becomes scores, and that it knows renderings it never saw."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from attnreg.measure.asked import Prompt, Relation, Thing
from attnreg.measure.judge import Judge
from attnreg.measure.pocket import APART, SURE, PocketDistance, PocketJudge, Recognised, pocket_judge, scores
from attnreg.measure.pocket_network import STRIDE, Spotter
from attnreg.types import AttnregError
from training import words
from training.judge_pictures import scene
from training.render import compose, draw

COLOURS = tuple(words.COLOURS)


def seen(noun: str, colour: str = "red", x: float = 60, y: float = 60, confidence: float = 0.9) -> Recognised:
    return Recognised(noun, confidence, x, y, colour, {name: 0.9 if name == colour else 0.01 for name in COLOURS})


# --- scores -------------------------------------------------------------------------------------------------------


def test_all_there() -> None:
    prompt = Prompt("a cat and a red car", (Thing("cat"), Thing("car", "red")))
    assert scores(prompt, [seen("car"), seen("cat")]) == {"things": 1, "all things": 1, "colours": 1, "all": 1}


def test_one_is_missing() -> None:
    prompt = Prompt("a cat and a red car", (Thing("cat"), Thing("car", "red")))
    assert scores(prompt, [seen("cat")]) == {"things": 0.5, "all things": 0, "colours": 0, "all": 0}
    assert scores(prompt, []) == {"things": 0, "all things": 0, "colours": 0, "all": 0}


def test_a_colour_is_wrong() -> None:
    prompt = Prompt("a red bow and a blue car", (Thing("bow", "red"), Thing("car", "blue")))
    assert scores(prompt, [seen("car", "red"), seen("bow", "red")]) == {
        "things": 1, "all things": 1, "colours": 0.5, "all": 0,
    }  # fmt: skip


def test_two_of_a_noun_take_their_own_colours() -> None:
    """Whatever the order in the prompt: the plain car takes what the red one leaves."""
    for things in ((Thing("car"), Thing("car", "red")), (Thing("car", "red"), Thing("car"))):
        found = scores(Prompt("", things), [seen("car", "red", 30), seen("car", "blue", 90)])
        assert found == {"things": 1, "all things": 1, "colours": 1, "all": 1, "counts": 1}
    both = Prompt("", (Thing("car", "red"), Thing("car", "blue")))
    assert scores(both, [seen("car", "blue", 30), seen("car", "red", 90)])["colours"] == 1


@pytest.mark.parametrize(("there", "share", "exact"), [(0, 0, 0), (1, 0.5, 0), (2, 1, 1), (3, 1, 0)])
def test_counts(there: int, share: float, exact: float) -> None:
    found = scores(Prompt("two cats", (Thing("cat", count=2),)), [seen("cat", x=30 * i) for i in range(there)])
    assert (found["things"], found["counts"]) == (share, exact)


@pytest.mark.parametrize(("where", "holds"), [("left of", 1), ("right of", 0), ("above", 0), ("below", 1)])
def test_relations(where: str, holds: float) -> None:
    prompt = Prompt("", (Thing("cat"), Thing("dog")), (Relation(0, where, 1),))
    assert scores(prompt, [seen("dog", x=90, y=20), seen("cat", x=30, y=70)])["relations"] == holds
    assert scores(prompt, [seen("cat")])["relations"] == 0


@given(
    asked=st.lists(
        st.tuples(st.sampled_from(["cat", "car", "bow"]), st.none() | st.sampled_from(["red", "blue"])),
        min_size=1,
        max_size=4,
    ),
    seed=st.integers(0, 99),
)
def test_what_was_asked_for_is_enough_in_any_order(asked: list[tuple[str, str | None]], seed: int) -> None:
    """A picture that shows exactly the things scores full marks; without one of them it does not."""
    things = [Thing(noun, colour) for noun, colour in asked]
    there = [seen(thing.noun, thing.colour or "pink", x=float(i)) for i, thing in enumerate(things)]
    random.Random(seed).shuffle(there)
    full = scores(Prompt("", tuple(things)), there)
    assert set(full.values()) == {1}
    less = scores(Prompt("", tuple(things)), there[1:])
    assert less["all things"] == less["all"] == 0
    assert less["things"] == pytest.approx(1 - 1 / len(things))


# --- seeing -------------------------------------------------------------------------------------------------------


def test_a_peak_is_seen_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two centres near each other are one thing, the stronger; one below the threshold is nothing."""
    judge = pocket_judge()
    heat = torch.zeros(1, len(judge.nouns), 16, 16)
    colour = torch.full((1, len(judge.colours), 16, 16), 1 / len(judge.colours))
    heat[0, 2, 4, 3], heat[0, 7, 4, 3 + APART // 2], heat[0, 5, 12, 12] = 0.9, 0.8, SURE - 0.01
    heat[0, 7, 4, 10] = 0.7
    colour[0, 4, 3:6, 2:5] = 1
    monkeypatch.setattr(judge, "maps", lambda pictures: (heat, colour))
    (found,) = judge.see([Image.new("RGB", (128, 128))])
    assert [one.noun for one in found] == [judge.nouns[2], judge.nouns[7]]
    assert (found[0].x, found[0].y) == (3.5 * STRIDE, 4.5 * STRIDE)
    assert found[0].colour == judge.colours[4]
    assert found[1].x == 10.5 * STRIDE


def test_it_is_a_judge_and_knows_the_models_words() -> None:
    judge = pocket_judge()
    assert isinstance(judge, Judge)
    assert judge.nouns == words.NOUNS
    assert judge.colours == COLOURS


def test_renderings_it_never_saw_are_named_rightly() -> None:
    """Exact set and colours, pictures as the model's training shows them: of one, two, and (freely placed) three."""
    judge = pocket_judge()
    pictures, asked = [], []
    for count in (1, 2, 3):
        for index in range(40):
            rng = random.Random(f"held out {count} {index}")
            things = [
                words.Thing(noun, rng.choice(COLOURS) if noun in words.OBJECTS else None)
                for noun in rng.sample(words.NOUNS, count)
            ]
            drawn = draw(compose(things, rng)) if count < 3 else (scene(rng, things)[0] * 255).clip(0, 255)
            pictures.append(Image.fromarray(np.asarray(drawn).astype(np.uint8)))
            asked.append(Prompt("", tuple(Thing(thing.noun, thing.colour) for thing in things)))
    found = judge(pictures, asked)
    assert np.mean([one["all things"] for one in found]) >= 0.95
    assert np.mean([one["colours"] for one in found if "colours" in one]) >= 0.95
    alone = judge.see(pictures[:80])
    assert np.mean([len(one) == len(prompt.things) for one, prompt in zip(alone, asked, strict=False)]) >= 0.95


def test_batches_and_sizes_make_no_difference() -> None:
    judge = PocketJudge(batch=2)
    pictures = [Image.fromarray((scene(random.Random(i))[0] * 255).clip(0, 255).astype(np.uint8)) for i in range(3)]
    together = judge.confidences(pictures)
    alone = np.concatenate([judge.confidences([picture]) for picture in pictures])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    large = judge.see([pictures[0].resize((256, 256), Image.Resampling.NEAREST)])[0]
    assert [one.noun for one in large] == [one.noun for one in judge.see(pictures[:1])[0]]


def test_features_are_one_row_a_picture() -> None:
    judge = pocket_judge()
    rows = judge.features([Image.new("RGB", (128, 128), colour) for colour in ("red", "blue")])
    assert rows.shape[0] == 2
    assert np.isfinite(rows).all()
    assert not np.allclose(rows[0], rows[1])


def test_the_network_takes_any_size_of_sixteens() -> None:
    heat, colour = Spotter(3, 2).eval()(torch.zeros(1, 3, 64, 96))
    assert heat.shape == (1, 3, 8, 12)
    assert colour.shape == (1, 2, 8, 12)


def test_the_distance_grows_with_the_change_and_is_none_to_itself() -> None:
    judge = PocketDistance()
    plain, moved, other = (
        Image.fromarray(draw(compose([words.Thing("cat" if i < 2 else "car")], random.Random(i)))) for i in range(3)
    )
    same, near, far = judge([plain] * 3, [Prompt("a cat")] * 3, [plain, moved, other])
    assert same["distance"] == pytest.approx(0, abs=1e-6)
    assert near["distance"] > 0
    assert near["distance"] <= 4, "two vectors of length 1"
    assert far["distance"] > 0.01
    with pytest.raises(AttnregError, match="method none"):
        judge([plain], [Prompt("a cat")])


# --- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        (Prompt("a cat"), "without"),
        (Prompt("a zebra", (Thing("zebra"),)), "zebra"),
        (Prompt("a mauve car", (Thing("car", "mauve"),)), "mauve car"),
        (Prompt("", (Thing("cat"), Thing("dog")), (Relation(0, "inside", 1),)), "inside"),
    ],
)
def test_a_prompt_it_cannot_judge_is_refused(prompt: Prompt, said: str) -> None:
    with pytest.raises(AttnregError, match=said):
        pocket_judge().check([prompt])


def test_missing_weights_are_told(tmp_path: Path) -> None:
    with pytest.raises(AttnregError, match="make train-judge"):
        PocketJudge(tmp_path / "none.safetensors")
