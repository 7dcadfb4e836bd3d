"""Edits of whole attention calls where text and picture are looked at in layers of their own, beside the UNets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from promises import held_before_during_after
from torch import Tensor
from torch.nn import functional as F

import tiny_families
from attnreg import regulate
from attnreg.attention import attending
from attnreg.attention.families import FAMILIES, beside, family_of, select_layers
from attnreg.attention.layers.catch import scaled_logits
from attnreg.methods.dense_diffusion import DenseDiffusion
from attnreg.regulation.kinds import Moment
from attnreg.regulation.reference import ReferenceRegulation

STEPS = 3
KINDS = {family.name: family.kinds for family in FAMILIES}
WHOLE = [name for name in tiny_families.FAMILIES if "attention" in KINDS.get(name, ())]
DENSE = DenseDiffusion(window=(0.0, 0.6), over_image_weight=1.0)
"""In two of three steps."""


@pytest.fixture(scope="module", params=WHOLE)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_picture_looks_at_itself_as_the_edit_says(
    pipe: Any, draw: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the prompts' rows, by the whole softmax under the layer's own mask; other rows to the bit."""
    original, calls = attending.Attending._over_image, list[str]()

    def checked(self: Any, layer: str, call: Any, *args: Any, **kwargs: Any) -> Tensor:
        output = original(self, layer, call, *args, **kwargs)
        given = dict(zip(("query", "key", "value", "attn_mask"), args, strict=False)) | kwargs
        query, key, value = (given[one] for one in ("query", "key", "value"))
        plain = F.scaled_dot_product_attention(**given)
        rows = self.rows.tolist()
        others = [row for row in range(len(query)) if row not in rows]
        assert torch.equal(output[others], plain[others])
        words = [one for group in self.groups for one in group.words]
        moment = Moment(*self.time, layer, self._places(layer, call, query, key).grid)
        key, value = (one.repeat_interleave(query.shape[1] // one.shape[1], 1) for one in (key, value))
        logits = scaled_logits(query, key, given.get("attn_mask"), given.get("scale"))[rows]
        torch.testing.assert_close(output[rows], DENSE.over_image(logits, words, moment) @ value[rows])
        assert not torch.equal(output[rows], plain[rows])
        calls.append(layer)
        return output

    monkeypatch.setattr(attending.Attending, "_over_image", checked)
    with regulate(pipe, config=DENSE) as trace:
        draw()
    family, denoiser = family_of(pipe)
    assert trace.regulated_steps == 2
    assert set(calls) == set(beside(family, denoiser, list(select_layers(family, denoiser, ("all",)))))
    assert {record.layer for record in trace.records} == set(trace.layers)


@pytest.mark.parametrize("edit", [DENSE, ReferenceRegulation(window=(0.0, 1.0))], ids=["boxes", "reference"])
def test_before_during_after(pipe: Any, draw: Callable[..., Tensor], plain: Tensor, edit: Any) -> None:
    trace = held_before_during_after(pipe, draw, plain, edit)
    assert any(record.mass_before != record.mass_after for record in trace.records)
