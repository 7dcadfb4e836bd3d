"""Families in which only the picture looks at text: what is theirs alone, and what is refused with the true reason."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import PriorTransformer

import tiny
import tiny_cross
from attnreg import AttentionBalance, AttnregError, regulate
from attnreg.attention.families import family_of, tokenizer_of
from attnreg.attention.families.family import tokenizer_in
from attnreg.models.defaults import options_for, picture_of
from attnreg.token_spans import look_for_targets
from attnreg.types import Grid

PROMPT = "a cat and a blue balloon"
WHOLE = AttentionBalance(window=(0.0, 1.0))


def drawn(pipe: Any, name: str, **options: Any) -> Any:
    settings = {"num_inference_steps": 2, "output_type": "latent"} | tiny_cross.SMALL[name] | options
    return pipe(generator=torch.Generator().manual_seed(0), **settings)[0]


def test_hunyuan_dit_stands_a_word_in_both_encoders_columns() -> None:
    """A letter a column of BERT's, a word one of T5's; embeddings of both may be handed back."""
    pipe = tiny_cross.hunyuan_dit()
    with regulate(pipe, ["cat"], WHOLE) as trace:
        expected = drawn(pipe, "Hunyuan-DiT", prompt=PROMPT)
        assert trace.targets[0][0].tokens == (2, 3, 4, 78)
        given: dict[str, Any] = {}
        for index, behind in enumerate(("", "_2")):
            parts = pipe.encode_prompt(PROMPT, max_sequence_length=(77, 256)[index], text_encoder_index=index)
            names = ("prompt_embeds", "negative_prompt_embeds", "prompt_attention_mask")
            keys = [name + behind for name in (*names, "negative_prompt_attention_mask")]
            given |= dict(zip(keys, parts, strict=True))
        torch.testing.assert_close(drawn(pipe, "Hunyuan-DiT", **given), expected)


def test_hunyuan_dit_wants_both_encoders_to_read_the_words() -> None:
    pipe = tiny_cross.hunyuan_dit()
    second = pipe.encode_prompt(PROMPT, text_encoder_index=1, max_sequence_length=256)
    names = (
        "prompt_embeds_2",
        "negative_prompt_embeds_2",
        "prompt_attention_mask_2",
        "negative_prompt_attention_mask_2",
    )
    with pytest.raises(AttnregError, match="run its text encoders"), regulate(pipe, ["cat"], WHOLE):
        drawn(pipe, "Hunyuan-DiT", prompt=PROMPT, **dict(zip(names, second, strict=True)))


def test_kolors_has_targets_before_it_encodes() -> None:
    """Its tokenizer tells no offsets, and holds another one; the same words are found as in what the encoder read."""
    pipe = tiny_cross.kolors()
    assert family_of(pipe)[0].name == "Kolors"
    found = look_for_targets(PROMPT, tokenizer_of(pipe)).targets
    assert tokenizer_of(pipe) is pipe.tokenizer
    with regulate(pipe, config=WHOLE) as trace:
        drawn(pipe, "Kolors", prompt=PROMPT)
    assert [one.text for one in found] == [one.text for one in trace.targets[0]] == ["cat", "blue balloon"]
    assert [one.pieces for one in found] == [one.pieces for one in trace.targets[0]]
    with pytest.raises(AttnregError, match="did you mean 'balloon'"):
        look_for_targets(PROMPT, tokenizer_of(pipe), ["baloon"])


def test_a_processor_is_looked_into_for_its_tokenizer() -> None:
    tokenizer = tiny_cross.qwen_tokenizer()
    assert tokenizer_in(SimpleNamespace(tokenizer=tokenizer)) is tokenizer
    assert tokenizer_in(tokenizer) is tokenizer


def test_dreamlite_leaves_the_picture_beside_it_alone() -> None:
    """The left half of every row of the map, at both sizes of it."""
    pipe = tiny_cross.dreamlite()
    with regulate(pipe, config=WHOLE) as trace:
        drawn(pipe, "DreamLite", prompt=PROMPT, height=16, width=24)
    assert {record.grid for record in trace.records} == {Grid(8, 12), Grid(4, 6)}
    family, denoiser = family_of(pipe)
    arguments = {"sample": torch.zeros(2, 4, 8, 24), "encoder_hidden_states": torch.zeros(2, 5, 16)}
    places = family.places("layer", arguments, denoiser, 4 * 12, 5)
    assert places.queries[:8].tolist() == [0, 1, 2, 3, 4, 5, 12, 13]  # type: ignore[index]


def test_dreamlite_does_not_change_pictures() -> None:
    pipe = tiny_cross.dreamlite()
    with pytest.raises(AttnregError, match=r"mode 'edit'.*leave image out"), regulate(pipe):
        pipe.encode_prompt("edit", ["", "[Edit]: a cat"], torch.device("cpu"), torch.float32)


@pytest.mark.parametrize(
    ("name", "frames"), [("Wan", "num_frames"), ("LTX-Video", "num_frames"), ("Latte", "video_length")]
)
def test_a_video_is_a_picture_of_one_frame(name: str, frames: str) -> None:
    pipe = tiny_cross.FAMILIES[name]()
    with pytest.raises(AttnregError, match="one frame, got 2 frames"), regulate(pipe, config=WHOLE):
        drawn(pipe, name, prompt=PROMPT, **{frames: {"Latte": 2, "Wan": 5, "LTX-Video": 5}[name]})
    options = options_for(pipe, {})
    assert (options[frames], options.get("output_type", "pil")) == (1, "pil")


def test_a_picture_is_found_under_any_name() -> None:
    assert picture_of(SimpleNamespace(images=["a", "b"])) == "a"
    assert picture_of([[["frame", "next"], ["other"]]]) == "frame"


def test_wan_with_two_transformers_is_refused() -> None:
    pipe = tiny_cross.wan()
    pipe.transformer_2 = pipe.transformer
    with pytest.raises(AttnregError, match="transformer_2 for the last ones, whose steps cannot be regulated yet"):
        regulate(pipe).__enter__()


def test_stable_cascade_is_regulated_inside_of_the_pipeline_that_combines_it() -> None:
    """What calls it is refused, and told where to regulate."""
    prior = tiny_cross.stable_cascade()
    combined = SimpleNamespace(prior_pipe=prior, components={})
    with pytest.raises(AttnregError, match=r"regulate its \.prior_pipe and call this one inside"):
        regulate(combined).__enter__()


@pytest.mark.parametrize("thing", [None, "a model", object()])
def test_what_is_no_pipeline_is_refused(thing: Any) -> None:
    """Some things hold no attributes of their own in which a pipeline could be."""
    with pytest.raises(AttnregError, match="expected a diffusers pipeline"):
        family_of(thing)


def test_what_no_word_reaches_is_refused() -> None:
    """Kandinsky 2.2: its decoder looks at a vector that a prior made; the prior draws no map."""
    unet = tiny.unet(encoder_hid_dim=16, encoder_hid_dim_type="image_proj")
    pipe = tiny.stable_diffusion()
    pipe.unet = unet
    with pytest.raises(AttnregError, match=r"that looks at words.*one vector"):
        regulate(pipe).__enter__()
    prior = PriorTransformer(num_attention_heads=2, attention_head_dim=4, num_layers=1, embedding_dim=8)
    with pytest.raises(AttnregError, match="PriorTransformer: it draws no picture but a vector"):
        regulate(SimpleNamespace(components={"prior": prior})).__enter__()


def test_a_negative_prompt_without_a_thing_is_nothing_to_warn_of() -> None:
    """It is encoded on its own, as a prompt is; a prompt without a thing is told of once it is drawn."""
    pipe = tiny_cross.kandinsky_5()
    with warnings.catch_warnings(), regulate(pipe, config=WHOLE):
        warnings.simplefilter("error")
        drawn(pipe, "Kandinsky 5", prompt=PROMPT, negative_prompt="")
    with pytest.warns(UserWarning, match="drawn unmodified"), regulate(pipe, config=WHOLE):
        drawn(pipe, "Kandinsky 5", prompt="of and", negative_prompt="a dog")
