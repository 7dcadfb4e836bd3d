"""Words of a prompt: their places, and which runs of them a phrase names."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnreg.words import in_place_of, numbered, occurrences, split_words


def texts(prompt: str) -> list[str]:
    return [word.text for word in split_words(prompt) if not word.is_mark]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a cat, a dog", ["a", "cat", "a", "dog"]),
        ("a  cat\n\tand a dog ", ["a", "cat", "and", "a", "dog"]),
        ("a t-shirt", ["a", "t-shirt"]),
        ("a dog's bone", ["a", "dog", "'s", "bone"]),
        ("the dog’s and DOGS' bones", ["the", "dog", "’s", "and", "DOGS", "bones"]),
        ("don't - stop", ["don't", "stop"]),
        ("cafe\u0301 café naïve", ["cafe\u0301", "café", "naïve"]),
        ("🐱🐶 and 👩‍🚀👍🏽", ["🐱", "🐶", "and", "👩‍🚀", "👍🏽"]),
        ("猫和狗", ["猫", "和", "狗"]),
        ("हिन्दी", ["हिन्दी"]),
        ("(red:1.3) 8k", ["red", "1", "3", "8k"]),
        ("", []),
        ("'s", ["s"]),
    ],
)
def test_words_as_they_are_written(prompt: str, expected: list[str]) -> None:
    assert texts(prompt) == expected


@given(st.text())
def test_words_and_marks_tile_everything_but_space(prompt: str) -> None:
    words = split_words(prompt)
    covered = [i for word in words for i in range(word.start, word.end)]
    assert covered == [i for i, character in enumerate(prompt) if not character.isspace()]
    assert all(prompt[word.start : word.end] == word.text for word in words)


@pytest.mark.parametrize(
    ("phrase", "prompt", "count"),
    [
        ("cat", "scatter cattle cat", 1),
        ("shirt", "a t-shirt", 0),
        ("T Shirt", "a t-shirt", 1),
        ("t-shirt", "a t shirt", 1),
        ("dog", "the dog's bone", 1),
        ("dog's", "the dog’s bone", 1),
        ("blue umbrella", "a Blue\n  UMBRELLA", 1),
        ("blue umbrella", "a blue, blue umbrella; blue umbrellas", 1),
        ("café", "a cafe\u0301", 1),
        ("strasse", "STRASSE, straße", 2),
        ("dog", "dogs", 0),
        ("🐱", "a 🐱🐶", 1),
        ("", "a dog", 0),
        ("!", "a dog!", 0),
    ],
)
def test_a_phrase_is_found_as_whole_words_only(phrase: str, prompt: str, count: int) -> None:
    assert len(occurrences(phrase, split_words(prompt))) == count


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dog", ("dog", 1)),
        ("dog#2", ("dog", 2)),
        ("blue dog #12 ", ("blue dog", 12)),
        ("#2", ("#2", 1)),
        ("a#b", ("a#b", 1)),
    ],
)
def test_which_occurrence_a_text_names(text: str, expected: tuple[str, int]) -> None:
    assert numbered(text) == expected


@pytest.mark.parametrize(
    ("text", "other", "prompt", "expected"),
    [
        ("cat", "dog", "a cat and a dog", "a dog and a dog"),
        ("dog", "cat", "a cat and a dog", "a cat and a cat"),
        ("Red Car", "cat", "A cattle,  a cat and a red  car!", "A cattle,  a cat and a cat!"),
        ("dog#2", "cat", "a dog, a dog, a cat", "a dog, a cat, a cat"),
        ("cat", "dog#2", "a dog, a dog, a cat", "a dog, a dog, a dog"),
        ("dog#3", "cat", "a dog, a dog, a cat", None),
        ("at", "dog", "a cat and a dog", None),
    ],
)
def test_one_target_in_place_of_another(text: str, other: str, prompt: str, expected: str | None) -> None:
    assert in_place_of(text, other, prompt) == expected


@given(
    st.lists(st.sampled_from(["cat", "cattle", "scatter", "CAT", "blue", "bl", ",", "."])),
    st.sampled_from(["cat", "blue cat"]),
)
def test_occurrences_agree_with_a_regular_expression(parts: list[str], phrase: str) -> None:
    prompt = " ".join(parts)
    expected = re.findall(r"\b" + phrase.replace(" ", r"\W+") + r"\b", prompt, re.IGNORECASE)
    assert len(occurrences(phrase, split_words(prompt))) == len(expected)
