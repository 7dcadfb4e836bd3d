"""The parts of a probe on toys whose wiring is known: what moves, the map, and what can be read in two ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnreg.attention.calls.call import Call
from attnreg.attention.families.probed import Probed
from attnreg.attention.probing.grid import grid_of
from attnreg.attention.probing.layers import layers_found
from attnreg.types import AttnregError, Grid

WIDTH, TEXT, HEIGHT, ACROSS = 8, 10, 3, 4
PIXELS = HEIGHT * ACROSS
ENDS = {0: (2, 6)}


class Attention(nn.Module):
    """One attention call over whatever it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.to_q, self.to_k = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        split = lambda x: x.unflatten(-1, (2, WIDTH // 2)).transpose(1, 2)  # noqa: E731
        made = F.scaled_dot_product_attention(split(self.to_q(queries)), split(self.to_k(keys)), split(keys))
        return made.transpose(1, 2).flatten(2)


class Toy(nn.Module):
    """A denoiser of two layers; `order` says what a layer's sequence is made of."""

    def __init__(self, order: Callable[[Tensor, Tensor], Tensor], leak: float = 0.0, joint: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.refiner = Attention(), Attention(), Attention()
        self.order, self.leak, self.joint = order, leak, joint

    def forward(self, latents: Tensor, words: Tensor) -> Tensor:
        picture = latents.flatten(2).mT
        words = words + self.refiner(words, words)
        picture = picture + self.leak * words.mean(1, keepdim=True)
        for layer in (self.first, self.second):
            both = self.order(words, picture + self.leak * words.mean(1, keepdim=True))
            if self.joint:
                both = both + layer(both, both)
            else:
                picture = picture + layer(picture, both)
        return picture + both.mean()


def found_in(toy: nn.Module, rows: int = 1, ends: Any = ENDS) -> Any:
    generator = torch.Generator().manual_seed(1)
    arguments = {
        "latents": torch.randn(rows, WIDTH, HEIGHT, ACROSS, generator=generator),
        "words": torch.randn(rows, TEXT, WIDTH, generator=generator),
    }
    family = Probed(text="words", sample="latents")
    return layers_found(Call(toy, family, arguments, tuple((r, r) for r in range(rows)), rows), toy, ends)


@pytest.mark.parametrize(
    ("order", "queries", "text"),
    [
        (lambda words, picture: torch.cat([words, picture], 1), slice(TEXT, TEXT + PIXELS), 0),
        (lambda words, picture: torch.cat([picture, words], 1), slice(0, PIXELS), PIXELS),
        (
            lambda words, picture: torch.cat([torch.ones(len(words), 3, WIDTH), words, picture], 1),
            slice(3 + TEXT, 3 + TEXT + PIXELS), 3,
        ),
    ],
    ids=["text first", "picture first", "registers before"],
)  # fmt: skip
def test_both_layers_are_found_and_no_other(order: Any, queries: slice, text: int) -> None:
    """The second as exactly as the first, though attention has mixed everything by then; not the text's own refiner."""
    found = found_in(Toy(order))
    assert list(found) == ["first", "second"]
    for one in found.values():
        assert (one.places.queries, one.places.text, one.places.grid) == (queries, text, Grid(HEIGHT, ACROSS))
        assert (one.first, one.together) == (True, True)


def test_text_alone_among_the_keys() -> None:
    for one in found_in(Toy(lambda words, picture: words, joint=False)).values():
        assert (one.places.queries, one.places.text, one.keys, one.together) == (slice(0, PIXELS), 0, TEXT, False)


def test_several_rows_with_words_elsewhere() -> None:
    found = found_in(Toy(lambda words, picture: torch.cat([words, picture], 1)), 2, {0: (2, 6), 1: (1, 1)})
    assert [one.places.text for one in found.values()] == [0, 0]


@pytest.mark.parametrize(
    ("toy", "message"),
    [
        (
            lambda: Toy(lambda words, picture: torch.cat([words.flip(1), picture], 1)),
            r"first in the order of the text, got columns \[2, 3, 6\] at keys \[3, 6, 7\]",
        ),
        (
            lambda: Toy(lambda words, picture: torch.cat([words, words, picture], 1)),
            "changed words alone to move in first, got others that move as much",
        ),
        (
            lambda: Toy(lambda words, picture: torch.cat([picture[:, :5], words, picture[:, 5:]], 1)),
            "the picture's queries of first beside one another, got 12 of them, apart",
        ),
        (lambda: Toy(lambda words, picture: picture), "in which the picture looks at the text, got none"),
        (lambda: Toy(lambda words, picture: torch.cat([words, picture], 1), leak=20.0), "others that move as much"),
        (
            lambda: Toy(lambda words, picture: torch.cat([words, picture[:, :-1]], 1)),
            "which map 11 positions of the picture form, got nothing that tells it",
        ),
    ],
    ids=["reversed", "twice", "picture in two parts", "no text", "a mean of the text everywhere", "no map"],
)
def test_what_can_be_read_in_several_ways_is_refused(toy: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(AttnregError, match=message):
        found_in(toy())


def test_text_that_begins_elsewhere_in_each_row_is_refused() -> None:
    def shifted(words: Tensor, picture: Tensor) -> Tensor:
        both = torch.cat([words, picture], 1)
        return torch.stack([both[0], both[1].roll(1, 0)])

    with pytest.raises(AttnregError, match=r"begin at one key of first for all prompts, got keys \[0, 1\]"):
        found_in(Toy(shifted), 2, {0: (2, 6), 1: (2, 6)})


def table(height: int, width: int, columns: int = 3) -> Tensor:
    """Positions as FLUX tells them: a number, the row, the column."""
    places = torch.zeros(height * width, columns)
    for y in range(height):
        for x in range(width):
            places[y * width + x, 1:3] = torch.tensor([y, x])
    return places


SEQUENCE = torch.zeros(1, 12, 4)


@pytest.mark.parametrize(
    ("arguments", "queries", "count", "wanted"),
    [
        ({"x": torch.zeros(1, 4, 6, 8)}, slice(0, 12), 12, Grid(3, 4)),
        ({"x": torch.zeros(1, 4, 5, 7)}, slice(0, 12), 20, Grid(3, 4)),
        ({"x": [torch.zeros(4, 1, 6, 8)]}, slice(0, 12), 40, Grid(3, 4)),
        ({"x": SEQUENCE, "ids": table(3, 4)}, slice(0, 12), 20, Grid(3, 4)),
        ({"x": SEQUENCE, "ids": table(3, 4, 4)[None]}, slice(0, 12), 20, Grid(3, 4)),
        ({"x": SEQUENCE, "ids": torch.cat([torch.zeros(8, 3), table(4, 3)])}, slice(8, 20), 20, Grid(4, 3)),
        ({"x": SEQUENCE, "img_shapes": [[(1, 3, 4)]]}, slice(0, 12), 20, Grid(3, 4)),
        ({"x": SEQUENCE, "height": 2, "width": 6, "num_frames": 1}, slice(0, 12), 12, Grid(2, 6)),
        ({"x": SEQUENCE, "ids": table(3, 4), "img_shapes": [(1, 4, 3)]}, slice(0, 12), 12, "3 x 4 or 4 x 3"),
        ({"x": SEQUENCE, "ids": table(3, 4)[torch.randperm(12)]}, slice(0, 12), 12, "nothing that tells it"),
        ({"x": SEQUENCE, "img_shapes": [(2, 3, 2)]}, slice(0, 12), 12, "nothing that tells it"),
    ],
)
def test_the_map_is_told_by_what_the_denoiser_is_given(
    arguments: dict[str, Any], queries: slice, count: int, wanted: Grid | str
) -> None:
    if isinstance(wanted, Grid):
        assert grid_of(arguments, "x", queries, count) == wanted
    else:
        with pytest.raises(AttnregError, match=wanted):
            grid_of(arguments, "x", queries, count)
