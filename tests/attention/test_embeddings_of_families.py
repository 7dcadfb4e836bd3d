"""Prompts that are weighted in transformers: the words' columns alone, in the prompt's rows, by the rule of compel."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny_families
from attnreg import AttnregError, regulate
from attnreg.attention.calls.received import part_of
from attnreg.attention.families import FAMILIES, family_of
from attnreg.attention.families.family import tokenizer_in
from attnreg.methods.prompt_weighting import PromptWeighting
from attnreg.methods.structured_diffusion import StructuredDiffusion
from attnreg.trace import Trace
from test_families import PROMPT, everything_in
from tiny_families import SMALL

WEIGHTED = [family.name for family in FAMILIES if "embedding" in family.kinds and family.name in tiny_families.FAMILIES]
ALL, BALLOON = PROMPT, "blue balloon"
Given = list[Tensor]
"""The text of every row of every call of the denoiser."""


def draw(name: str, pipe: Any, prompt: Any = PROMPT, **options: Any) -> Tensor:
    settings = {"num_inference_steps": 2, "output_type": "latent"} | SMALL[name] | options
    return tiny_families.drawn(pipe, prompt, settings)


@contextmanager
def noting(pipe: Any) -> Iterator[Given]:
    """What the denoiser is given of the texts in each row."""
    family, denoiser = family_of(pipe)
    given: Given = []
    original = denoiser.forward
    names = list(inspect.signature(original).parameters)

    def forward(*args: Any, **kwargs: Any) -> Any:
        given.extend(one.clone() for one in (dict(zip(names, args, strict=False)) | kwargs)[family.text])
        return original(*args, **kwargs)

    denoiser.forward = forward
    try:
        yield given
    finally:
        del denoiser.forward


@contextmanager
def read_otherwise(pipe: Any, words: str, change: Callable[[Any, Any, Sequence[int], Any], None]) -> Iterator[None]:
    """Every text encoder is given the prompt's ids and mask after `change` has written to them at those words."""
    family, _ = family_of(pipe)
    names = {one.model: one.tokenizer for one in family.encoders}

    def hook(tokenizer: Any, args: Any, kwargs: Any) -> Any:
        ids = kwargs.pop("input_ids", None)
        ids = (args[0] if ids is None else ids).clone()
        mask = kwargs.pop("attention_mask", args[1] if len(args) > 1 else None)
        mask = torch.ones_like(ids) if mask is None else mask.clone()
        _, *own = tokenizer(PROMPT, add_special_tokens=False)["input_ids"]  # the first may be another behind a space
        # The words are the prompt's last ones.
        first = len(tokenizer(PROMPT.removesuffix(words).strip(), add_special_tokens=False)["input_ids"]) - 1
        for row, text in enumerate(ids.tolist()):
            starts = [at for at in range(len(text)) if text[at : at + len(own)] == own]
            for at in starts[-1:]:
                of_words = [one for one in range(at + first, at + len(own)) if tokenizer.decode([text[one]]).strip()]
                change(ids, mask, (row, *of_words), tokenizer)
        return (ids,), kwargs | {"attention_mask": mask}

    with ExitStack() as hooks:
        for model, tokenizer in names.items():
            encoder, held = part_of(pipe, model), tokenizer_in(getattr(pipe, tokenizer))
            one = encoder.register_forward_pre_hook(
                lambda _, args, kwargs, held=held: hook(held, args, kwargs), with_kwargs=True
            )
            hooks.callback(one.remove)
        yield


def emptied(ids: Any, _: Any, at: Sequence[int], tokenizer: Any) -> None:
    row, *tokens = at
    ids[row, tokens] = tokenizer.pad_token_id


def hidden(_: Any, mask: Any, at: Sequence[int], tokenizer: Any) -> None:
    row, *tokens = at
    mask[row, tokens] = 0


@pytest.mark.parametrize("name", WEIGHTED)
def test_agrees_with_the_rule_by_hand(name: str) -> None:
    """Against what the denoiser is given where the text encoders are given other tokens, or another mask, by hand."""
    pipe = tiny_families.FAMILIES[name]()

    def given(targets: Any = None, weight: float = 1.0) -> tuple[Given, Trace]:
        with noting(pipe) as texts, regulate(pipe, targets, PromptWeighting(weight=weight)) as trace:
            draw(name, pipe)
        return texts, trace

    before, _ = given()
    heavier, trace = given(weight=2.0)
    lighter, _ = given([BALLOON], weight=0.5)
    with noting(pipe) as nothing, read_otherwise(pipe, ALL, emptied):
        draw(name, pipe)
    with noting(pipe) as without, read_otherwise(pipe, BALLOON, hidden):
        draw(name, pipe)

    rows = [row for row, (one, other) in enumerate(zip(before, heavier, strict=True)) if not torch.equal(one, other)]
    assert len(rows) == 2, "the prompt's own row in each of both steps"
    assert rows == [row for row, (a, b) in enumerate(zip(before, lighter, strict=True)) if not torch.equal(a, b)]
    columns = sorted(column for target in trace.targets[0] for column in target.tokens)
    for row in rows:
        z, z_0, z_t = before[row], nothing[row], without[row]
        others = [column for column in range(len(z)) if column not in columns]
        assert torch.equal(heavier[row][others], z[others])
        assert all((z - z_0)[column].abs().max() > 1e-3 for column in columns)
        torch.testing.assert_close(heavier[row][columns], 2 * z[columns] - z_0[columns], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(lighter[row], (z + z_t) / 2, rtol=1e-4, atol=1e-5)
        assert (z_t - z).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["Stable Diffusion 3", "Qwen-Image", "Z-Image"])
def test_before_during_after(name: str) -> None:
    """Texts in one tensor, filled up to the longest of a batch, and in a list."""
    pipe = tiny_families.FAMILIES[name]()
    plain, objects = draw(name, pipe), everything_in(pipe)
    with regulate(pipe, config=PromptWeighting(weight=2.0)) as trace:
        during = draw(name, pipe)
    assert (trace.steps, trace.regulated_steps) == (2, 2)
    assert not torch.allclose(during, plain, rtol=0, atol=1e-6)
    assert objects == everything_in(pipe)
    for settings in ({"strength": 0.0}, {"window": (0.5, 0.5)}, {"weight": 1.0}):
        with regulate(pipe, config=PromptWeighting(**settings)):  # type: ignore[arg-type]
            assert torch.equal(draw(name, pipe), plain)

    prompts, targets = [PROMPT, "a dog with a car and a clock"], [["cat"], ["clock", "dog"]]
    for weight in (2.0, 0.5):
        with regulate(pipe, targets, PromptWeighting(weight=weight)):
            both = draw(name, pipe, prompts)
        with regulate(pipe, targets[0], PromptWeighting(weight=weight)):
            torch.testing.assert_close(both[:1], draw(name, pipe), rtol=1e-3, atol=1e-3)

    def fail(*_: Any) -> None:
        raise KeyboardInterrupt("on purpose")

    layer = next(one for one in family_of(pipe)[1].modules() if isinstance(one, nn.Linear))
    handle = layer.register_forward_pre_hook(fail)
    with pytest.raises(KeyboardInterrupt, match="on purpose"), regulate(pipe, config=PromptWeighting()):
        draw(name, pipe)
    handle.remove()
    assert objects == everything_in(pipe)
    assert torch.equal(draw(name, pipe), plain)
    with pytest.raises(AttnregError, match="which edits the values"):
        regulate(pipe, config=StructuredDiffusion()).__enter__()
