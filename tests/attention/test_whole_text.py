"""An edit of the whole text in whole pipelines: TACA's rule in every family where picture and text share a softmax."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from promises import IDLE, OTHER, PROMPT, everything_in, held_before_during_after
from torch import Tensor

import tiny
import tiny_families
import tiny_transformers
from attnreg import AttnregError, configure, regulate
from attnreg.attention.families import FAMILIES, family_of
from attnreg.methods.taca import Taca
from materialised import hotter_text
from test_families import Noted, calls  # noqa: F401  (a fixture)

STEPS = 3
TOGETHER = [family.name for family in FAMILIES if family.together]


@pytest.fixture(scope="module", params=TOGETHER)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_before_during_after(pipe: Any, draw: Callable[..., Tensor], plain: Tensor) -> None:
    trace = held_before_during_after(pipe, draw, plain, Taca(), (*IDLE, {"factor": 1.0}))
    assert (trace.steps, trace.regulated_steps) == (3, 1), "the first of three"
    assert {record.layer for record in trace.records} == set(trace.layers)
    assert len(trace.records) == len(trace.layers), "one record a layer, however many heads"


def test_whole_layers_are_those_of_its_definition(
    name: str,
    pipe: Any,
    draw: Callable[..., Tensor],
    calls: list[Noted],  # noqa: F811
) -> None:
    """Picture queries, text keys, the prompt's rows: nothing else; to 3e-5."""
    with regulate(pipe, config=Taca()) as trace:
        draw()
    assert len(calls) == len(trace.layers)
    for (one,), args, kwargs, output in calls:
        query, key, value = [*args, kwargs.get("query"), kwargs.get("key"), kwargs.get("value")][:3] if args else (
            kwargs["query"], kwargs["key"], kwargs["value"]
        )  # fmt: skip
        mask = args[3] if len(args) > 3 else kwargs.get("attn_mask")
        tokens = one.columns.tokens[0]
        text = slice(int(tokens[0]), int(tokens[-1]) + 1)
        assert tokens.tolist() == list(range(text.start, text.stop))
        # Every key is the text's or a picture's (with its padding): none is in both, none in neither but registers.
        registers = 8 if name == "AuraFlow" else 0
        pooled = 8 if name == "Stable Cascade" else 0
        assert text.start == registers or text.stop == key.shape[2] - pooled
        if query.shape[2] == key.shape[2]:  # else the picture alone asks
            assert one.queries.stop <= text.start or one.queries.start == text.stop
        gamma = torch.ones(len(query))
        gamma[list(one.rows)] = 1.2
        for row in range(len(query)):
            of_row = None if mask is None else mask[row : row + 1] if len(mask) > 1 else mask
            wanted = hotter_text(query[row], key[row], one.queries, text, float(gamma[row]), of_row) @ value[row]
            # Which kernel a processor has decides the last digits: on one, a value of HiDream is off by 1.5e-5.
            torch.testing.assert_close(
                output[row : row + 1], wanted.reshape(1, *wanted.shape[-3:]), rtol=1e-5, atol=3e-5
            )


def test_two_prompts(name: str, pipe: Any, draw: Callable[..., Tensor]) -> None:
    """Each as alone, if it is so without, one with more targets; where nothing is to be heeded nothing is raised."""
    draw = partial(draw, **tiny_families.TOGETHER.get(name, {}))
    prompts = [PROMPT, OTHER]
    with regulate(pipe, [None, ["clock", "dog", "car"]], Taca()):
        together = draw(prompts)
    with regulate(pipe, config=Taca()):
        alone = draw()
    plain = draw(prompts)
    if torch.allclose(plain[:1], draw(), rtol=1e-4, atol=1e-4):
        torch.testing.assert_close(together[:1], alone, rtol=1e-3, atol=1e-3)
    with regulate(pipe, [None, []], Taca()):
        first = draw(prompts)
    assert torch.equal(first[1], plain[1])
    assert not torch.allclose(first[0], plain[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_everything_is_restored_when_the_call_raises(
    pipe: Any, draw: Callable[..., Tensor], error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    objects, asked, original = everything_in(pipe), list[int](), Taca.bias

    def fails(*args: Any, **kwargs: Any) -> Any:
        asked.append(1)
        if len(asked) > 2:
            raise error("stopped")
        return original(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(Taca, "bias", fails)
        with pytest.raises(error, match="stopped"), regulate(pipe, config=Taca()):
            draw()
    assert objects == everything_in(pipe)
    with regulate(pipe, config=Taca()):
        assert draw().isfinite().all()


def test_maps_are_the_mean_over_the_heads(pipe: Any, draw: Callable[..., Tensor]) -> None:
    """Head by head, they add up to what the account says."""
    with regulate(pipe, config=Taca(), maps=True) as trace:
        draw()
    (maps,), (told,) = trace.maps(), trace.attention()
    if len({record.grid for record in trace.records}) > 1:
        pytest.skip("maps are of the layers of one size, the account is of all")
    for target, (before, after) in maps.items():
        assert before.mean().item() == pytest.approx(told[target][0], rel=1e-4)
        assert after.mean().item() == pytest.approx(told[target][1], rel=1e-4)


def test_where_the_picture_looks_at_text_alone_it_is_refused() -> None:
    """All keys are text there: the rule would be a temperature, and raise nothing against the picture."""
    for pipe in (tiny.stable_diffusion(), tiny_transformers.pixart()):
        name = family_of(pipe)[0].name
        with pytest.raises(AttnregError, match=f"works on {name}, got Taca, .*looks at the text alone"):
            regulate(pipe, config=configure("taca")).__enter__()
        with regulate(pipe, config=Taca(strength=0.0)):
            pass
