"""Prompts that are weighted in transformers: the words' columns alone, in the prompt's rows."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny_families
from attnreg import AttnregError, regulate
from attnreg.attention.families import FAMILIES, family_of
from attnreg.methods.prompt_weighting import PromptWeighting
from attnreg.methods.structured_diffusion import StructuredDiffusion
from test_families import PROMPT, everything_in
from tiny_families import SMALL

WEIGHTED = [family.name for family in FAMILIES if "embedding" in family.kinds and family.name in tiny_families.FAMILIES]


@pytest.mark.parametrize("name", WEIGHTED)
def test_prompt_weighting(name: str) -> None:
    """Against `z_0 + w (z - z_0)` by hand, from the texts that the denoiser is given without the method."""
    pipe = tiny_families.FAMILIES[name]()
    family, denoiser = family_of(pipe)
    given: list[Tensor] = []
    original = denoiser.forward

    def draw(prompt: Any = PROMPT, **more: Any) -> Tensor:
        count = 1 if isinstance(prompt, str) else len(prompt)
        options = {"num_inference_steps": 2, "output_type": "latent"} | SMALL[name] | more
        if count > 1 and "negative_prompt" in options:
            options["negative_prompt"] = [options["negative_prompt"]] * count
        generators = [torch.Generator().manual_seed(seed) for seed in range(count)]
        return pipe(prompt=prompt, generator=generators, **options)[0]

    def forward(*args: Any, **kwargs: Any) -> Any:
        given.append(kwargs[family.text].clone())
        return original(*args, **kwargs)

    def texts(prompt: str, weight: float | None = None) -> list[Tensor]:
        """What the denoiser is given in each call."""
        given.clear()
        denoiser.forward = forward
        try:
            with nullcontext() if weight is None else regulate(pipe, config=PromptWeighting(weight=weight)):
                draw(prompt)
        finally:
            del denoiser.forward
        return list(given)

    plain, objects = draw(), everything_in(pipe)
    with regulate(pipe, config=PromptWeighting(weight=2.0)) as trace:
        during = draw()
    assert (trace.steps, trace.regulated_steps) == (2, 2)
    assert not torch.allclose(during, plain, rtol=0, atol=1e-6)
    assert objects == everything_in(pipe)
    for settings in ({"strength": 0.0}, {"window": (0.5, 0.5)}, {"weight": 1.0}):
        with regulate(pipe, config=PromptWeighting(**settings)):  # type: ignore[arg-type]
            assert torch.equal(draw(), plain)

    before, after, nothing = texts(PROMPT), texts(PROMPT, 2.0), texts("")
    columns = [column for target in trace.targets[0] for column in target.tokens]
    rows = [(number, row) for number, one in enumerate(before) for row in range(len(one))]
    changed = [(number, row) for number, row in rows if not torch.equal(before[number][row], after[number][row])]
    assert len(changed) == 2, "the prompt's own row in each of both steps"
    for number, row in changed:
        z, z_0, made = before[number][row], nothing[number][row], after[number][row]
        torch.testing.assert_close(made[columns], z_0[columns] + 2 * (z[columns] - z_0[columns]))
        others = [column for column in range(len(z)) if column not in columns]
        assert torch.equal(made[others], z[others])

    prompts, targets = [PROMPT, "a dog with a car and a clock"], [["cat"], ["clock", "dog"]]
    with regulate(pipe, targets, PromptWeighting(weight=2.0)):
        both = draw(prompts)
    with regulate(pipe, targets[0], PromptWeighting(weight=2.0)):
        torch.testing.assert_close(both[:1], draw(), rtol=1e-3, atol=1e-3)

    def fail(*_: Any) -> None:
        raise KeyboardInterrupt("on purpose")

    handle = next(denoiser.children()).register_forward_pre_hook(fail)
    with pytest.raises(KeyboardInterrupt, match="on purpose"), regulate(pipe, config=PromptWeighting()):
        draw()
    handle.remove()
    assert objects == everything_in(pipe)
    assert torch.equal(draw(), plain)

    lighter = PromptWeighting(weight=0.5)
    with pytest.raises(AttnregError, match="weight: expected 1 or more"), regulate(pipe, config=lighter):
        draw()
    with pytest.raises(AttnregError, match="which edits the values"):
        regulate(pipe, config=StructuredDiffusion()).__enter__()
