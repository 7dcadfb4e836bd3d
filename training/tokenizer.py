"""Tokenizers, CLIP's and T5's, trimmed to the words that the bundled models know: all else is letters."""

from __future__ import annotations

from transformers import CLIPTokenizer, T5Tokenizer

from training.words import COLOURS, GLUE, NOUNS, SETTING

START, END = "<|startoftext|>", "<|endoftext|>"
MAX_LENGTH = 32
"""Columns of the text encoder: room for four things with their colours."""
T5_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789,.'-"
NEXT_RING = (
    "flat", "style", "left", "right", "to", "under", "above", "four", "cats", "dogs", "apples", "photo", "picture",
    "next",
)  # fmt: skip
"""Words with a token of their own already, so that later models can learn them without new columns."""


def byte_alphabet() -> list[str]:
    """The 256 printable stand-ins for bytes of GPT-2's and CLIP's byte-level encoding, in byte order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def merges_for(words: list[str]) -> list[tuple[str, str]]:
    """Byte-pair merges under which each word becomes one token.

    A word's merges are added after all earlier ones, and the pieces it starts from are those that the earlier ones
    leave: a later merge never acts before an earlier one, so no word breaks another.
    """
    merges: list[tuple[str, str]] = []
    for word in words:
        pieces = split(word, merges)
        while len(pieces) > 1:
            merges.append((pieces[0], pieces[1]))
            pieces = [pieces[0] + pieces[1], *pieces[2:]]
    return merges


def split(word: str, merges: list[tuple[str, str]]) -> list[str]:
    """The word's pieces under byte-pair merges in order of rank; the last piece carries the end-of-word mark."""
    pieces = [*word[:-1], f"{word[-1]}</w>"]
    for first, second in merges:
        i = 0
        while i < len(pieces) - 1:
            if (pieces[i], pieces[i + 1]) == (first, second):
                pieces[i : i + 2] = [first + second]
            i += 1
    return pieces


def new_tokenizer() -> CLIPTokenizer:
    """The tokenizer as `StableDiffusionPipeline` expects it; padding is the end-of-text token, as there."""
    words = [word for word in (*NOUNS, *COLOURS, *GLUE, *SETTING, *NEXT_RING) if len(word) > 1]
    merges = merges_for(words)
    letters = byte_alphabet()
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *dict.fromkeys(a + b for a, b in merges), START, END]
    return CLIPTokenizer(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=merges,
        model_max_length=MAX_LENGTH,
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=END,
    )


def new_t5_tokenizer() -> T5Tokenizer:
    """T5's tokenizer over the same words: a mark stands where a word begins, and `</s>` ends a text."""
    words = dict.fromkeys((*NOUNS, *COLOURS, *GLUE, *SETTING, *NEXT_RING))
    likely = {"▁": -9.0} | {f"▁{word}": -2.0 for word in words} | {letter: -10.0 for letter in T5_LETTERS}
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    return T5Tokenizer(vocab=[*special, *likely.items()], extra_ids=0)
