"""The tokenizer of CLIP, which every Stable Diffusion has and no checkpoint carries with it."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

CONFIGS = Path(__file__).parent / "configs"
MERGES = CONFIGS / "clip_merges.txt.gz"
"""CLIP's 48,894 byte-pair merges in order of rank (Radford et al., 2021), under the licence that lies beside them."""
LENGTH = 77
START, END = "<|startoftext|>", "<|endoftext|>"


def clip_tokenizer(pad: str = END) -> Any:
    """CLIP's tokenizer, made from its merges.

    Args:
        pad: the token that fills up a short prompt. OpenAI's encoder was trained with the end token, those of OpenCLIP
            with "!", which is token 0.

    Returns:
        A `transformers.CLIPTokenizer` of 49,408 tokens, 77 a prompt.
    """
    from transformers import CLIPTokenizer

    merges = gzip.decompress(MERGES.read_bytes()).decode("utf-8").splitlines()
    letters = _byte_alphabet()
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *(merge.replace(" ", "") for merge in merges)]
    return CLIPTokenizer(
        vocab={token: i for i, token in enumerate([*tokens, START, END])},
        merges=[tuple(merge.split(" ")) for merge in merges],
        model_max_length=LENGTH,
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=pad,
    )


def _byte_alphabet() -> list[str]:
    """The 256 printable stand-ins for bytes, in the order in which CLIP numbers them: printable bytes first."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [*map(chr, printable), *(chr(256 + i) for i in range(256 - len(printable)))]
