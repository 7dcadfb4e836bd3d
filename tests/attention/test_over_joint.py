"""An edit of the softmax that text and picture share: whole attention calls, and DeLeaker's promises in pipelines."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from promises import PROMPT, everything_in, held_before_during_after
from torch import Tensor
from torch.nn import functional as F

import tiny
import tiny_families
from attnreg import AttnregError, configure, regulate
from attnreg.attention import attending
from attnreg.attention.over_joint import JointRows
from attnreg.methods.deleaker import DeLeaker, bodies_of
from attnreg.models.load import load_pipeline
from attnreg.regulation.joint import JointAttention
from training.pocket_joint import KEPT

QUICK = DeLeaker(spread=-1.0, leak=0.0, edited_from=0.0, observed_from=0.0)
"""Acts from the first layer on, and its masks are not empty in random networks."""


@pytest.fixture(scope="module", params=["Stable Diffusion 3", "FLUX", "Qwen-Image", "Z-Image"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def pipe(name: str) -> Any:
    return tiny_families.FAMILIES[name]()


def draw(name: str, pipe: Any, prompt: Any = PROMPT, **options: Any) -> Tensor:
    settings = {"num_inference_steps": 3, "output_type": "latent"} | tiny_families.SMALL[name] | options
    return tiny_families.drawn(pipe, prompt, settings)


def test_whole_calls_are_those_of_the_definition(name: str, pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture's positions in the prompts' rows, by a softmax in float64; all else to the bit."""
    calls, changes, cut = list[Any](), list[Any](), list[bool]()
    original, asked = attending.attend_joint, DeLeaker.over_joint

    def noting(*args: Any, **kwargs: Any) -> Tensor:
        changes.clear()
        output = original(*args, **kwargs)
        calls.append((args, kwargs, list(changes), output.clone()))
        return output

    def ask(self: DeLeaker, attention: JointAttention, *rest: Any) -> Any:
        changes.append((attention, asked(self, attention, *rest)))
        return changes[-1][1]

    monkeypatch.setattr(attending, "attend_joint", noting)
    monkeypatch.setattr(DeLeaker, "over_joint", ask)
    with regulate(pipe, config=QUICK) as trace:
        draw(name, pipe, num_inference_steps=1)
    assert len(calls) == len(trace.layers)
    assert [call[2][0][0].when for call in calls] == [number / len(calls) for number in range(len(calls))]
    for args, kwargs, made, output in calls:
        _, _, rows, places, (text, own), query, key, value, *rest = args
        mask = rest[0] if rest else kwargs.get("attn_mask")
        plain = F.scaled_dot_product_attention(
            query, key, value, mask, **{k: v for k, v in kwargs.items() if k != "attn_mask"}
        )
        exact = (query.double() @ key.double().transpose(-1, -2)) / math.sqrt(query.shape[-1])
        if mask is not None:
            exact = exact.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else exact + mask
        expected = plain.double()
        for row, (attention, change) in zip(rows, made, strict=True):
            assert change is not None
            logits = exact[row][:, places.queries].clone()
            mean = logits.softmax(-1).mean(0)
            torch.testing.assert_close(attention.text.double(), mean[:, text], rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(attention.own.double(), mean[:, own], rtol=1e-4, atol=1e-6)
            logits[..., text] = logits[..., text] * change.factor + change.text
            logits[..., own] += change.own
            expected[row][:, places.queries] = logits.softmax(-1) @ value[row].double()
            cut.append(bool(change.own.isinf().any() and change.text.isinf().any()))
        torch.testing.assert_close(output.double(), expected, rtol=1e-4, atol=1e-5)
        others = [row for row in range(len(query)) if row not in rows]
        assert torch.equal(output[others], plain[others])
        apart = torch.ones(query.shape[2], dtype=torch.bool)
        apart[places.queries] = False
        assert torch.equal(output[:, :, apart], plain[:, :, apart])
    assert any(cut)


def test_promises(name: str, pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, objects = draw(name, pipe), everything_in(pipe)
    trace = held_before_during_after(pipe, partial(draw, name, pipe), plain, QUICK)
    assert (trace.steps, trace.regulated_steps) == (3, 3)
    assert {record.layer for record in trace.records} == set(trace.layers)
    assert all(0 <= mass <= 1 for record in trace.records for mass in (*record.mass_before, *record.mass_after))
    assert any(record.mass_before != record.mass_after for record in trace.records)
    calls = list[int]()

    def fails(*_: Any) -> Any:
        calls.append(1)
        raise KeyboardInterrupt("on purpose")

    with monkeypatch.context() as patch:
        patch.setattr(DeLeaker, "over_joint", fails)
        with pytest.raises(KeyboardInterrupt, match="on purpose"), regulate(pipe, config=QUICK):
            draw(name, pipe)
    assert objects == everything_in(pipe)
    assert torch.equal(draw(name, pipe), plain)


def test_two_prompts_beside_maps(name: str, pipe: Any) -> None:
    """Each as alone, one of them with one target, which is left to the model."""
    prompts = [PROMPT, "a dog"]
    plain = draw(name, pipe, [*prompts])
    with regulate(pipe, config=QUICK, maps=True) as trace:
        together = draw(name, pipe, [*prompts])
    with regulate(pipe, config=QUICK):
        alone = draw(name, pipe)
    assert trace.maps()
    torch.testing.assert_close(together[1], plain[1], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(together[0], plain[0], rtol=0, atol=1e-6)
    if torch.allclose(plain[:1], draw(name, pipe), rtol=1e-4, atol=1e-4):
        torch.testing.assert_close(together[:1], alone, rtol=1e-3, atol=1e-3)


def test_on_a_trained_model_things_no_longer_leak_into_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is by default, on maps of 8 x 8: the picture moves, each thing's positions look at its own words."""
    pipe = load_pipeline(str(KEPT), device="cpu")
    told = list[tuple[Any, Tensor, Tensor]]()
    original, asked = JointRows.tell, DeLeaker.over_joint

    def tell(self: JointRows, trace: Any, keeps: bool, row: int, before: Tensor, after: Tensor) -> None:
        told[-1] = (told[-1][0], before, after)
        original(self, trace, keeps, row, before, after)

    def ask(self: DeLeaker, attention: JointAttention, words: Any, total: int, memory: Any) -> Any:
        change = asked(self, attention, words, total, memory)
        told.append(
            (
                change and (words.columns.targets, memory["observed"][attention.grid][1], attention.grid),
                *[attention.text] * 2,
            )
        )
        return change

    monkeypatch.setattr(JointRows, "tell", tell)
    monkeypatch.setattr(DeLeaker, "over_joint", ask)
    options = {"num_inference_steps": 4, "guidance_scale": 3.0}
    plain = tiny_families.drawn(pipe, "a cat and a dog", options | {"output_type": "latent"})
    with regulate(pipe, config=DeLeaker()):
        during = tiny_families.drawn(pipe, "a cat and a dog", options | {"output_type": "latent"})
    assert (during - plain).abs().mean() > 0.05 * plain.abs().mean()
    own, other = torch.zeros(2), torch.zeros(2)
    for known, *attended in told:
        if known is None:
            continue
        columns, maps, grid = known
        bodies = bodies_of(maps, grid, 1.0)
        assert bodies.any(-1).all()
        for mine, theirs in ((0, 1), (1, 0)):
            here = bodies[mine] & ~bodies[theirs]
            own += torch.stack([seen[here][:, list(columns[mine])].sum() for seen in attended])
            other += torch.stack([seen[here][:, list(columns[theirs])].sum() for seen in attended])
    assert own[1] > 1.2 * own[0]
    assert other[0] > 0.05 * own[0]
    assert other[1] == 0


def test_where_there_is_no_such_softmax_it_is_refused() -> None:
    with pytest.raises(AttnregError, match="works on Stable Diffusion, got DeLeaker, which edits what positions"):
        regulate(tiny.stable_diffusion(), config=DeLeaker()).__enter__()
    with pytest.raises(AttnregError, match="the attention over the text; choose one"):
        configure("deleaker+attention-balance")
