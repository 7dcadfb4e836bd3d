"""The prompts of one call of a pipeline, and what is to be heeded in each."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any

from attnreg.attention.families import tokenizer_of
from attnreg.attention.families.family import Family
from attnreg.phrases import find_phrases
from attnreg.regulation.edit import PromptColumns, PromptWords
from attnreg.targets import Encoded, TargetSpec, end_of_text, find_targets, nothing_found, targets_in
from attnreg.types import AttnregError


def prompts_in(given: Mapping[str, Any]) -> list[str] | None:
    """The prompts that `encode_prompt` is given, copied: some pipelines write into the list; `None` if it has none.

    Raises `AttnregError` for two prompts that are read as one.
    """
    if given.get("prompt") is None:
        return None
    first = _listed(given["prompt"])
    for name in ("prompt_2", "prompt_3", "prompt_4"):
        if given.get(name) is not None and _listed(given[name]) != first:
            raise AttnregError(
                f"expected one prompt for all text encoders, got a {name} that differs from prompt; "
                f"leave {name} out, or put every word that must be heeded into prompt"
            )
    return first


def _listed(prompts: Any) -> list[str]:
    return [prompts] if isinstance(prompts, str) else list(prompts)


def words_of_prompts(
    pipe: Any, family: Family, prompts: Sequence[str], targets: Any, adjectives: bool
) -> list[PromptWords | None]:
    """The words of each prompt by the pipeline's tokenizer.

    `None` where nothing is to be heeded: a prompt that names no thing (a warning says so), or an empty list of targets
    for one of several prompts.

    Raises `AttnregError` for a target that cannot be found.
    """
    wanted = wanted_of(targets, len(prompts))
    return [
        None if named == [] else _words_of(pipe, family, prompt, named, adjectives)
        for prompt, named in zip(prompts, wanted, strict=True)
    ]


def words_received(
    prompts: Sequence[Encoded], targets: Any, adjectives: bool, name_nothing: Callable[[str], None]
) -> list[PromptWords | None]:
    """The words of each prompt as text encoders received it; `name_nothing` is told of one that names no thing.

    Else as `words_of_prompts`.
    """
    words: list[PromptWords | None] = []
    for prompt, named in zip(prompts, wanted_of(targets, len(prompts)), strict=True):
        if named is None and not find_phrases(prompt.prompt):
            name_nothing(prompt.prompt)
            named = []
        if named == []:
            words.append(None)
            continue
        found = targets_in(prompt, named, adjectives)
        own = tuple(column for column, span in enumerate(prompt.spans) if span is not None)
        columns = PromptColumns(tuple(target.tokens for target in found), words=own)
        words.append(PromptWords(columns, found, prompt.prompt))
    return words


def wanted_of(targets: Any, count: int) -> list[Sequence[TargetSpec] | None]:
    """The targets of each of so many prompts, as the caller names them; an empty list for one of several means none."""
    if targets is None or not any(_is_list(entry) for entry in targets):
        if targets is not None and not len(targets):
            raise AttnregError("expected targets, got an empty list; name words of the prompt, or pass None")
        return [targets] * count
    if len(targets) != count:
        raise AttnregError(
            f"expected one list of targets for each of the {count} prompts, got {len(targets)}; "
            "give one list for all prompts or one a prompt"
        )
    return [None if one is None else list(one) for one in targets]


def warn_unmodified(prompt: str) -> None:
    """Say of a prompt that names no thing that it is drawn as it is."""
    warnings.warn(f"attnreg: drawn unmodified: {nothing_found(prompt)}", stacklevel=2)


def _words_of(
    pipe: Any, family: Family, prompt: str, wanted: Sequence[TargetSpec] | None, adjectives: bool
) -> PromptWords | None:
    if wanted is None and not find_phrases(prompt):
        warn_unmodified(prompt)
        return None
    tokenizer = tokenizer_of(pipe, family)
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
