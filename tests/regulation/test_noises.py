"""Noises that another one decides: the same in any company and precision, as new as they are asked to be."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import by_hand
from attnreg.regulation.noises import noises_like


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_fresh_noises_are_decided_by_the_given_one(dtype: torch.dtype) -> None:
    latent = 14 * by_hand.noise(0, 8, 8, torch.float32)
    drawn = list(noises_like(latent.to(dtype), 3))
    assert torch.equal(drawn[0], latent.to(dtype))
    for one, again in zip(drawn, noises_like(latent, 3), strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one.float(), again, rtol=0.02, atol=0.02)
    assert not torch.equal(drawn[1], drawn[2])
    assert float(drawn[1].float().std()) == pytest.approx(14, rel=0.2)
    other = list(noises_like(by_hand.noise(1, 8, 8, torch.float32), 2))
    assert not torch.allclose(other[1] * 14, drawn[1].float(), atol=0.5)


@given(seed=by_hand.SEEDS, newness=st.floats(0, 1))
def test_newness_keeps_a_part_of_the_given_one(seed: int, newness: float) -> None:
    """As strong as the given one at every newness, and as much alike as what is kept of it says."""
    latent = 3 * torch.randn(4, 32, 32, generator=torch.Generator().manual_seed(seed))
    given_one, other = noises_like(latent, 2, newness)
    assert given_one is latent
    assert float(other.std()) == pytest.approx(3, rel=0.1)
    alike = torch.corrcoef(torch.stack([latent.flatten(), other.flatten()]))[0, 1]
    assert float(alike) == pytest.approx((1 - newness**2) ** 0.5, abs=0.1)


def test_no_newness_is_the_given_one() -> None:
    latent = by_hand.noise(0, 8, 8, torch.float32)
    assert torch.equal(list(noises_like(latent, 2, 0.0))[1], latent)
    assert len(list(noises_like(latent, 1))) == 1
