"""The noun phrases of prompts, by the lexicon alone and with spaCy (imitated) as the tagger."""

from __future__ import annotations

import gzip
import importlib.machinery
import sys
import types
from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnreg.phrases import find, find_phrases, lexicon, read, taggers
from benchmarks.targets import heads, listed

ANIMALS, OBJECTS, COLOURS, ANY = (
    line.split()
    for line in (
        "cat dog bird bear lion horse elephant monkey frog turtle rabbit mouse",
        "backpack glasses crown suitcase chair balloon bow car bowl bench clock apple",
        "red orange yellow green blue purple pink brown gray black white",
        "a the red very dog's cats of in style painting , and riding bear orange",
    )
)


@pytest.fixture(autouse=True, scope="module")
def _lexicon_only() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(taggers, "spacy_english", lambda: None)
        find.read.cache_clear()
        yield
    find.read.cache_clear()


def found(prompt: str) -> list[str]:
    """Phrases written `adjective adjective|noun noun`."""
    written = []
    for phrase in find_phrases(prompt):
        adjectives, nouns = (" ".join(word.text for word in words) for words in (phrase.adjectives, phrase.nouns))
        written.append(f"{adjectives}|{nouns}" if adjectives else nouns)
    return written


def test_every_pair_of_animals() -> None:
    for one, two in combinations(ANIMALS, 2):
        assert found(f"a {one} and a {two}") == [one, two]


def test_every_animal_with_every_object_in_every_colour() -> None:
    for animal in ANIMALS:
        for thing in OBJECTS:
            assert found(f"a {animal} with a {thing}") == [animal, thing]
            assert found(f"a {animal} with {thing}") == [animal, thing]
            for colour in COLOURS:
                assert found(f"a {animal} and a {colour} {thing}") == [animal, f"{colour}|{thing}"]


def test_every_pair_of_coloured_objects() -> None:
    for i, (one, two) in enumerate(combinations(OBJECTS, 2)):
        for j, colour in enumerate(COLOURS):
            other = COLOURS[(i + j) % len(COLOURS)]
            assert found(f"a {colour} {one} and a {other} {two}") == [f"{colour}|{one}", f"{other}|{two}"]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        # The figures of the Attention Regulation paper, and scenery.
        ("A bench near a grassy area near a parked car", ["bench", "grassy|area", "parked|car"]),
        ("A brown bird sits on the handlebar of a bicycle", ["brown|bird", "handlebar", "bicycle"]),
        ("A black and white dog sits next to a bottle on the ground", ["black white|dog", "bottle", "ground"]),
        ("A bus is slowly approaching a fire hydrant", ["bus", "fire hydrant"]),
        ("A chair has a blue umbrella attached to the back", ["chair", "blue|umbrella"]),
        ("A dog asleep on the floor next to a teddy bear", ["dog", "floor", "teddy bear"]),
        ("A donut on a napkin with a cup of coffee", ["donut", "napkin", "cup", "coffee"]),
        ("A knife on a cutting board with broccoli", ["knife", "cutting board", "broccoli"]),
        ("A large brown dog laying on a beach under a surfboard", ["large brown|dog", "beach", "surfboard"]),
        ("An old bench and a small chair sitting beside it", ["old|bench", "small|chair"]),
        ("A polar bear is playing with a blue bottle underwater", ["polar|bear", "blue|bottle"]),
        ("A painting of a bag and an apple", ["bag", "apple"]),
        ("A bedroom with a book on the bed", ["bedroom", "book", "bed"]),
        # The picture itself, its manner, its time and its parts are no things in it.
        ("a small red car on a beach at night, flat style", ["small red|car", "beach"]),
        ("a photo of an astronaut riding a horse on mars", ["astronaut", "horse", "mars"]),
        ("a watercolor painting of a sad clown", ["sad|clown"]),
        ("a close-up shot of a frog's face, oil painting, highly detailed, 4k", ["frog", "face"]),
        ("a dog in the style of Van Gogh", ["dog"]),
        ("a castle in watercolor", ["castle"]),
        ("a dog looking at a painting", ["dog", "painting"]),
        ("a painting on the wall", ["painting", "wall"]),
        ("a pair of dogs in front of a car", ["dogs", "car"]),
        ("a photo of a dog right of a teddy bear", ["dog", "teddy bear"]),
        ("a balloon on the top of a giraffe", ["balloon", "giraffe"]),
        # Lists, numbers, possessives, case, line breaks.
        ("a cat, a frog and a red car", ["cat", "frog", "red|car"]),
        ("two dogs and 3 red apples", ["dogs", "red|apples"]),
        ("a man holding his dog", ["man", "dog"]),
        ("a t-shirt and a dog's bone", ["t-shirt", "dog", "bone"]),
        ("A DOG\nAND  A Blue CAT!", ["DOG", "Blue|CAT"]),
        ("a cat and a cat", ["cat", "cat"]),
        # Colours.
        ("a bear and a orange bench", ["bear", "orange|bench"]),
        ("an orange and white cat and gold ring", ["orange white|cat", "gold|ring"]),
        ("a orange and a red orange", ["orange", "red|orange"]),
        ("orange and apples", ["orange", "apples"]),
        ("the cat is orange", ["cat"]),
        ("a rainbow over a castle", ["rainbow", "castle"]),
        ("pink and blue bow", ["pink blue|bow"]),
        ("a red rose and a silver key", ["red|rose", "silver|key"]),
        ("a gold watch", ["gold|watch"]),
        ("a small, red car", ["small red|car"]),
        # Participles, verbs, nouns the lexicon holds for verbs.
        ("a running dog", ["running|dog"]),
        ("dogs chasing cats", ["dogs", "cats"]),
        ("parked cars on a street", ["parked|cars", "street"]),
        ("a cat with glowing eyes", ["cat", "glowing|eyes"]),
        ("a striped cat and a brightly colored bird", ["striped|cat", "colored|bird"]),
        ("a dog barks at a cat", ["dog", "cat"]),
        ("a man and a woman walk in the park", ["man", "woman", "park"]),
        ("A zebra and a giraffe stand in a field", ["zebra", "giraffe", "field"]),
        ("a saw and a can of soda", ["saw", "can", "soda"]),
        ("A stop sign and a parking meter", ["stop sign", "parking meter"]),
        ("a wug and a blue dax", ["wug", "blue|dax"]),
        ("a red-haired woman", ["red-haired|woman"]),
        ("a heart shaped box", ["heart shaped|box"]),
        ("a gold colored ring and a cat shaped cookie", ["gold colored|ring", "cat shaped|cookie"]),
        ("a man shaped like a pear", ["man", "pear"]),
        ("a clay pot shaped by a potter", ["clay pot", "potter"]),
        # Nothing to be seen.
        ("it is raining", []),
        ("an empty street with nobody", ["empty|street"]),
        ("something beautiful", []),
        ("", []),
    ],
)
def test_phrases_of_prompts(prompt: str, expected: list[str]) -> None:
    assert found(prompt) == expected


@given(st.text() | st.lists(st.sampled_from(ANY)).map(" ".join))
def test_any_text_has_disjoint_phrases_in_order(prompt: str) -> None:
    members = [word for phrase in find_phrases(prompt) for word in (*phrase.adjectives, *phrase.nouns)]
    assert all(one.end <= two.start for one, two in pairwise(members))
    assert all(phrase.nouns for phrase in find_phrases(prompt))
    assert not any(word.is_mark for word in members)


def test_an_installed_spacy_model_is_the_tagger(monkeypatch: pytest.MonkeyPatch) -> None:
    tags = {"a": "DT", "blue": "JJ", "splork": "NN", "wugs": "VBZ", "cats": "NNS"}

    class English:
        vocab = "the model's vocabulary"

        def __call__(self, doc: tuple[str, list[str]]) -> list[types.SimpleNamespace]:
            assert doc[0] == self.vocab
            return [types.SimpleNamespace(tag_=tags[word]) for word in doc[1]]

    tokens = types.ModuleType("spacy.tokens")
    tokens.Doc = lambda vocab, words: (vocab, words)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spacy.tokens", tokens)
    monkeypatch.setitem(sys.modules, "spacy", types.ModuleType("spacy"))
    monkeypatch.setattr(taggers, "spacy_english", English)
    find.read.cache_clear()
    tagged = found("a blue splork wugs cats")
    find.read.cache_clear()
    assert tagged == ["blue|splork", "cats"]


@pytest.mark.parametrize(("installed", "loaded"), [(["de_x", "en_b", "en_a"], "en_a"), (["de_x"], None), ([], None)])
def test_the_spacy_model_is_the_first_english_one(
    installed: list[str], loaded: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    spacy = types.ModuleType("spacy")
    spacy.__spec__ = importlib.machinery.ModuleSpec("spacy", None)
    spacy.util = types.SimpleNamespace(get_installed_models=lambda: installed)  # type: ignore[attr-defined]
    spacy.load = lambda name: name  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spacy", spacy)
    assert taggers.spacy_model() == loaded
    assert taggers.in_use() == (
        f"spaCy with {loaded}" if loaded else "the bundled lexicon (no spaCy with an English model)"
    )


LISTS = Path(__file__).parent / "data"


@pytest.mark.parametrize(("name", "least"), [("prompts_held_out", 180), ("prompts_fresh", 90)])
def test_what_a_person_would_name(name: str, least: int) -> None:
    """The lists of prompts, by the lexicon alone; `python -m benchmarks.targets` lists the failures."""
    rows = listed(LISTS / f"{name}.tsv")
    assert len(rows) >= least
    wrong = [prompt for prompt, wanted in rows if heads(prompt) != wanted]
    assert len(wrong) <= len(rows) * 0.05, wrong


@pytest.mark.parametrize(
    ("prompt", "things", "excluded"),
    [
        ("a man without a hat", ["man"], ("hat",)),
        ("a dog, no leash", ["dog"], ("leash",)),
        ("a horse rather than a zebra", ["horse"], ("zebra",)),
        ("a cat not wearing a hat", ["cat"], ("hat",)),
        ("a wizard --ar 16:9 --no dog", ["wizard"], ("dog",)),
        ("a boy without a shirt and a girl", ["boy", "girl"], ("shirt",)),
        ("an empty room with no furniture except a piano", ["empty|room", "piano"], ("furniture",)),
    ],
)
def test_what_is_excluded_is_no_thing(prompt: str, things: list[str], excluded: tuple[str, ...]) -> None:
    assert found(prompt) == things
    assert read(prompt).excluded == excluded


@pytest.mark.parametrize(
    "prompt",
    [
        "ein Foto von einem Hund mit Hut",
        "一只猫和一只狗",
        "un perro con sombrero rojo",
        "un chat et un chien",
        "собака",
    ],
)
def test_other_languages_are_not_guessed_at(prompt: str) -> None:
    assert not read(prompt).is_english
    assert found(prompt) == []


@pytest.mark.parametrize("prompt", ["Leonardo da Vinci", "a wug and a blue dax", "", "🐱 and a dog", "coq au vin"])
def test_names_and_invented_words_are_no_other_language(prompt: str) -> None:
    assert read(prompt).is_english


def test_every_word_of_the_lexicon_is_found() -> None:
    """Against a table of all its lines; it is searched by halves, so its lines are sorted and each of them ends."""
    text = gzip.decompress(lexicon.DATA.read_bytes()).decode("ascii")
    lines = [line.split("\t") for line in text.splitlines()]
    assert text.endswith("\n")
    assert [line[0] for line in lines] == sorted(line[0] for line in lines)
    table: dict[str, list[list[str]]] = {}
    for word, *rest in lines:
        table.setdefault(word, []).append(rest)
    words = list(table)
    for word in (*words[:50], *words[::50], *words[-50:]):
        assert [list(line) for line in lexicon._lines_of(word)] == table[word]
    assert {word: lexicon.plural_of(word) for word in ("mice", "dogs", "men", "glass", "zzz")} == {
        "mice": "mouse", "dogs": "dog", "men": "man", "glass": None, "zzz": None,
    }  # fmt: skip
    assert lexicon.verb_of("sat") == ("sit", "ed")


@given(st.text(max_size=6))
def test_no_word_that_is_none_is_found(word: str) -> None:
    known = f"\n{word}\t" in f"\n{lexicon._text()}" and "\t" not in word and "\n" not in word
    assert bool(lexicon._lines_of(word)) == known
