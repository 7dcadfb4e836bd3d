"""Initial noises that are followed and chosen under flow matching, whose latents may be a sequence of patches."""

from __future__ import annotations

import pytest
import torch
from test_family_company import PIPELINES
from torch import Tensor

import tiny_transformers
from attnreg import AttnregError, regulate
from attnreg.regulation.best_start import BestStart
from attnreg.regulation.noises import noises_like
from test_families import PROMPT, SMALL

FOLLOWED = ("Stable Diffusion 3", "FLUX")
"""Families under flow matching whose starts can be followed."""
OPTIONS = SMALL | {"FLUX": SMALL["FLUX"] | {"true_cfg_scale": 1.0}}
"""Without guidance by calls of their own."""


@pytest.mark.parametrize("name", FOLLOWED)
@pytest.mark.parametrize("guidance_scale", [1.0, 7.0])
def test_a_start_that_is_kept_under_flow_matching_is_followed_once(name: str, guidance_scale: float) -> None:
    """The picture is the unmodified one to the bit, and what was predicted while it was followed is not asked again."""
    pipe = tiny_transformers.FAMILIES[name]()
    options = OPTIONS[name] | {"num_inference_steps": 6, "guidance_scale": guidance_scale}

    def drawn() -> Tensor:
        return pipe(PROMPT, generator=torch.Generator().manual_seed(0), output_type="latent", **options).images

    plain, rows = drawn(), list[int]()
    handle = pipe.transformer.transformer_blocks[0].register_forward_hook(
        lambda _, __, kwargs, output: rows.append(len(kwargs["hidden_states"])), with_kwargs=True
    )
    with regulate(pipe, config=BestStart(enough=0.0)) as trace:
        kept = drawn()
    handle.remove()
    assert torch.equal(kept, plain)
    (start,) = trace.starts
    assert (start.chosen, start.spared, len(start.scores)) == (0, True, 1)
    each = 2 if guidance_scale > 1.0 and name == "Stable Diffusion 3" else 1
    # Its own steps, once; and one pass that reads the picture under the prompt and two others.
    assert sorted(rows) == sorted([each] * 6 + [3])


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_a_kept_start_has_the_bits_of_another_backend() -> None:
    """What is looked at on the way is asked of torch's own function; what the pipeline is handed back is not."""
    pipe = tiny_transformers.FAMILIES["FLUX"]()
    for module in pipe.transformer.modules():
        if hasattr(module, "processor"):
            module.processor._attention_backend = "flex"
    options = OPTIONS["FLUX"] | {"num_inference_steps": 3, "output_type": "latent"}
    plain = pipe(PROMPT, generator=torch.Generator().manual_seed(0), **options).images
    with regulate(pipe, config=BestStart(enough=0.0)) as trace:
        kept = pipe(PROMPT, generator=torch.Generator().manual_seed(0), **options).images
    assert trace.starts[0].spared
    assert torch.equal(kept, plain)


@pytest.mark.parametrize("name", FOLLOWED)
def test_another_start_under_flow_matching_is_drawn_as_the_pipeline_draws_it(name: str) -> None:
    """Drawn from the latents that were chosen, the unmodified model makes the same picture."""
    pipe = tiny_transformers.FAMILIES[name]()
    options = OPTIONS[name] | {"num_inference_steps": 4, "output_type": "latent"}
    given: list[Tensor] = []
    handle = pipe.transformer.register_forward_pre_hook(
        lambda _, args, kwargs: given.append(kwargs["hidden_states"][0].clone()), with_kwargs=True
    )
    pipe(PROMPT, generator=torch.Generator().manual_seed(0), **options)
    handle.remove()
    with regulate(pipe, config=BestStart(enough=1e9, good=1e9, starts=3)) as trace:
        drawn = pipe(PROMPT, generator=torch.Generator().manual_seed(0), **options).images
    (start,) = trace.starts
    assert len(start.scores) == 3
    best = noises_like(given[0], 3, BestStart().strength)
    chosen = next(one for number, one in enumerate(best) if number == start.chosen)
    again = pipe(PROMPT, latents=chosen.unsqueeze(0), **options).images
    torch.testing.assert_close(drawn, again, rtol=1e-4, atol=1e-4)


def test_a_start_that_cannot_be_followed_says_why() -> None:
    """Guidance by calls of its own. The default does another thing there."""
    pipe = tiny_transformers.FAMILIES["FLUX"]()
    options = SMALL["FLUX"] | {"num_inference_steps": 2, "true_cfg_scale": 3.0, "negative_prompt": "a dog"}
    with regulate(pipe, config=BestStart()), pytest.raises(AttnregError, match="guidance within one call"):
        pipe(PROMPT, **options)
    with regulate(pipe) as trace:
        pipe(PROMPT, **options)
    assert [one.method for one in trace.decisions] == ["attention-balance"]
    assert "guides by calls of their own" in trace.decisions[0].reason


@pytest.mark.parametrize("name", ["FLUX Fill", "FLUX Control", "FLUX Kontext"])
def test_what_is_given_beside_the_latents_is_not_followed(name: str) -> None:
    make, options = PIPELINES[name]
    pipe = make()
    with regulate(pipe) as trace:
        pipe(prompt=PROMPT, generator=torch.Generator().manual_seed(0), **options)
    (decision,) = trace.decisions
    assert decision.method == "attention-balance"
    assert "beside the latents" in decision.reason or "begins from a picture" in decision.reason
