"""The score of a start against loops over plain numbers; which start is chosen, and how many are tried."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import by_hand
from attnreg import AttnregError
from attnreg.regulation.best_start import SIDE, BestStart, least_read, signals
from attnreg.regulation.edit import Maps, PromptWords
from attnreg.regulation.kinds import Guess
from attnreg.regulation.noises import noises_like
from attnreg.types import Grid

PAIR = by_hand.words_of("a cat and a dog")


def by_maps_alone(layers: list[Maps], words: PromptWords) -> float:
    """Maps no larger than `SIDE`, all of one grid: nothing has to be made smaller."""
    grid, images = layers[0].grid, []
    for columns in words.columns.targets:
        total = [0.0] * grid.pixels
        for maps in layers:
            values = [sum(row[column] for column in columns) for row in maps.cross.tolist()]
            mean = sum(values) / len(values)
            total = [before + value / mean / len(layers) for before, value in zip(total, values, strict=True)]
        picture = by_hand.picture(total, grid)

        def at(y: int, x: int, picture: by_hand.Map = picture) -> float:
            return picture[min(max(y, 0), grid.height - 1)][min(max(x, 0), grid.width - 1)]

        around = (-1, 0, 1)
        images.append(
            [
                sum(at(y + dy, x + dx) for dy in around for dx in around) / 9
                for y in range(grid.height)
                for x in range(grid.width)
            ]
        )
    cosines = [
        sum(a * b for a, b in zip(images[i], images[j], strict=True)) / math.hypot(*images[i]) / math.hypot(*images[j])
        for i in range(len(images))
        for j in range(i)
    ]
    return min(max(image) for image in images) * (1 - max(cosines, default=0.0))


@given(
    prompt=st.sampled_from(by_hand.PROMPTS),
    seed=by_hand.SEEDS,
    grid=by_hand.GRIDS,
    layers=st.integers(1, 3),
    sharp=st.floats(0.1, 4),
    errors=st.lists(st.floats(0.01, 100), min_size=2, max_size=7),
)
def test_the_score_by_hand(prompt: str, seed: int, grid: Grid, layers: int, sharp: float, errors: list[float]) -> None:
    words = by_hand.words_of(prompt)
    seen = [by_hand.attention(seed + layer, grid, sharp) for layer in range(layers)]
    worse = min(other / errors[0] for other in errors[1:])
    found = signals(Guess(seen, lambda: tuple(errors)), words).score
    assert found == pytest.approx(worse * math.sqrt(by_maps_alone(seen, words)), rel=1e-5, abs=1e-6)


def spots(*centres: tuple[int, int], side: int = SIDE) -> Maps:
    """Attention of the pair's targets, each at a place of its own on a map of some side."""
    cross = torch.full((side * side, by_hand.TOKENS), 1e-4)
    cells = side // SIDE
    for (target,), (y, x) in zip(PAIR.columns.targets, centres, strict=True):
        block = torch.zeros(side, side)
        block[y * cells : (y + 2) * cells, x * cells : (x + 2) * cells] = 0.5
        cross[:, target] += block.flatten()
    return Maps(cross, None, Grid(side, side))


def scored(*layers: Maps, errors: tuple[float, ...] = (1.0, 1.0)) -> float:
    """Of the pair; read as well with another text as with the prompt unless told."""
    return signals(Guess(layers, lambda: errors), PAIR).score


def test_things_apart_score_higher_than_things_on_top_of_one_another() -> None:
    apart, near, same = (scored(spots((1, 1), at)) for at in ((5, 5), (2, 2), (1, 1)))
    assert apart > near > same == pytest.approx(0, abs=2e-3)
    lost = spots((1, 1), (5, 5))
    lost.cross[:, PAIR.columns.targets[1][0]] = 0.01
    assert scored(lost) < apart / 2


def test_what_another_text_explains_as_well_scores_lower() -> None:
    """Both other texts have to explain it worse: a picture of two dogs is explained by "a dog and a dog"."""
    maps = spots((1, 1), (5, 5))
    both, one, none = (scored(maps, errors=(2.0, *others)) for others in ((4.0, 3.0), (8.0, 2.0), (8.0, 1.0)))
    assert both > one > none
    assert both / one == pytest.approx(1.5)


def test_layers_of_all_sizes_and_loudnesses_count_alike() -> None:
    """A map four times as fine says what the coarse one says; and only a layer's shape counts, not its loudness."""
    coarse, fine = spots((1, 1), (5, 5)), spots((1, 1), (5, 5), side=4 * SIDE)
    assert scored(fine) == pytest.approx(scored(coarse), rel=1e-5)
    assert scored(coarse, fine) == pytest.approx(scored(coarse), rel=1e-5)
    loud = Maps(3 * coarse.cross, None, coarse.grid)
    assert scored(loud) == pytest.approx(scored(coarse), rel=1e-5)


def test_attention_that_is_nothing_has_a_score() -> None:
    """A masked target underflows to 0 everywhere: no start is worse, and nothing is divided by it."""
    silent = spots((1, 1), (5, 5))
    silent.cross[:, PAIR.columns.targets[0][0]] = 0
    assert scored(silent) == 0
    assert scored(spots((1, 1), (5, 5)), errors=(0.0, 0.0)) > 0


@pytest.mark.parametrize(
    ("prompt", "specs", "texts"),
    [
        ("a cat and a dog", (), ("a dog and a dog", "a cat and a cat")),
        ("a cat", (), ("",)),
        ("a dog and a dog", ("dog", "dog#2"), ("",)),
        (
            "a cat, a frog and a red car", (),
            ("a frog, a frog and a red car", "a cat, a red car and a red car", "a cat, a frog and a cat"),
        ),
        (
            "a dog, a dog and a cat", ("dog", "dog#2", "cat"),
            ("a cat, a dog and a cat", "a dog, a cat and a cat", "a dog, a dog and a dog"),
        ),
    ],
)  # fmt: skip
def test_texts(prompt: str, specs: tuple[str, ...], texts: tuple[str, ...]) -> None:
    """The next target that is another word in the place of each; never the prompt itself."""
    assert BestStart().texts(by_hand.words_of(prompt, *specs)) == texts


def test_a_target_that_is_no_whole_word_is_refused() -> None:
    words = by_hand.words_of("a cat and a teapot")
    broken = PromptWords(words.columns, (words.targets[0], type(words.targets[0])("pot", (6,))), words.prompt)
    with pytest.raises(AttnregError, match=r"whole words, got pot \(tokens 6\).*name words"):
        BestStart().texts(broken)


@pytest.mark.parametrize(
    ("settings", "total", "stops"),
    [
        ({}, 12, (0, 1, 2, 3, 4, 5, 6)),
        ({}, 50, (0, 4, 8, 12, 17, 21, 25)),
        ({}, 1, (0,)),
        ({}, 2, (0, 1)),
        ({"passes": 1}, 12, (0,)),
        ({"passes": 2, "until": 1.0}, 12, (0, 11)),
        ({"until": 0.0}, 12, (0,)),
        ({"passes": 5, "until": 0.3}, 10, (0, 1, 2, 3)),
    ],
)
def test_stops(settings: dict[str, Any], total: int, stops: tuple[int, ...]) -> None:
    assert BestStart(**settings).stops(total) == stops


@dataclass
class Model:
    """Instead of one: the n-th start that is followed has the n-th scores, of its maps early and of all in the end."""

    early: list[float]
    scores: list[float]
    starts: list[Tensor] = field(default_factory=list)
    """In the order in which they were followed first."""
    read: list[int] = field(default_factory=list)

    def follow(self, start: Tensor, stops: int | None = None) -> Guess:
        """Maps of two spots, which stand the nearer to one another the lower their score is."""
        number = next((place for place, one in enumerate(self.starts) if one is start), len(self.starts))
        if number == len(self.starts):
            self.starts.append(start)
        if stops is not None:
            assert stops == BestStart().early
            return Guess([told_by(self.early[number])], lambda: pytest.fail("read early"))
        maps = told_by(1.0)

        def errors() -> tuple[float, ...]:
            self.read.append(number)
            return 1.0, self.scores[number] / scored(maps)

        return Guess([maps], errors)


def told_by(score: float) -> Maps:
    """Maps the higher in `places`, the higher the score, from 0 to 1."""
    near, far = spots((1, 1), (1, 1)), spots((1, 1), (5, 5))
    return Maps(torch.lerp(near.cross, far.cross, score), None, far.grid)


@pytest.mark.parametrize(
    ("scores", "enough", "good", "chosen", "tried"),
    [
        ([3.0, 6.0, 6.0, 6.0], 2.5, 5.0, 0, 1),
        ([1.0, 3.0, 6.0, 6.0], 2.5, 2.5, 1, 2),
        ([1.0, 3.0, 6.0, 6.0], 2.5, 5.0, 2, 3),
        ([1.0, 2.0, 0.5, 1.5], 2.5, 2.5, 1, 4),
        ([2.0, 1.0, 0.5, 1.5], 2.5, 2.5, 0, 4),
        ([2.0, 1.0, 3.0, 1.5], 2.5, 5.0, 2, 4),
        ([2.0, 1.0, 0.5, 1.5], 2.5, 1.0, 0, 2),
        ([1.0, 1.2, 0.5, 3.0], 1e9, 1e9, 3, 4),
        ([0.1, 0.2, 0.3, 0.4], 0.0, 1.0, 0, 1),
    ],
)
def test_the_first_that_is_good_enough_or_the_best(
    scores: list[float], enough: float, good: float, chosen: int, tried: int
) -> None:
    """In groups of one, each is read; none is looked at early."""
    latent, model = by_hand.noise(0, 8, 8, torch.float32), Model([], scores)
    made = BestStart(starts=4, group=1, enough=enough, good=good).choose(latent, model.follow, PAIR)
    assert (made.number, model.read) == (chosen, [*range(tried)])
    assert made.scores == pytest.approx(scores[:tried], rel=1e-3)
    for one, expected in zip(model.starts, noises_like(latent, 4, BestStart().strength), strict=False):
        assert torch.equal(one, expected)
    assert torch.equal(made.latent, model.starts[chosen])
    if not chosen:
        assert made.latent is latent


@pytest.mark.parametrize(
    ("group", "good", "scores", "chosen", "read"),
    [
        (3, 5.0, [1, 0, 3, 0, 0, 0, 2], 2, [0, 2, 6]),
        (3, 2.5, [1, 0, 3, 0], 2, [0, 2]),
        (2, 1.5, [1, 0, 1.2, 2, 0], 3, [0, 2, 3]),
        (2, 5.0, [1, 0, 0.5, 0.6, 0, 0, 0.7], 0, [0, 2, 3, 6]),
        (4, 5.0, [1, 0, 2, 0, 0, 0, 1.5], 2, [0, 2, 6]),
        (9, 5.0, [1, 0, 0, 0, 0, 0, 4], 6, [0, 6]),
    ],
)
def test_of_a_group_the_one_that_is_most_promising_early_is_read(
    group: int, good: float, scores: list[float], chosen: int, read: list[int]
) -> None:
    """The others of it are given up, and score 0; groups after one that is good are not looked at."""
    early = [0.0, 0.1, 0.5, 0.4, 0.2, 0.3, 0.9]
    latent, model = by_hand.noise(0, 8, 8, torch.float32), Model(early, [1.0, 0, 3.0, 2.0, 0, 0, 2.0])
    model.scores = [*scores, *model.scores[len(scores) :]]
    made = BestStart(starts=7, group=group, enough=1.1, good=good).choose(latent, model.follow, PAIR)
    assert (made.number, model.read) == (chosen, read)
    assert made.scores == pytest.approx(scores, rel=1e-3)
    assert made.given_up == tuple(number for number in range(len(scores)) if number not in read)
    assert made.given_up_after == 3
    assert len(model.starts) == len(scores)


@pytest.mark.parametrize(
    "settings",
    [
        {"starts": 0},
        {"passes": 0},
        {"early": 0},
        {"group": 0},
        {"until": 1.5},
        {"enough": -1.0},
        {"good": -1.0},
        {"noise": 1.1},
        {"strength": 1.1},
    ],
    ids=str,
)
def test_settings_are_checked(settings: dict[str, Any]) -> None:
    with pytest.raises(AttnregError, match=next(iter(settings))):
        BestStart(**settings)


@pytest.mark.parametrize(
    ("prompt", "specs", "errors", "doubted"),
    [
        ("a cat and a dog", (), (1.0, 0.9, 2.0), "cat"),  # "a dog and a dog" restores it better: where is the cat?
        ("a cat and a dog", (), (1.0, 2.0, 0.9), "dog"),
        ("a cat", (), (1.0, 1.0), "cat"),
        ("a cat, a frog and a red car", (), (1.0, 3.0, 3.0, 1.1), "red car"),
        ("a dog and a dog", ("dog", "dog#2"), (1.0, 1.0), ""),  # no text tells the two apart
    ],
)
def test_the_target_that_is_least_read(
    prompt: str, specs: tuple[str, ...], errors: tuple[float, ...], doubted: str
) -> None:
    words = by_hand.words_of(prompt, *specs)
    assert len(errors) == 1 + len(BestStart().texts(words))
    guess = Guess([spots((1, 1), (5, 5))], lambda: errors)
    assert least_read(guess, words) == doubted


def test_what_was_doubted_is_told_of_the_given_start_alone() -> None:
    """And not at all where that is enough."""
    latent = by_hand.noise(0, 8, 8, torch.float32)
    errors = iter([(1.0, 0.5, 2.0), (1.0, 2.0, 0.5), (1.0, 2.0, 0.5)])

    def follow(start: Tensor, stops: int | None = None) -> Guess:
        return Guess([spots((1, 1), (5, 5))], lambda: next(errors))

    assert BestStart(starts=2, enough=1e9, good=1e9).choose(latent, follow, PAIR).doubted == "cat"
    assert BestStart(enough=0.0).choose(latent, follow, PAIR).doubted == ""
