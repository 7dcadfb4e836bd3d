"""The prompts of one call of a pipeline, and what is to be heeded in each."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from numbers import Integral
from typing import Any

from attnreg.phrases import find_phrases
from attnreg.regulation.edit import PromptColumns, PromptWords
from attnreg.targets import TargetSpec, end_of_text, find_targets, nothing_found
from attnreg.types import AttnregError


def words_of_prompts(pipe: Any, given: dict[str, Any], targets: Any, adjectives: bool) -> list[PromptWords | None]:
    """The words of each prompt that `encode_prompt` is given.

    `None` where nothing is to be heeded: a prompt that names no thing (a warning says so), or an empty list of targets
    for one of several prompts.

    Raises `AttnregError` for a target that cannot be found, and for two prompts that are read as one.
    """
    prompts = given["prompt"]
    if given.get("prompt_2") not in (None, prompts):
        raise AttnregError(
            "expected one prompt for both text encoders, got a prompt_2 that differs from prompt; "
            "leave prompt_2 out, or put every word that must be heeded into prompt"
        )
    prompts = [prompts] if isinstance(prompts, str) else list(prompts)
    each_its_own = targets is not None and any(_is_list(entry) for entry in targets)
    if not each_its_own:
        wanted: Sequence[Sequence[TargetSpec] | None] = [targets] * len(prompts)
    elif len(targets) != len(prompts):
        raise AttnregError(
            f"expected one list of targets for each of the {len(prompts)} prompts, got {len(targets)}; "
            "give one list for all prompts or one a prompt"
        )
    else:
        wanted = targets
    return [
        None if each_its_own and named is not None and not len(named) else _words_of(pipe, prompt, named, adjectives)
        for prompt, named in zip(prompts, wanted, strict=True)
    ]


def _words_of(pipe: Any, prompt: str, wanted: Sequence[TargetSpec] | None, adjectives: bool) -> PromptWords | None:
    if wanted is None and not find_phrases(prompt):
        warnings.warn(f"attnreg: drawn unmodified: {nothing_found(prompt)}", stacklevel=2)
        return None
    tokenizer = pipe.tokenizer
    if hasattr(pipe, "maybe_convert_prompt"):
        prompt = pipe.maybe_convert_prompt(prompt, tokenizer)
    targets = find_targets(prompt, tokenizer, wanted, adjectives=adjectives)
    columns = PromptColumns(
        tuple(target.tokens for target in targets), start_of_text=0, end_of_text=end_of_text(prompt, tokenizer)
    )
    return PromptWords(columns, targets, prompt)


def _is_list(entry: Any) -> bool:
    """Whether an entry of `targets` is a prompt's own list (or None for "find them"), not one target."""
    return (
        entry is None
        or isinstance(entry, list)
        or (isinstance(entry, tuple) and any(not isinstance(part, Integral) for part in entry))
    )
