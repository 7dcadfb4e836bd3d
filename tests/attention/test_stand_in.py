"""A model that is copied inside of a `regulate` block is a model of its own; pickling one is refused in one line."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
from attnreg.attention.layers.catch import Patch
from attnreg.attention.regulate import regulate
from attnreg.types import AttnregError

STEPS = {"num_inference_steps": 2, "height": 64, "width": 64, "output_type": "np"}


def asked(unet: Any) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 4, 8, 8, generator=generator)
    with torch.no_grad():
        return unet(latents, 10, encoder_hidden_states=torch.ones(1, 32, tiny.CONTEXT)).sample


def test_a_copy_runs_its_own_weights() -> None:
    pipe = tiny.stable_diffusion()
    before = asked(pipe.unet)
    with regulate(pipe, ["cat"]):
        pipe("a cat", **STEPS)
        twin = copy.deepcopy(pipe.unet)
        assert torch.equal(asked(twin), before), "the copy is the unmodified model"
        with torch.no_grad():
            twin.conv_out.weight.zero_()
            twin.conv_out.bias.zero_()
        assert asked(twin).abs().max() == 0, "its own weights, not the original's"
    assert torch.equal(asked(pipe.unet), before)
    assert asked(twin).abs().max() == 0


def test_a_copy_of_the_pipeline_is_not_regulated() -> None:
    pipe = tiny.stable_diffusion()
    generator = torch.Generator().manual_seed(0)
    before = pipe("a cat", generator=generator, **STEPS).images
    with regulate(pipe, ["cat"]) as trace:
        pipe("a cat", generator=generator.manual_seed(0), **STEPS)
        steps = trace.steps
        twin = copy.deepcopy(pipe)
        after = twin("a cat", generator=generator.manual_seed(0), **STEPS).images
        assert trace.steps == steps
    assert (after == before).all()


def test_a_copy_can_be_regulated() -> None:
    pipe = tiny.stable_diffusion()
    with regulate(pipe, ["cat"]) as first:
        pipe("a cat", **STEPS)
        twin = copy.deepcopy(pipe)
    with regulate(twin, ["cat"]) as trace:
        twin("a cat", **STEPS)
    assert trace.regulated_steps == first.regulated_steps > 0
    assert pickle.loads(pickle.dumps(twin.unet)).conv_in.weight.shape == twin.unet.conv_in.weight.shape


@pytest.mark.parametrize("save", [pickle.dumps, lambda unet: torch.save(unet, io.BytesIO())])
def test_pickling_one_is_refused(save: Any) -> None:
    pipe = tiny.stable_diffusion()
    with regulate(pipe, ["cat"]):
        with pytest.raises(AttnregError, match=r"to pickle that is not regulated.*after the block") as told:
            save(pipe.unet)
        assert "\n" not in str(told.value)
        save(copy.deepcopy(pipe.unet))
        pipe("a cat", **STEPS)
    save(pipe.unet)


class Owner:
    def act(self, value: int, factor: int = 2) -> tuple[Any, int]:
        return self, value * factor


def test_a_stand_in_looks_like_what_it_stands_for() -> None:
    """Pipelines ask a scheduler's `step` for its parameters."""
    owner = Owner()

    def replace(original: Any) -> Any:
        def act(*args: Any, **kwargs: Any) -> Any:
            return original(*args, **kwargs)

        act.__wrapped__ = original  # type: ignore[attr-defined]
        return act

    patch = Patch(owner, "act", replace)
    assert list(inspect.signature(owner.act).parameters) == ["value", "factor"]
    assert owner.act(3) == (owner, 6)
    patch.undo()
    assert "act" not in vars(owner)


def test_what_another_library_put_there_goes_with_the_copy() -> None:
    """As without us: what a function that was set by others does in a copy is theirs to say."""
    owner = Owner()
    theirs = owner.act = lambda value: (None, -value)  # type: ignore[method-assign, assignment, misc]
    outer = Patch(owner, "act", lambda act: lambda value: act(value + 1))
    inner = Patch(owner, "act", lambda act: lambda value: act(value + 1))
    twin = copy.deepcopy(owner)
    assert vars(twin)["act"] is theirs
    inner.undo()
    outer.undo()
    assert vars(owner)["act"] is theirs
