"""The prompt sets written in the package: their recipes, their order, what they say of themselves."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnreg.errors import AttnregError
from attnreg.evaluation.prompts import PROMPT_SETS, fewer, halves, prompt_set
from attnreg.evaluation.prompts.divide_and_bind import SIZES
from attnreg.evaluation.prompts.registry import absolute
from attnreg.evaluation.prompts.wording import kind, listed, plural, with_article, with_number
from attnreg.measure.asked import Prompt, Thing
from attnreg.models.about import ABOUT, BUNDLED, about

# The paper's words again, typed from it and not taken from the package.
ANIMALS = ["cat", "dog", "bird", "bear", "lion", "horse", "elephant", "monkey", "frog", "turtle", "rabbit", "mouse"]
OBJECTS = [
    "backpack",
    "glasses",
    "crown",
    "suitcase",
    "chair",
    "balloon",
    "bow",
    "car",
    "bowl",
    "bench",
    "clock",
    "apple",
]
COLOURS = ["red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "gray", "black", "white"]
SEEDS = st.integers(0, 10_000)
WRITTEN = [name for name, row in PROMPT_SETS.items() if row.takes != "file"]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with what a model says of itself: 24 things, every third pair held out."""
    folder = tmp_path_factory.mktemp("model")
    pairs = [sorted(pair) for pair in itertools.combinations(ANIMALS + OBJECTS, 2)][::3]
    told = {
        "name": "small", "things": ANIMALS + OBJECTS, "colours": COLOURS, "other": ["a", "an", "and", ","],
        "steps": 2, "guidance_scale": 3.0, "held_out_pairs": sorted(pairs),
    }  # fmt: skip
    (folder / ABOUT).write_text(json.dumps({"model": told}))
    return folder


def named(name: str, model: Path) -> str:
    return f"{name}:{model}" if PROMPT_SETS[name].takes == "model" else name


# Attend-and-Excite


def test_attend_and_excite_is_the_paper_s() -> None:
    prompts = prompt_set("attend-and-excite")
    categories = [category for category, _ in itertools.groupby(prompts, key=lambda prompt: prompt.category)]
    assert categories == ["animal-animal", "animal-object", "object-object"]
    assert Counter(p.category for p in prompts) == {"animal-animal": 66, "animal-object": 144, "object-object": 66}
    texts = [prompt.text for prompt in prompts]
    assert len(set(texts)) == 276
    assert texts[:66] == [f"a {ANIMALS[i]} and a {ANIMALS[j]}" for i in range(12) for j in range(i + 1, 12)]
    assert texts[:3] == ["a cat and a dog", "a cat and a bird", "a cat and a bear"]
    assert "a elephant and a monkey" in texts, "the original's article is kept"
    expected = [
        rf"a {animal} with a {thing}"
        if thing in ("glasses", "crown", "bow")
        else rf"a {animal} and a ({'|'.join(COLOURS)}) {thing}"
        for animal in ANIMALS
        for thing in OBJECTS
    ]
    assert all(re.fullmatch(pattern, text) for pattern, text in zip(expected, texts[66:210], strict=True))
    assert sum(" with " in text for text in texts) == 36
    one = rf"a ({'|'.join(COLOURS)})"
    expected = [rf"{one} {OBJECTS[i]} and {one} {OBJECTS[j]}" for i in range(12) for j in range(i + 1, 12)]
    assert all(re.fullmatch(pattern, text) for pattern, text in zip(expected, texts[210:], strict=True))


def test_attend_and_excite_draws_its_colours_independently() -> None:
    """Over 50 seeds every colour comes up about equally, and the same twice in one prompt in about one of eleven."""
    things = [prompt.things for seed in range(50) for prompt in prompt_set("attend-and-excite:objects", seed)]
    counts = Counter(thing.colour for pair in things for thing in pair)
    assert set(counts) == set(COLOURS)
    expected = 2 * len(things) / 11
    assert all(abs(count - expected) < 5 * expected**0.5 for count in counts.values())
    same = sum(first.colour == second.colour for first, second in things)
    assert abs(same - len(things) / 11) < 5 * (len(things) / 11) ** 0.5


def test_attend_and_excite_in_parts_with_articles() -> None:
    whole = prompt_set("attend-and-excite", 3)
    assert prompt_set("attend-and-excite:objects", 3) == whole[210:]
    assert prompt_set("attend-and-excite:animals-objects,animals", 3) == whole[66:210] + whole[:66]
    better = prompt_set("attend-and-excite:articles", 3)
    assert [prompt.things for prompt in better] == [prompt.things for prompt in whole]
    texts = [prompt.text for prompt in better]
    assert "an elephant and a monkey" in texts
    assert "a cat with glasses" in texts
    assert not any(re.search(r"\ba [aeiou]|\ban [^aeiou]|\ban? (\w+ )?glasses", text) for text in texts)


# All that are written here


@pytest.mark.parametrize("name", WRITTEN)
def test_every_set_names_its_things_as_it_writes_them(name: str, model: Path) -> None:
    prompts = prompt_set(named(name, model), 1)
    assert len({prompt.text for prompt in prompts}) == len(prompts)
    for prompt in prompts:
        assert prompt.things
        assert prompt.category
        text, at = prompt.text, 0
        for thing in prompt.things:
            phrase = plural(thing.phrase) if thing.count > 1 else thing.phrase
            at = text.index(phrase, at) + len(phrase)
        # What is neither thing, article, number nor link is a place.
        rest = text
        for thing in sorted(prompt.things, key=lambda thing: -len(thing.phrase)):
            rest = rest.replace(plural(thing.phrase) if thing.count > 1 else thing.phrase, "", 1)
        words = set(re.findall(r"\w+", rest)) - {"a", "an", "and", "with", "one", "two", "three"}
        assert not words or "scene" in prompt.category


@pytest.mark.parametrize("name", WRITTEN)
def test_every_set_is_decided_by_its_seed(name: str, model: Path) -> None:
    assert prompt_set(named(name, model), 12) == prompt_set(named(name, model), 12)


def test_seeds_differ_where_chance_is() -> None:
    for name in ("attend-and-excite", "divide-and-bind", "visual-modifiers", "three-things"):
        assert prompt_set(name, 0) != prompt_set(name, 1)


def test_the_same_prompts_everywhere() -> None:
    """Another process with another hash seed draws the same."""
    code = "from attnreg.evaluation.prompts import prompt_set as p; print(*[q.text for n in ('attend-and-excite',"
    code += "'divide-and-bind', 'visual-modifiers') for q in p(n, 5, limit=50, half='test')], sep='\\n')"
    there = subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": "7"}, capture_output=True, check=True)
    names = ("attend-and-excite", "divide-and-bind", "visual-modifiers")
    here = [prompt.text for name in names for prompt in prompt_set(name, 5, limit=50, half="test")]
    assert there.stdout.decode().splitlines() == here


@settings(max_examples=5)  # every one is hundreds of prompts
@given(seed=SEEDS)
def test_divide_and_bind_has_the_paper_s_sizes(seed: int) -> None:
    prompts = prompt_set("divide-and-bind", seed)
    assert Counter(prompt.category for prompt in prompts) == SIZES == {
        "animal-animal": 66, "colour-object": 66, "animal-scene": 56, "colour-object-scene": 60, "multi-object": 30,
    }  # fmt: skip
    for prompt in prompts:
        nouns = [thing.noun for thing in prompt.things]
        assert len(set(nouns)) == 2
        if "object" in prompt.category and prompt.category != "multi-object":
            assert len({thing.colour for thing in prompt.things}) == 2
            assert set(nouns) <= set(OBJECTS)
        else:
            assert set(nouns) <= set(ANIMALS)
        assert (3 <= sum(thing.count for thing in prompt.things) <= 5) == (prompt.category == "multi-object")
    assert prompt_set("divide-and-bind:multi-object", seed) == prompts[-30:]


@settings(max_examples=3)
@given(seed=SEEDS)
def test_visual_modifiers_bind_every_word_once(seed: int) -> None:
    prompts = prompt_set("visual-modifiers", seed)
    assert len(prompts) == 600
    for prompt in prompts:
        assert 1 <= len(prompt.things) <= 3
        words = [word for thing in prompt.things for word in thing.phrase.split()]
        assert len(set(words)) == len(words)
        assert all(len(thing.phrase.split()) <= 3 for thing in prompt.things)
        assert len(re.split(r" and ", prompt.text)) == len(prompt.things)
    sizes = Counter(len(thing.phrase.split()) - 1 for prompt in prompts for thing in prompt.things)
    assert all(abs(sizes[k] / sizes.total() - 1 / 3) < 0.08 for k in (0, 1, 2))


def test_similar_subjects() -> None:
    prompts = prompt_set("similar-subjects")
    assert Counter(prompt.category for prompt in prompts) == {"two similar": 31, "three similar": 22}
    assert prompt_set("similar-subjects:three") == prompts[31:]
    assert "a crocodile and an alligator" in [prompt.text for prompt in prompts]


# The words of a small model


def test_pairs_are_seen_or_unseen(model: Path) -> None:
    unseen, seen = prompt_set(f"unseen-pairs:{model}", 2), prompt_set(f"seen-pairs:{model}", 2)
    told = json.loads((model / ABOUT).read_text())["model"]["held_out_pairs"]
    assert {frozenset(thing.noun for thing in prompt.things) for prompt in unseen} == set(map(frozenset, told))
    pairs = [frozenset(thing.noun for thing in prompt.things) for prompt in (*unseen, *seen)]
    assert len(set(pairs)) == len(pairs) == 276
    for prompt in (*unseen, *seen):
        assert prompt.category == "-".join(kind(thing.noun) for thing in prompt.things)
        assert all((thing.colour in COLOURS) == (thing.noun in OBJECTS) for thing in prompt.things)


def test_a_pair_has_its_colours_whatever_is_held_out(model: Path, tmp_path: Path) -> None:
    told = json.loads((model / ABOUT).read_text())
    told["model"]["held_out_pairs"] = told["model"]["held_out_pairs"][:10]
    (tmp_path / ABOUT).write_text(json.dumps(told))
    few = prompt_set(f"unseen-pairs:{tmp_path}")
    assert len(few) == 10
    assert set(few) <= set(prompt_set(f"unseen-pairs:{model}"))


@settings(max_examples=5)
@given(seed=SEEDS)
def test_three_and_four_things(seed: int, model: Path) -> None:
    held_out = json.loads((model / ABOUT).read_text())["model"]["held_out_pairs"]
    for name, size in (("three-things", 3), ("four-things", 4)):
        prompts = prompt_set(f"{name}:{model}", seed)
        assert len({frozenset(thing.noun for thing in prompt.things) for prompt in prompts}) == 100
        for prompt in prompts:
            nouns = {thing.noun for thing in prompt.things}
            assert len(nouns) == size
            assert any(set(pair) <= nouns for pair in held_out)
            assert prompt.text.count(", ") == size - 2
            assert prompt.text.count(" and ") == 1


def test_single_things_and_their_colours(model: Path) -> None:
    singles = prompt_set(f"single-things:{model}")
    assert [prompt.text for prompt in singles][:7:6] == ["a cat", "an elephant"]
    assert len(singles) == 24
    coloured = prompt_set(f"coloured-things:{model}")
    assert Counter(prompt.category for prompt in coloured) == dict.fromkeys(COLOURS, 12)
    assert "an orange car" in [prompt.text for prompt in coloured]


@pytest.mark.parametrize("model", BUNDLED)
def test_a_bundled_model_knows_the_words_of_its_sets(model: str) -> None:
    told = about(BUNDLED[model])
    assert told
    for name in ("unseen-pairs", "three-things", "four-things", "single-things", "coloured-things"):
        assert absolute(f"{name}:{model}") == f"{name}:{model}", "not a folder of the place where it is said"
        for prompt in prompt_set(f"{name}:{model}"):
            told.check_words(prompt.text)


def test_what_pocket_never_saw_pocket_joint_never_saw_either() -> None:
    """And more: three quarters of all pairs."""
    first, second = (
        {frozenset(thing.noun for thing in prompt.things) for prompt in prompt_set(name)}
        for name in ("unseen-pairs", "unseen-pairs:pocket-joint")
    )
    assert first < second
    assert len(second) == 207


def test_a_model_that_does_not_say(model: Path, tmp_path: Path) -> None:
    with pytest.raises(AttnregError, match=rf"holds no {ABOUT}"):
        prompt_set(f"single-things:{tmp_path}")
    told = json.loads((model / ABOUT).read_text())
    del told["model"]["held_out_pairs"]
    (tmp_path / ABOUT).write_text(json.dumps(told))
    assert len(prompt_set(f"single-things:{tmp_path}")) == 24
    for name in ("unseen-pairs", "seen-pairs"):
        with pytest.raises(AttnregError, match=r"held_out_pairs in .*, got none; export"):
            prompt_set(f"{name}:{tmp_path}")
    from attnreg.evaluation.prompts.small_model import three_things

    with pytest.raises(AttnregError, match="at most 2024 prompts of 3 things"):
        three_things(folder=tmp_path, count=2025)


# Names, halves, limits


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("atend-and-excite", "did you mean 'attend-and-excite'"),
        ("attend-and-excite:animal", "expected parts of attend-and-excite .animals, .* got 'animal'"),
        ("attend-and-excite:", "after the colon"),
        ("visual-modifiers:3", "'visual-modifiers' alone"),
        ("geneval", "geneval:PATH"),
        ("geneval:nowhere.jsonl", "nowhere.jsonl, which does not exist"),
        ("nowhere.txt", "nowhere.txt, which does not exist"),
        ("picture.png", "ends in .txt, .csv"),
        ("", "names: attend-and-excite"),
    ],
)
def test_a_wrong_name_is_told(name: str, said: str) -> None:
    with pytest.raises(AttnregError, match=said) as refused:
        prompt_set(name)
    assert "\n" not in str(refused.value)


@given(st.lists(st.tuples(st.text("ab c", max_size=5), st.sampled_from(["", "x", "y", "z"])), max_size=40), SEEDS)
def test_halves_are_halves(texts: list[tuple[str, str]], seed: int) -> None:
    prompts = [Prompt(text, category=category) for text, category in texts]
    one, other = halves(prompts, seed)
    assert Counter((*one, *other)) == Counter(prompts)
    for half in (one, other):
        rest = iter(prompts)
        assert all(any(prompt is candidate for candidate in rest) for prompt in half), "in the set's order"
    words = [{tuple(sorted(prompt.text.split())) for prompt in half} for half in (one, other)]
    assert not words[0] & words[1], "the same words on both sides"
    assert halves(prompts[::-1], seed).development == one[::-1], "the order of the set decides nothing"


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 25)), SEEDS)
def test_halves_share_every_category(sizes: dict[str, int], seed: int) -> None:
    prompts = [Prompt(f"{category}{i}", category=category) for category, size in sizes.items() for i in range(size)]
    one, other = (Counter(prompt.category for prompt in half) for half in halves(prompts, seed))
    assert all(abs(one[category] - other[category]) <= 1 for category in sizes)
    assert abs(one.total() - other.total()) <= 1


def test_halves_of_attend_and_excite() -> None:
    prompts = prompt_set("attend-and-excite")
    development, test = halves(prompts)
    assert Counter(prompt.category for prompt in development) == {
        "animal-animal": 33,
        "animal-object": 72,
        "object-object": 33,
    }
    assert prompt_set("attend-and-excite", half="development") == development
    assert prompt_set("attend-and-excite", half="test") == test
    assert halves(prompts, 1) != halves(prompts, 0)
    assert set(prompt_set("attend-and-excite", limit=20, half="test")) <= set(test)
    with pytest.raises(AttnregError, match="half 'development' or 'test'"):
        prompt_set("attend-and-excite", half="both")


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(1, 30), min_size=1), SEEDS, st.integers(1, 50))
def test_fewer_are_a_fair_choice(sizes: dict[str, int], seed: int, limit: int) -> None:
    prompts = [Prompt(f"{category}{i}", category=category) for category, size in sizes.items() for i in range(size)]
    chosen = fewer(prompts, limit, seed)
    assert len(chosen) == min(limit, len(prompts))
    assert list(chosen) == [prompt for prompt in prompts if prompt in set(chosen)]
    assert set(chosen) <= set(fewer(prompts, limit + 1, seed)), "raising the limit keeps what was drawn"
    counts = Counter(prompt.category for prompt in chosen)
    share = len(chosen) / len(prompts)
    assert all(abs(counts[category] - share * size) < 2 for category, size in sizes.items())


def test_a_limit_below_one_is_told() -> None:
    with pytest.raises(AttnregError, match="limit of 1 or more prompts, got 0"):
        prompt_set("attend-and-excite", limit=0)


def test_things_are_found_where_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("a red wooden bench near two dogs\n")
    assert prompt_set(str(file)) == (Prompt("a red wooden bench near two dogs"),)
    (prompt,) = prompt_set(str(file), find_things=True)
    assert prompt.things == (Thing("bench", "red", ("wooden",)), Thing("dogs"))
    assert prompt_set("attend-and-excite", find_things=True) == prompt_set("attend-and-excite")


# Wording


@pytest.mark.parametrize(
    ("thing", "article", "number"),
    [
        (Thing("cat"), "a cat", "one cat"),
        (Thing("apple", "red", count=2), "a red apple", "two red apples"),
        (Thing("mouse", count=3), "a mouse", "three mice"),
        (Thing("bench", "orange", ("old",), 12), "an orange old bench", "12 orange old benches"),
        (Thing("glasses", "green"), "green glasses", "one green glasses"),
        (Thing("teddy bear", count=2), "a teddy bear", "two teddy bears"),
        (Thing("pony", count=2), "a pony", "two ponies"),
        (Thing("monkey", count=2), "a monkey", "two monkeys"),
    ],
)
def test_articles_and_numbers(thing: Thing, article: str, number: str) -> None:
    assert with_article(thing) == article
    assert with_number(thing) == number


def test_lists() -> None:
    assert [listed("abcd"[:n]) for n in (1, 2, 3, 4)] == ["a", "a and b", "a, b and c", "a, b, c and d"]
