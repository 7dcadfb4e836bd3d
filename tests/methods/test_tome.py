"""ToMe's substitution: against embeddings put together by hand, token by token, from texts written by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import by_hand
import tiny
from attnreg import regulate
from attnreg.heads import Parts, bare_text
from attnreg.methods.tome import ToMe, spellings, without_modifiers
from attnreg.regulation.edit import PromptColumns, PromptWords
from attnreg.regulation.kinds import EncodedText
from attnreg.types import Target

PROMPT, BARE = "a cat and a blue balloon", "a cat and a balloon"
SMALL = {"height": 64, "width": 64, "num_inference_steps": 2, "output_type": "latent"}


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def pipe(request: pytest.FixtureRequest) -> Any:
    return {"sd1": tiny.stable_diffusion, "sdxl": tiny.stable_diffusion_xl}[request.param]()


def draw(pipe: Any, **options: Any) -> Tensor:
    return pipe(generator=torch.Generator().manual_seed(0), **(SMALL | options)).images


def merged_by_hand(full: list[list[float]], bare: list[list[float]] | None) -> list[list[float]]:
    """Columns: start, a, cat, and, a, blue, balloon, end; in the bare prompt the end is one column earlier."""
    rows = [list(row) for row in full]
    for channel in range(len(full[0])):
        rows[6][channel] = 1.1 * full[6][channel] + 1.2 * full[5][channel]
        rows[5][channel] = 0.0
    if bare is not None:
        for column in range(7, len(rows)):
            rows[column] = list(bare[column - 1])
    return rows


class Encoder:
    """Stands in for a pipeline's text encoder: random embeddings, and which text was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.embedding = torch.randn(12, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float32)

    def __call__(self, text: str, masked: Any = ()) -> EncodedText:
        self.asked.append(text)
        return EncodedText(self.embedding, tuple(range(1, 6)))

    def emptied(self) -> torch.Tensor:
        raise AssertionError("what the prompt would be if it said nothing is none of this method's business")


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("strength", [1.0, 0.25])
def test_the_equation_by_hand(ends: bool, strength: float) -> None:
    words, encode = by_hand.words_of(PROMPT), Encoder()
    assert words.columns.targets == ((2,), (5, 6))
    full = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    made = ToMe(ends=ends, strength=strength).embed(full, encode, words)
    assert made is not None
    hand = merged_by_hand(full.tolist(), encode.embedding.tolist() if ends else None)
    expected = (1 - strength) * full + strength * torch.tensor(hand)
    torch.testing.assert_close(made.keys, expected, rtol=0, atol=1e-6)
    assert made.values is made.keys
    assert encode.asked == [BARE] * ends


def test_agrees_with_embeddings_made_by_hand(pipe: Any) -> None:
    """Against the same pipeline given the merged embedding as prompt_embeds."""
    given, bare = (
        pipe.encode_prompt(t, "cpu", 1, True)
        if not hasattr(pipe, "text_encoder_2")
        else pipe.encode_prompt(t, device="cpu")
        for t in (PROMPT, BARE)
    )
    merged = torch.tensor(merged_by_hand(given[0][0].tolist(), bare[0][0].tolist()))
    hand = {"prompt_embeds": merged[None], "negative_prompt_embeds": given[1]}
    if len(given) > 2:
        hand |= {"pooled_prompt_embeds": given[2], "negative_pooled_prompt_embeds": given[3]}
    expected = draw(pipe, **hand)
    with regulate(pipe, config=ToMe()) as trace:
        drawn = draw(pipe, prompt=PROMPT)
    torch.testing.assert_close(drawn, expected, rtol=1e-4, atol=1e-4)
    assert trace.regulated_steps == 2
    assert (drawn - draw(pipe, prompt=PROMPT)).abs().max() > 1e-3


def test_nothing_to_merge_is_the_unmodified_model(pipe: Any) -> None:
    plain = draw(pipe, prompt="a cat and a dog")
    with regulate(pipe, config=ToMe()):
        assert torch.equal(draw(pipe, prompt="a cat and a dog"), plain)


@pytest.mark.parametrize(
    ("prompt", "bare"),
    [
        ("a blue cat and a red dog", "a cat and a dog"),
        ("a black and white cat on an old, shiny table", "a cat on a table"),
        ("a blue umbrella and An orange cat", "an umbrella and A cat"),
        ("a red dog and a red dog", "a dog and a dog"),
        ("two big fire hydrants", "two fire hydrants"),
        ("a cat and a dog", "a cat and a dog"),
    ],
)
def test_prompts_without_modifiers(prompt: str, bare: str) -> None:
    assert without_modifiers(by_hand.words_of(prompt).targets, prompt) == bare


def test_of_a_target_that_names_more_the_rest_stays() -> None:
    target = by_hand.words_of("a blue cat on a mat", "blue cat on a mat").targets[0]
    assert bare_text(target, "a blue cat on a mat") == "cat on a mat"


def test_each_encoder_merges_its_own() -> None:
    """Where two encoders spell a word in columns of their own, neither adds up what the other made."""
    assert spellings(Parts((3, 80), ((2, 79),))) == [((3,), (2,)), ((80,), (79,))]
    assert spellings(Parts((3, 4, 80), ((2, 79), (1, 78)))) == [((3, 4), (2, 1)), ((80,), (79, 78))]
    assert spellings(Parts((3, 5), ((2,),))) == [((3, 5), (2,))]


def test_without_an_end_of_text_tokens_are_merged_alone() -> None:
    encode, full = Encoder(), torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    target = Target("blue balloon", (5, 6), ("▁blue", "▁balloon"))
    made = ToMe().embed(full, encode, PromptWords(PromptColumns(((5, 6),), words=(2, 5, 6)), (target,), PROMPT))
    assert made is not None
    torch.testing.assert_close(made.keys, torch.tensor(merged_by_hand(full.tolist(), None)), rtol=0, atol=1e-6)
    assert not encode.asked
