"""A target's noun and modifiers, through the tokenizer of the bundled model and by hand."""

from __future__ import annotations

import pytest

from attnreg.heads import Parts, parts_of
from attnreg.targets import find_targets
from attnreg.types import Target
from training.tokenizer import new_tokenizer


def told(prompt: str, *specs: str) -> list[tuple[list[str], list[list[str]]]]:
    """Each target's noun pieces, and the pieces of each modifier, without CLIP's signs."""
    found = []
    for target in find_targets(prompt, new_tokenizer(), specs or None):
        parts, piece = parts_of(target, prompt), dict(zip(target.tokens, target.pieces, strict=True))
        found.append(
            (
                [piece[column].removesuffix("</w>") for column in parts.noun],
                [[piece[column].removesuffix("</w>") for column in word] for word in parts.modifiers],
            )
        )
    return found


@pytest.mark.parametrize(
    ("prompt", "specs", "expected"),
    [
        ("a cat and a dog", (), [(["cat"], []), (["dog"], [])]),
        ("a blue balloon and a frog", (), [(["balloon"], [["blue"]]), (["frog"], [])]),
        ("a black and white cat", (), [(["cat"], [["black"], ["white"]])]),
        ("a small, red car", (), [(["car"], [["small"], ["red"]])]),
        ("a red orange and an orange cat", (), [(["orange"], [["red"]]), (["cat"], [["orange"]])]),
        ("a cat and a red cat", ("red cat",), [(["cat"], [["red"]])]),
        ("a cat and a red cat", ("cat#2", "red"), [(["cat"], []), (["red"], [])]),
        ("a blue car and a red car", ("blue car", "red car"), [(["car"], [["blue"]]), (["car"], [["red"]])]),
        ("a blue car", ("a blue car",), [(["car"], [["blue"]])]),
        ("a cat with a red bow", ("cat with a red bow",), [(["cat"], [])]),
    ],
)
def test_nouns_and_modifiers(prompt, specs, expected):
    assert told(prompt, *specs) == expected


def test_words_of_several_pieces():
    """The trimmed tokenizer spells what it does not know."""
    ((noun, (modifier,)),) = told("a shiny kettle")
    assert "".join(noun) == "kettle"
    assert "".join(modifier) == "shiny"
    assert len(noun) > 1
    assert len(modifier) > 1


@pytest.mark.parametrize(
    ("text", "pieces", "noun", "modifiers"),
    [
        ("blue t-shirt", ("blue</w>", "t</w>", "-</w>", "shirt</w>"), (1, 2, 3), ((0,),)),
        ("fire hydrant", ("fire</w>", "hydr", "ant</w>"), (0, 1, 2), ()),
        ("Blue Umbrella", ("▁Blue", "▁Umb", "rella"), (1, 2), ((0,),)),
        ("blue umbrella", ("blue", "umb", "##rella"), (1, 2), ((0,),)),
        ("blue umbrella", ("blue", "Ġumbrella"), (1,), ((0,),)),
        ("blue umbrella", ("blue</w>", "umbrella</w>", "▁blue", "▁umb", "rella"), (1, 3, 4), ((0, 2),)),
    ],
)
def test_other_tokenizers(text, pieces, noun, modifiers):
    tokens = tuple(range(len(pieces)))
    assert parts_of(Target(text, tokens, pieces)) == Parts(noun, modifiers)


@pytest.mark.parametrize(
    "target",
    [
        Target("striped", (3, 4), ("stri", "ped</w>")),
        Target("blue car", (1, 2), ("blue</w>", "truck</w>")),
        Target("blue car", (1, 2)),
        Target("!!", (1,), ("!!</w>",)),
    ],
    ids=str,
)
def test_what_cannot_be_told_apart_is_one_thing(target):
    assert parts_of(target, "a blue car and a striped") == Parts(target.tokens)


def test_a_target_that_the_prompt_lacks_is_parsed_alone():
    for text in ("blue car", "blue car#3"):
        assert parts_of(Target(text, (4, 5), ("blue</w>", "car</w>")), "a dog") == Parts((5,), ((4,),))
