"""Prompts in which nothing is to be heeded, alone and in a batch, and style tokens beside the words."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tiny
from attnreg import regulate
from attnreg.sampling import configure
from test_regulate import draw


@pytest.fixture(scope="module")
def pipe() -> Any:
    return tiny.stable_diffusion()


@pytest.mark.parametrize("method", ["attention-regulation", "structured-diffusion"])
@pytest.mark.parametrize("nothing", ["best quality", "", "ein Foto von einem Hund mit Hut"])
def test_a_prompt_that_names_nothing_is_drawn_unmodified(pipe: Any, method: str, nothing: str) -> None:
    prompts = ["a cat and a blue balloon", nothing]
    plain = draw(pipe, prompts)
    with pytest.warns(UserWarning, match="drawn unmodified"), regulate(pipe, config=configure(method)):
        drawn = draw(pipe, prompts)
    assert torch.equal(drawn[1], plain[1])
    assert not torch.equal(drawn[0], plain[0])


def test_alone_too(pipe: Any) -> None:
    plain = draw(pipe, "best quality")
    with pytest.warns(UserWarning, match="drawn unmodified: no noun found in 'best quality'"), regulate(pipe):
        assert torch.equal(draw(pipe, "best quality"), plain)


def test_an_empty_list_of_targets_for_one_of_two_prompts(pipe: Any) -> None:
    prompts = ["a cat and a dog", "a dog and a frog"]
    plain = draw(pipe, prompts)
    with regulate(pipe, [["cat"], []]):
        drawn = draw(pipe, prompts)
    assert torch.equal(drawn[1], plain[1])
    assert not torch.equal(drawn[0], plain[0])


def test_a_style_token_of_several_vectors_beside_named_words() -> None:
    pipe = tiny.stable_diffusion()
    pipe.load_textual_inversion({"<sty>": torch.randn(2, tiny.CONTEXT)}, token="<sty>")
    with regulate(pipe, ["cat", "frog"]) as trace:
        draw(pipe, "a cat and a frog in the style of <sty>")
    assert [target.text for target in trace.targets[0]] == ["cat", "frog"]
