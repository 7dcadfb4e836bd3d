"""Embeddings that other hands made (compel, long prompts): their words are told beside them, or their columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from compel import Compel, CompelForFlux, CompelForSD
from torch import Tensor

import tiny
import tiny_families
import tiny_transformers
from add_ons import MODELS, Options
from attnreg import AttnregError, configure, regulate
from attnreg.regulation.balance import AttentionBalance

PROMPT = "a cat and a blue balloon"
WEIGHTED = "a cat++ and a (blue balloon)0.8"
LONG = f"a small photo of {', '.join(['a dog and a red car'] * 14)}, a cat and a blue balloon on the beach"
"""More than 75 tokens of CLIP's, with the targets behind them."""
BALANCE = AttentionBalance(window=(0.0, 1.0))


WAYS = ("prompt_embeds with their words", "prompt_embeds with token columns", "compel")
WORDS, COLUMNS, COMPEL = ([f"{way}-{model}" for model in MODELS] for way in WAYS)


def made(model: str) -> tuple[Any, Options]:
    make, base = MODELS[model]
    return make(), {"num_inference_steps": 3, "output_type": "latent"} | base


def draw(pipe: Any, options: Options, **embeddings: Any) -> Tensor:
    images: Tensor = pipe(generator=torch.Generator().manual_seed(0), **(options | embeddings)).images
    return images


@torch.no_grad()
def own(pipe: Any, options: Options) -> dict[str, Any]:
    """What the pipeline itself makes of the prompt."""
    if hasattr(pipe, "unet"):
        names: tuple[str, ...] = ("prompt_embeds", "negative_prompt_embeds")
        result = pipe.encode_prompt(PROMPT, "cpu", 1, True)
    elif "true_cfg_scale" in options:
        names = ("prompt_embeds", "pooled_prompt_embeds")
        result = pipe.encode_prompt(PROMPT, max_sequence_length=16)
    else:
        names = ("prompt_embeds", "prompt_attention_mask", "negative_prompt_embeds", "negative_prompt_attention_mask")
        result = pipe.encode_prompt(PROMPT, max_sequence_length=16)
    return dict(zip(names, result, strict=False)) | ({"negative_prompt": None} if len(names) == 4 else {})


@pytest.mark.parametrize("model", MODELS, ids=WORDS)
def test_it_is_regulated_by_words(model: str) -> None:
    """As the prompt itself is, to the bit: the words stand where the pipeline puts them."""
    pipe, options = made(model)
    with regulate(pipe, config=BALANCE) as trace:
        expected = draw(pipe, options, prompt=PROMPT)
    embeddings = own(pipe, options)
    plain = draw(pipe, options, **embeddings)
    with regulate(pipe, config=BALANCE, prompt=PROMPT) as beside:
        assert torch.equal(draw(pipe, options, **embeddings), expected)
    assert [target.tokens for target in beside.targets[0]] == [target.tokens for target in trace.targets[0]]
    with regulate(pipe, config=AttentionBalance(strength=0.0), prompt=PROMPT):
        assert torch.equal(draw(pipe, options, **embeddings), plain)
    assert torch.equal(draw(pipe, options, **embeddings), plain)
    assert not torch.allclose(plain, expected)


@pytest.mark.parametrize("model", MODELS, ids=COLUMNS)
def test_it_is_regulated_by_columns(model: str) -> None:
    pipe, options = made(model)
    with regulate(pipe, config=BALANCE) as trace:
        expected = draw(pipe, options, prompt=PROMPT)
    columns = [target.tokens for target in trace.targets[0]]
    embeddings = own(pipe, options)
    with regulate(pipe, columns, BALANCE) as beside:
        assert torch.equal(draw(pipe, options, **embeddings), expected)
    assert [target.tokens for target in beside.targets[0]] == columns
    assert beside.targets[0][0].text.startswith("column")
    width = embeddings["prompt_embeds"].shape[1]
    with (
        pytest.raises(AttnregError, match=rf"columns of an embedding of {width}, got {width}; choose from 0 to"),
        regulate(pipe, [width], BALANCE),
    ):
        draw(pipe, options, **embeddings)


def compelled(pipe: Any, options: Options) -> dict[str, Any]:
    """Weights by compel's own classes."""
    if hasattr(pipe, "unet"):
        made = CompelForSD(pipe)(WEIGHTED, "a dog")
        return {"prompt_embeds": made.embeds, "negative_prompt_embeds": made.negative_embeds}
    if "true_cfg_scale" in options:
        pipe.tokenizer_2.model_max_length = 32  # as the hub's has one; compel fills up to it
        made = CompelForFlux(pipe)(WEIGHTED)
        return {"prompt_embeds": made.embeds, "pooled_prompt_embeds": made.pooled_embeds}
    compel = Compel(pipe.tokenizer, pipe.text_encoder, model_max_length=16)
    mask = torch.ones(1, 16)
    return {
        "prompt_embeds": compel(WEIGHTED), "prompt_attention_mask": mask, "negative_prompt": None,
        "negative_prompt_embeds": compel("a dog"), "negative_prompt_attention_mask": mask,
    }  # fmt: skip


@pytest.mark.parametrize("model", MODELS, ids=COMPEL)
def test_it_is_regulated_with_weights(model: str) -> None:
    """Inside of the block; on a pipeline whose prompts are as wide, before it as well."""
    pipe, options = made(model)
    with regulate(pipe, config=BALANCE) as trace:
        unweighted = draw(pipe, options, prompt=PROMPT)
    plain = draw(pipe, options, **compelled(pipe, options))
    with regulate(pipe, config=BALANCE, prompt=PROMPT) as beside:
        weighted = draw(pipe, options, **compelled(pipe, options))
    assert [target.tokens for target in beside.targets[0]] == [target.tokens for target in trace.targets[0]]
    assert not torch.allclose(weighted, plain)
    assert not torch.allclose(weighted, unweighted)
    for before, after in beside.attention()[0].values():
        assert after > before
    assert torch.equal(draw(pipe, options, **compelled(pipe, options)), plain)
    assert "forward" not in vars(pipe.text_encoder)


def chunks(pipe: Any, text: str, count: int = 0) -> list[list[int]]:
    """CLIP's tokens by 75, each between a start and an end, the last one filled up; so many chunks at least."""
    start, end = pipe.tokenizer.bos_token_id, pipe.tokenizer.eos_token_id
    room = pipe.tokenizer.model_max_length - 2
    ids = pipe.tokenizer(text, truncation=False).input_ids[1:-1]
    cut = [ids[first : first + room] for first in range(0, len(ids), room)] or [[]]
    cut += [[]] * (count - len(cut))
    return [[start, *part, *[end] * (room - len(part)), end] for part in cut]


def by_turns(pipe: Any, *_: Any) -> dict[str, Any]:
    """As sd_embed does: a part of the prompt, a part of the negative one, and so on."""
    prompt = chunks(pipe, LONG)
    negative = chunks(pipe, "a dog", len(prompt))
    made = [[pipe.text_encoder(torch.tensor([ids]))[0] for ids in pair] for pair in zip(prompt, negative, strict=True)]
    embeds, without = (torch.cat(parts, 1) for parts in zip(*made, strict=True))
    return {"prompt_embeds": embeds * 1.05, "negative_prompt_embeds": without}


def without_marks(pipe: Any, *_: Any) -> dict[str, Any]:
    """As the community's lpw pipelines can: no start and no end between the parts."""
    prompt = chunks(pipe, LONG)
    found = []
    for text in (prompt, chunks(pipe, "", len(prompt))):
        made = [pipe.text_encoder(torch.tensor([ids]))[0] for ids in text]
        last = len(made) - 1
        found.append(
            torch.cat([part[:, number > 0 : None if number == last else -1] for number, part in enumerate(made)], 1)
        )
    return {"prompt_embeds": found[0], "negative_prompt_embeds": found[1]}


def by_compel(pipe: Any, *_: Any) -> dict[str, Any]:
    """Which cuts where a sentence or a phrase ends."""
    made = CompelForSD(pipe)(LONG, "a dog")
    return {"prompt_embeds": made.embeds, "negative_prompt_embeds": made.negative_embeds}


def as_long_as_it_is(pipe: Any, *_: Any) -> dict[str, Any]:
    """As sd_embed does for FLUX: T5's tokens without padding."""
    ids = torch.tensor([pipe.tokenizer_2(LONG).input_ids])
    pooled = pipe.text_encoder(torch.tensor([chunks(pipe, LONG)[0]])).pooler_output
    return {"prompt_embeds": pipe.text_encoder_2(ids)[0], "pooled_prompt_embeds": pooled}


def as_long_as_it_is_in_pixart(pipe: Any, *_: Any) -> dict[str, Any]:
    """The same, where sd_embed has no function: the negative prompt is filled up to that length."""
    prompt = pipe.tokenizer(LONG, return_tensors="pt")
    length = prompt.input_ids.shape[1]
    negative = pipe.tokenizer("a dog", padding="max_length", max_length=length, return_tensors="pt")
    embeds, without = (pipe.text_encoder(one.input_ids, one.attention_mask)[0] for one in (prompt, negative))
    return {
        "prompt_embeds": embeds, "prompt_attention_mask": prompt.attention_mask, "negative_prompt": None,
        "negative_prompt_embeds": without, "negative_prompt_attention_mask": negative.attention_mask,
    }  # fmt: skip


LONG_ONES: dict[str, tuple[str, Callable[..., dict[str, Any]]]] = {
    "long prompts (sd_embed)-UNet": ("UNet", by_turns),
    "long prompts (sd_embed)-PixArt": ("PixArt", as_long_as_it_is_in_pixart),
    "long prompts (sd_embed)-FLUX": ("FLUX", as_long_as_it_is),
    "long prompts (lpw)-UNet": ("UNet", without_marks),
    "long prompts (compel)-UNet": ("UNet", by_compel),
}
IDS = [*WORDS, *COLUMNS, *COMPEL, *LONG_ONES]


@pytest.mark.parametrize(("model", "make"), LONG_ONES.values(), ids=list(LONG_ONES))
def test_it_is_regulated_in_long_prompts(
    model: str, make: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, options = made(model)
    plain = draw(pipe, options, **make(pipe))
    with regulate(pipe, ["balloon", "cat"], BALANCE, prompt=LONG) as trace:
        embeddings = make(pipe)["prompt_embeds"]
        regulated = draw(pipe, options, **make(pipe))
    assert not torch.allclose(regulated, plain)
    assert torch.equal(draw(pipe, options, **make(pipe)), plain)
    # CLIP and T5's first layers apart, another word at the end changes nothing before it and its own column most.
    balloon, cat = (target.tokens for target in trace.targets[0])
    for word, tokens in (("balloon", balloon), ("cat", cat)):
        monkeypatch.setattr(f"{__name__}.LONG", LONG.replace(f" {word} ", " frog "))
        moved = (make(pipe)["prompt_embeds"] - embeddings).norm(dim=-1)[0]
        monkeypatch.undo()
        assert int(moved.argmax()) in tokens
    with (
        pytest.raises(AttnregError, match=r"columns, as the pipeline makes it, got \d+; make it inside"),
        regulate(pipe, ["cat"], BALANCE, prompt=f"{LONG} and a frog"),
    ):
        draw(pipe, options, **make(pipe))


def test_as_many_texts_as_embeddings() -> None:
    pipe, options = made("UNet")
    embeddings = own(pipe, options)
    with (
        pytest.raises(AttnregError, match="prompt: expected the words of 1 embeddings, got 2 texts"),
        regulate(pipe, config=BALANCE, prompt=["a cat", "a dog"]),
    ):
        draw(pipe, options, **embeddings)


@pytest.mark.parametrize("method", ["best-start", "prompt-weighting", "tome", "frap", "composable-diffusion"])
def test_methods_that_encode_texts_of_their_own_are_refused_and_auto_balances(method: str) -> None:
    pipe = tiny.stable_diffusion()
    options = MODELS["UNet"][1] | {"num_inference_steps": 2, "output_type": "latent"}
    embeddings = own(pipe, options)
    with (
        pytest.raises(AttnregError, match="in another way; pass prompt alone, as text, or choose attention-balance"),
        regulate(pipe, config=configure(method), prompt=PROMPT),
    ):
        draw(pipe, options, **embeddings)
    with regulate(pipe, prompt=PROMPT) as trace:
        draw(pipe, options, **embeddings)
    (decision,) = trace.decisions
    assert (decision.method, "made elsewhere" in decision.reason) == ("attention-balance", True)


def test_where_several_encoders_fill_columns_the_words_are_where_the_pipeline_puts_them() -> None:
    pipe = tiny_transformers.stable_diffusion_3()
    options = {"height": 32, "width": 48, "num_inference_steps": 2, "output_type": "latent", "max_sequence_length": 16}
    with regulate(pipe, config=BALANCE) as trace:
        expected = draw(pipe, options, prompt=PROMPT)
    names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    with torch.no_grad():
        made = pipe.encode_prompt(PROMPT, None, None, max_sequence_length=16)
    with regulate(pipe, config=BALANCE, prompt=PROMPT) as beside:
        assert torch.equal(draw(pipe, options, **dict(zip(names, made, strict=True))), expected)
    assert [target.tokens for target in beside.targets[0]] == [target.tokens for target in trace.targets[0]]


def test_columns_are_counted_where_a_token_has_a_vector_of_each_of_several_layers() -> None:
    pipe = tiny_families.FAMILIES["Krea 2"]()
    options = tiny_families.SMALL["Krea 2"] | {"num_inference_steps": 2, "output_type": "latent"}
    with regulate(pipe, config=BALANCE) as trace:
        expected = draw(pipe, options, prompt=PROMPT)
    with torch.no_grad():
        made = pipe.encode_prompt(PROMPT, max_sequence_length=32)
    embeddings = dict(zip(("prompt_embeds", "prompt_embeds_mask"), made, strict=True))
    tokens = [target.tokens for target in trace.targets[0]]
    assert max(map(max, tokens)) >= made[0].shape[-2], "there are more tokens than layers"
    for told in ({"prompt": PROMPT}, {"targets": tokens}):
        with regulate(pipe, config=BALANCE, **told) as beside:
            torch.testing.assert_close(draw(pipe, options, **embeddings), expected)
        assert [target.tokens for target in beside.targets[0]] == tokens
