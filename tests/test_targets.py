"""Targets of prompts under three kinds of tokenizer: byte pairs (CLIP's own class), SentencePiece-like, whole words."""

from __future__ import annotations

import string
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import CLIPTokenizer, PreTrainedTokenizerFast

from attnreg.phrases import taggers
from attnreg.targets import end_of_text, find_targets
from attnreg.types import AttnregError

LENGTH = 32
START, END = "<|startoftext|>", "<|endoftext|>"
# How byte pairs write the words of the tests; a word not listed falls apart into letters.
SPLITS = """a and an of the with red blue black white cat cats cat|tle dog dog s apple t shirt umb|rella ele|phant
    tea|pot bag painting"""
WORDS = ["cat", "dog", "umbrella", "elephant", "teapot", "t-shirt", "blue", "cattle", "and", "a", "of"]


def byte_pairs(**options: Any) -> CLIPTokenizer:
    """CLIP's tokenizer with a small vocabulary, in which some words are one token and others two."""
    merges: list[tuple[str, str]] = []
    pieces = [piece for word in SPLITS.split() for piece in [*word.split("|")[:-1], word.split("|")[-1] + "</w>"]]
    for piece in [*pieces, "'s</w>"]:
        letters = [*piece.removesuffix("</w>")]
        letters[-1] += "</w>" if piece.endswith("</w>") else ""
        for end in range(1, len(letters)):
            merges.append(("".join(letters[:end]), letters[end]))
    characters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*characters, *(c + "</w>" for c in characters), *(a + b for a, b in merges), START, END]
    vocab = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocab, merges=list(dict.fromkeys(merges)), model_max_length=LENGTH, **options)


def sentence_pieces(**options: Any) -> PreTrainedTokenizerFast:
    """Like T5's: spaces are part of the pieces, no start token, case is kept."""
    pieces = [
        "▁a",
        "▁cat",
        "▁dog",
        "▁dogs",
        "▁um",
        "brella",
        "▁blue",
        "▁Blue",
        "▁t",
        "shirt",
        "▁and",
        "▁ele",
        "phant",
        "▁of",
    ]
    scores = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -4.0), *((piece, -2.0) for piece in pieces)]
    scores += [(letter, -6.0) for letter in string.ascii_letters + string.punctuation]
    made = Tokenizer(models.Unigram(scores, unk_id=2))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    special = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, **{"model_max_length": LENGTH, **special, **options})


def whole_words() -> PreTrainedTokenizerFast:
    """Few words, whole; everything else is the unknown token, which is the end-of-text token as with CLIP."""
    words = [START, END, "a", "cat", "dog", "and", "red", "car"]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=END))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, 0), (END, 1)]
    )
    special = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=LENGTH, **special)


CLIP, T5 = byte_pairs(), sentence_pieces()
SPACE_LESS = {CLIP: "</w>", T5: "▁"}


@pytest.fixture(autouse=True, scope="module")
def _lexicon_only() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(taggers, "spacy_english", lambda: None)
        yield


def columns(prompt: str, targets: Any = None, tokenizer: Any = CLIP, **options: Any) -> dict[str, tuple[int, ...]]:
    return {target.text: target.tokens for target in find_targets(prompt, tokenizer, targets, **options)}


# Words and phrases the caller names.


@pytest.mark.parametrize(
    ("prompt", "spec", "expected"),
    [
        ("a cat and a dog", "dog", {"dog": (5,)}),
        ("a blue umbrella", "umbrella", {"umbrella": (3, 4)}),
        ("a blue umbrella", "blue umbrella", {"blue umbrella": (2, 3, 4)}),
        ("a BLUE\n Umbrella", "blue umbrella", {"BLUE Umbrella": (2, 3, 4)}),
        ("a T-Shirt", "t-shirt", {"T-Shirt": (2, 3, 4)}),
        ("a dog's  apple", "dog", {"dog": (2,)}),
        ("a dog's  apple", "dog's", {"dog's": (2, 3)}),
        ("a dog's  apple", "apple", {"apple": (4,)}),
        ("cattle, a cat", "cat", {"cat": (5,)}),
        ("a dog and a dog", "dog", {"dog": (2,)}),
        ("a dog and a dog", "dog#1", {"dog": (2,)}),
        ("a dog and a dog", "dog#2", {"dog#2": (5,)}),
        ("a black and white dog", "black and white dog", {"black and white dog": (2, 3, 4, 5)}),
        ("a dog", 2, {"dog": (2,)}),
        ("a blue umbrella", (3, 4), {"umbrella": (3, 4)}),
        ("a blue umbrella", [4], {"rella": (4,)}),
        ("a dog and a dog", 5, {"dog#2": (5,)}),
        ("a dog and a cat", (5, 2), {"dog and a cat": (2, 5)}),
    ],
)
def test_a_named_target(prompt: str, spec: Any, expected: dict[str, tuple[int, ...]]) -> None:
    assert columns(prompt, [spec]) == expected


def test_targets_keep_the_callers_order_and_carry_their_pieces() -> None:
    dog, umbrella = find_targets("a blue umbrella and a dog", CLIP, ["dog", "umbrella"])
    assert (dog.text, dog.pieces) == ("dog", ("dog</w>",))
    assert (umbrella.text, umbrella.pieces) == ("umbrella", ("umb", "rella</w>"))


@pytest.mark.parametrize("text", ["café", "cafe\u0301", "naïve", "🐱", "👩‍🚀", "猫", "STRASSE", "o'clock"])
def test_text_beyond_ascii_gets_its_own_tokens_and_no_others(text: str) -> None:
    prompt = f"a dog  {text} \n and a CAT"
    (target,) = find_targets(prompt, CLIP, [text])
    assert target.text == text
    assert target.tokens == tuple(range(3, 3 + len(target.tokens)))
    assert target.tokens[-1] + 3 == find_targets(prompt, CLIP, ["cat"])[0].tokens[0]


def test_sentence_pieces_by_their_offsets() -> None:
    assert columns("a Blue umbrella,  a dog's t-shirt", ["blue umbrella", "dog", "T-shirt"], T5) == {
        "Blue umbrella": (1, 2, 3),
        "dog": (7,),
        "t-shirt": (10, 11, 12),
    }


def test_left_padding_moves_the_columns() -> None:
    tokenizer = sentence_pieces(padding_side="left")
    (target,) = find_targets("a dog", tokenizer, ["dog"])
    assert target.tokens == (LENGTH - 2,)


def test_a_tokenizer_without_a_limit_reads_everything() -> None:
    tokenizer = sentence_pieces(model_max_length=10**30)
    assert columns("a " * 100 + "dog", ["dog"], tokenizer) == {"dog": (100,)}
    assert end_of_text("a dog", tokenizer) == 2


def test_an_exclamation_mark_that_is_also_the_padding_token() -> None:
    tokenizer = byte_pairs(pad_token="!")
    assert columns("a dog! a cat!", None, tokenizer) == {"dog": (2,), "cat": (5,)}
    assert end_of_text("a dog! a cat!", tokenizer) == 7


@given(
    st.sampled_from([CLIP, T5]),
    st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from([" ", "  ", "\n", ", "])), min_size=1, max_size=8),
    st.data(),
)
def test_the_tokens_of_a_word_spell_the_word(tokenizer: Any, parts: list[tuple[str, str]], data: st.DataObject) -> None:
    prompt = "".join(word + gap for word, gap in parts)
    at = data.draw(st.integers(0, len(parts) - 1))
    word = parts[at][0]
    nth = [other for other, _ in parts[: at + 1]].count(word)
    (target,) = find_targets(prompt, tokenizer, [f"{word}#{nth}"], max_length=256)
    assert "".join(target.pieces).replace(SPACE_LESS[tokenizer], "") == word
    assert target.tokens == tuple(range(target.tokens[0], target.tokens[-1] + 1))


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=8, unique=True))
def test_different_words_share_no_token_and_leave_none_over(words: list[str]) -> None:
    found = find_targets(" ".join(words), CLIP, words, max_length=256)
    held = [column for target in found for column in target.tokens]
    assert held == list(range(1, end_of_text(" ".join(words), CLIP, max_length=256)))


# Targets found.


def test_noun_phrases_become_targets() -> None:
    assert columns("A painting of a blue umbrella and the dog") == {"blue umbrella": (5, 6, 7), "dog": (10,)}
    assert columns("A painting of a blue umbrella and the dog", adjectives=False) == {"umbrella": (6, 7), "dog": (10,)}
    assert columns("a black and white dog") == {"black and white dog": (2, 4, 5)}


def test_each_occurrence_is_a_target_with_a_name_of_its_own() -> None:
    assert columns("a dog and a red dog and a dog") == {"dog": (2,), "red dog": (5, 6), "dog#3": (9,)}
    assert columns("a dog and a red dog", adjectives=False) == {"dog": (2,), "dog#2": (6,)}


def test_what_the_model_cannot_read_is_left_out() -> None:
    """And the user is told so."""
    with pytest.warns(UserWarning, match="not regulated.*: cat; shorten"):
        assert columns("a dog" + " and" * 40 + " a cat") == {"dog": (2,)}
    with pytest.warns(UserWarning, match="not regulated.*: zebra; shorten"):
        assert columns("a dog and a zebra and a cat", None, whole_words()) == {"dog": (2,), "cat": (8,)}


@pytest.mark.filterwarnings("ignore:attnreg. not regulated")  # some of these prompts are longer than 32 tokens
@given(
    st.lists(st.sampled_from([*WORDS, "red", "the", "with", "riding", "black", "very", ","]), max_size=24),
    st.booleans(),
)
def test_found_targets_are_disjoint_ascending_and_found_again_by_name(words: list[str], adjectives: bool) -> None:
    prompt = " ".join(words)
    try:
        found = find_targets(prompt, CLIP, adjectives=adjectives)
    except AttnregError:
        return
    held = [column for target in found for column in target.tokens]
    assert all(one < two for one, two in pairwise(held))
    assert {*held} <= {*range(1, end_of_text(prompt, CLIP))}
    assert len({target.text for target in found}) == len(found)
    for target in found:
        (again,) = find_targets(prompt, CLIP, [target.text])
        assert {again.tokens[0], again.tokens[-1], *target.tokens} <= {*again.tokens}
        assert (again.tokens[0], again.tokens[-1]) == (target.tokens[0], target.tokens[-1])


def test_what_the_prompt_excludes_is_named_in_a_warning() -> None:
    with pytest.warns(UserWarning, match="shall not be there: cat; .*negative prompt"):
        assert columns("a dog without a cat") == {"dog": (2,)}


# What is refused, and what the message says to do.


@pytest.mark.parametrize(
    ("prompt", "targets", "message"),
    [
        ("a bag and an apple", ["appel"], "matches 'appel'; did you mean 'apple'? words: a, bag, and, an, apple"),
        ("a red bag", ["blue bag"], "did you mean 'red bag'?"),
        ("two dogs", ["dog"], "no token of the prompt matches 'dog'; did you mean 'dogs'?"),
        ("scattered cattle", ["cat"], "no token of the prompt matches 'cat'"),
        ("a dog", [""], "no token of the prompt matches ''"),
        ("a dog", ["dog#2"], "expected one of the 1 occurrences of 'dog' in the prompt, got 'dog#2'; write 'dog'"),
        (
            "a dog, a dog",
            ["dog#0"],
            "one of the 2 occurrences of 'dog' in the prompt, got 'dog#0'; write 'dog#1' to 'dog#2'",
        ),
        ("a dog", [], "expected at least one target, got an empty list"),
        ("a dog", "dog", r"expected a list of targets, got the string 'dog'; write targets=['dog']"),
        ("a dog", ["dog", "Dog"], "expected each target once, got dog (tokens 2) twice; leave one out"),
        ("a dog, a dog", ["dog", "dog"], "for the next occurrence write 'dog#2'"),
        (
            "a red dog",
            ["red dog", "dog"],
            "share no token, got red dog (tokens 2, 3) and dog (tokens 3); leave one out",
        ),
        ("a red dog", ["dog", (2, 3)], "share no token"),
        (
            "a" + " a" * 40 + " dog",
            ["dog"],
            "'dog' lies beyond the 32 tokens the text encoder reads, which end with 'a a",
        ),
        ("a" + " a" * 28 + " umbrella", ["umbrella"], "'umbrella' lies beyond the 32 tokens"),
        ("a dog", [0], "got 0 (the start token); choose from: 1 a</w>, 2 dog</w>"),
        ("a dog", [3], "got 3 (end-of-text or padding)"),
        ("a dog", [32], "got 32 (outside 0 to 31)"),
        ("a dog", [-1], "got -1 (outside 0 to 31)"),
        ("a dog", [()], "got none"),
        ("a dog", [True], "expected a target as text or as token columns, got True"),
        ("ein Foto von einem Hund mit Hut", None, "does not look English"),
        ("a dog", [(2, 2)], "expected each token column once, got (2, 2)"),
        ("so it goes", None, "no noun found in 'so it goes'; name the words: targets=[...]"),
        ("", None, "no noun found in ''"),
        ("and " * 40 + "a dog", None, "no noun that the tokenizer knows and keeps found"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(prompt: str, targets: Any, message: str) -> None:
    with pytest.raises(AttnregError) as raised:
        find_targets(prompt, CLIP, targets)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_word_the_vocabulary_lacks_is_refused() -> None:
    with pytest.raises(AttnregError, match="vocabulary lacks 'purple', so the model cannot read 'purple car'"):
        find_targets("a red cat and a purple car", whole_words(), ["purple car"])


def test_a_tokenizer_without_offsets_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(AttnregError, match="expected a tokenizer with character offsets, got Slow; load the fast one"):
        find_targets("a dog", Slow(), ["dog"])


# The end of the text.


@pytest.mark.parametrize(("prompt", "column"), [("", 1), ("a dog", 3), ("a dog's", 4), ("a " * 100, LENGTH - 1)])
def test_end_of_text(prompt: str, column: int) -> None:
    assert end_of_text(prompt, CLIP) == column


def test_end_of_text_is_not_an_unknown_word() -> None:
    assert end_of_text("a zebra and a dog", whole_words()) == 6


def test_a_tokenizer_that_ends_no_text_is_refused() -> None:
    tokenizer = sentence_pieces()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    with pytest.raises(AttnregError, match="expected an end-of-text token after 'a dog', got none"):
        end_of_text("a dog", tokenizer)
