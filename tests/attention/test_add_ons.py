"""Regulation in company of what people add to a pipeline: heeded, exact at strength 0, and nothing left behind.

The table of docs/add-ons.md is made from the ids of these tests: `python -m benchmarks.add_ons`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import diffusers
import pytest
import test_missing_add_ons
import tomesd
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn
from torch.nn import functional as F

import test_embeddings_beside
from add_ons import ADD_ONS, MODELS, OTHERS, STEPS, attention_slicing, built, compiled_blocks, denoiser, draw
from attnreg import AttnregError, apply_attention_regulation, configure, regulate, remove_attention_regulation
from attnreg.attention.layers.catch import place_of_forward
from attnreg.attention.layers.stand_in import StandIn
from attnreg.regulation.balance import AttentionBalance
from benchmarks.add_ons import table as add_ons_table
from test_families import Noted, calls  # noqa: F401  (a fixture)

CASES = [(name, model) for name, add_on in ADD_ONS.items() for model in add_on.models]
IN_PLACE = [(name, model) for name, model in CASES if name not in ("ControlNet", "img2img", "inpainting")]
PAGE = Path(__file__).parents[2] / "docs" / "add-ons.md"
BALANCE = AttentionBalance(window=(0.0, 1.0))
LOADING, LOADED = "LoRA loaded, fused and unloaded while regulated", ("UNet", "Sana", "FLUX")


def cases(chosen: list[tuple[str, str]]) -> Any:
    return pytest.mark.parametrize(("name", "model"), chosen, ids=["-".join(one) for one in chosen])


def everything_in(pipe: Any) -> list[Any]:
    """The very objects that a regulation might leave behind or replace."""
    found: list[Any] = [vars(pipe).get("encode_prompt"), pipe.scheduler, sorted(vars(pipe.scheduler))]
    for part in pipe.components.values():
        for module in part.modules() if isinstance(part, nn.Module) else ():
            owner, place = place_of_forward(module)
            held = [vars(module).get("forward"), vars(owner).get(place)]
            # Offloading renews what it puts there with each picture.
            found += [isinstance(one, StandIn) if hasattr(module, "_hf_hook") else one for one in held]
            found += [module, getattr(module, "processor", None)]
            found += [sorted(vars(module)), len(module._forward_hooks), len(module._forward_pre_hooks)]
    return found


@pytest.fixture(autouse=True)
def nothing_compiled(request: pytest.FixtureRequest) -> Iterator[None]:
    """What one test compiled is no business of the next one's."""
    yield
    if "compile" in request.node.name:
        torch.compiler.reset()


def masses(part: Any, query: Tensor, key: Tensor, mask: Tensor | None, scale: float | None) -> list[float]:
    """How much the picture attends to each target in the model's own call: a whole softmax, the slow way."""
    row, columns = part.rows[0], part.columns
    logits = query[row][:, part.queries].float() @ key[row].float().mT * (scale or query.shape[-1] ** -0.5)
    if mask is not None:
        mask = mask.expand(len(query), query.shape[1], -1, -1)[row][
            :, part.queries if mask.shape[-2] > 1 else slice(0, 1)
        ]
        logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
    probabilities = logits.softmax(-1).mean((0, 1))
    return (probabilities[columns.tokens[0]] @ columns.members[0]).tolist()


def arguments(query: Tensor, key: Tensor, value: Tensor, attn_mask: Any = None, *_: Any, **others: Any) -> Any:
    return query, key, attn_mask, others.get("scale")


@cases(CASES)
@pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")  # FasterCache's
@pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated:FutureWarning")  # FLUX's ControlNet's
def test_it_is_regulated(name: str, model: str, calls: list[Noted]) -> None:  # noqa: F811
    pipe, options = built(name, model)
    plain = draw(pipe, options)
    objects = everything_in(pipe)
    with regulate(pipe, config=BALANCE) as trace:
        regulated = draw(pipe, options)
    assert objects == everything_in(pipe)
    assert torch.equal(draw(pipe, options), plain)
    assert not torch.allclose(regulated, plain)
    with regulate(pipe, config=AttentionBalance(strength=0.0)):
        assert torch.equal(draw(pipe, options), plain)
    assert [target.text for target in trace.targets[0]] == ["cat", "blue balloon"]
    assert trace.steps == trace.regulated_steps == ADD_ONS[name].steps

    whole = len(trace.layers) * ADD_ONS[name].steps
    assert len(calls) == len(trace.records)
    assert 0 < len(calls) < whole if model in ADD_ONS[name].skips else len(calls) == whole
    assert {record.layer for record in trace.records} == set(trace.layers)
    for ((part,), args, kwargs, output), record in zip(calls, trace.records, strict=True):
        # What it was told of is the attention to the targets that was really computed, and that is what moved.
        assert masses(part, *arguments(*args, **kwargs)) == pytest.approx(record.mass_before, rel=1e-3, abs=1e-6)
        assert sum(record.mass_after) > sum(record.mass_before)
        untouched = F.scaled_dot_product_attention(*args, **kwargs)
        moved = (output != untouched).any(-1).any(1)
        assert moved[part.rows][:, part.queries].all()
        moved[part.rows, part.queries] = False
        assert not moved.any(), "neither the negative prompt's rows nor the text's own queries"


@cases(IN_PLACE)
@pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")
def test_it_may_be_put_on_while_regulated(name: str, model: str) -> None:
    pipe, options = built(name, model)
    plain = draw(pipe, options)
    with regulate(pipe, config=BALANCE):
        expected = draw(pipe, options)
    pipe, options = built(name, model, lambda one: apply_attention_regulation(one, BALANCE))
    torch.testing.assert_close(draw(pipe, options), expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(draw(pipe, options), expected, rtol=1e-3, atol=1e-3)
    remove_attention_regulation(pipe)
    torch.testing.assert_close(draw(pipe, options), plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("model", LOADED, ids=[f"{LOADING}-{model}" for model in LOADED])
def test_it_is_regulated_while_a_lora_comes_and_goes(model: str) -> None:
    make, base = (MODELS | OTHERS)[model]
    options = {"num_inference_steps": 3, "output_type": "latent"} | base
    donor, pipe = make(), make()
    part = "unet" if model == "UNet" else "transformer"
    torch.manual_seed(8)
    denoiser(donor).add_adapter(LoraConfig(r=4, init_lora_weights=False, target_modules=["to_q", "to_k", "to_v"]))
    weights = get_peft_model_state_dict(denoiser(donor))
    plain = draw(pipe, options)
    apply_attention_regulation(pipe, BALANCE)
    without = draw(pipe, options)
    pipe.load_lora_weights({f"{part}.{name}": weight for name, weight in weights.items()})
    with_it = draw(pipe, options)
    assert not torch.allclose(with_it, without, rtol=1e-3, atol=1e-3)
    pipe.fuse_lora()
    torch.testing.assert_close(draw(pipe, options), with_it, rtol=1e-3, atol=1e-3)
    pipe.unfuse_lora()
    pipe.unload_lora_weights()
    torch.testing.assert_close(draw(pipe, options), without, rtol=1e-3, atol=1e-3)
    remove_attention_regulation(pipe)
    torch.testing.assert_close(draw(pipe, options), plain, rtol=1e-3, atol=1e-3)
    assert "forward" not in vars(denoiser(pipe))


def test_a_cache_that_is_turned_off_while_regulated_leaves_nothing_behind() -> None:
    """diffusers puts back what it found beneath its hooks: that may have been ours."""
    pipe, options = built("TaylorSeer", "FLUX")
    with regulate(pipe, config=BALANCE):
        draw(pipe, options)
        pipe.transformer.disable_cache()
    held = [vars(module).get("forward") for module in pipe.transformer.modules()]
    assert not any(hasattr(one, "attnreg_installation") for one in held)
    with regulate(pipe, config=BALANCE) as trace:
        draw(pipe, options)
    assert len(trace.records) == STEPS * len(trace.layers)


@pytest.mark.parametrize("maps", [False, True])
def test_a_cache_that_leaves_out_every_regulated_step_is_refused(maps: bool) -> None:
    """Here all but the first step are skipped, and the window begins behind it: what is seen in it changes nothing."""
    pipe, options = built("MagCache", "FLUX")
    pipe.transformer.disable_cache()
    ratios = {"mag_ratios": [1.0] * STEPS, "num_inference_steps": STEPS}
    pipe.transformer.enable_cache(
        diffusers.MagCacheConfig(retention_ratio=0.2, threshold=5.0, max_skip_steps=STEPS, **ratios)
    )
    with (
        pytest.raises(AttnregError, match=r"none up to step 5: a cache left all of them out.*widen the window"),
        regulate(pipe, config=AttentionBalance(window=(0.5, 1.0)), maps=maps),
    ):
        draw(pipe, options)


@pytest.mark.parametrize("name", ["DeepCache", "Pyramid Attention Broadcast"])
def test_what_looks_ahead_is_refused_beside_a_cache_and_auto_says_so(name: str) -> None:
    """What the cache keeps would be of other latents, and of other rows."""
    pipe, options = built(name, "UNet")
    for method in ("best-start", "attend-and-excite", "composable-diffusion"):
        with (
            pytest.raises(AttnregError, match=r"keeps features from step to step: turn it off, or choose"),
            regulate(pipe, config=configure(method)),
        ):
            draw(pipe, options)
    pipe, options = built(name, "UNet")  # a picture that ended in an error has left something in the cache
    with regulate(pipe) as trace:
        draw(pipe, options)
    (decision,) = trace.decisions
    assert (decision.method, "features are cached" in decision.reason) == ("attention-balance", True)


def test_the_pictures_of_an_ip_adapter_count_beside_the_words() -> None:
    pipe, options = built("IP-Adapter", "UNet")
    with regulate(pipe, config=BALANCE):
        one = draw(pipe, options)
        other = draw(pipe, options | {"ip_adapter_image_embeds": [-options["ip_adapter_image_embeds"][0]]})
    assert not torch.allclose(one, other)


def fullgraph(pipe: Any) -> None:
    compiled_blocks(pipe, {}, fullgraph=True)


def encodes_in_private(pipe: Any) -> None:
    """As the community's lpw pipeline for Stable Diffusion 1 does: it has `_encode_prompt` alone."""
    pipe.encode_prompt = None


def merged(pipe: Any) -> None:
    tomesd.apply_patch(pipe, ratio=0.5, use_rand=False, merge_crossattn=True)


REFUSED: dict[str, tuple[str, Callable[[Any], None], str]] = {
    **{
        f"torch.compile with fullgraph=True-{model}": (model, fullgraph, "compile without fullgraph=True")
        for model in MODELS
    },
    "token merging in the attention to the text-UNet": (
        "UNet",
        merged,
        r"latent halved some times, got \d+ positions; leave the layer out",
    ),
    "attention slicing-UNet": (
        "UNet",
        lambda pipe: attention_slicing(pipe, {}),
        r"SlicedAttnProcessor.*AttnProcessor2_0",
    ),
    "long prompts in a pipeline that encodes in private (lpw)-UNet": (
        "UNet",
        encodes_in_private,
        r"expected a pipeline with .encode_prompt.*use the family's ordinary pipeline",
    ),
}


@pytest.mark.parametrize(("model", "put_on", "remedy"), REFUSED.values(), ids=list(REFUSED))
def test_it_is_refused(model: str, put_on: Callable[[Any], None], remedy: str) -> None:
    make, base = MODELS[model]
    pipe, options = make(), {"num_inference_steps": 2, "output_type": "latent"} | base
    put_on(pipe)
    with pytest.raises(AttnregError, match=remedy) as told, regulate(pipe, config=BALANCE):
        draw(pipe, options)
    assert "\n" not in str(told.value)


def test_a_whole_denoiser_that_must_be_compiled_whole_says_why_it_cannot() -> None:
    """There the compiler's error is raised before any of ours could be: it names the reason."""
    make, base = MODELS["PixArt"]
    pipe = make()
    pipe.transformer.compile(backend="eager", fullgraph=True)
    with pytest.raises(RuntimeError, match="attnreg edits attention here"), regulate(pipe, config=BALANCE):
        draw(pipe, {"num_inference_steps": 2, "output_type": "latent"} | base)


def test_the_page_has_the_table() -> None:
    regulated = [f"::test_it_is_regulated[{name}-{model}]" for name, model in CASES]
    regulated += [f"::test_it_is_regulated[{LOADING}-{model}]" for model in LOADED]
    refused = [f"::test_it_is_refused[{name}]" for name in REFUSED]
    beside = [f"::test_it_is_regulated[{name}]" for name in test_embeddings_beside.IDS]
    missing = [f"::test_there_is_none[{name}]" for name in test_missing_add_ons.MISSING]
    made = add_ons_table([*regulated, *refused, *beside, *missing])
    assert made in PAGE.read_text(encoding="utf-8"), "run python -m benchmarks.add_ons, paste it there"
