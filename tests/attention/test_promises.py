"""Before, during and after: the promises that every method keeps, whatever it changes of the model."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
from attnreg import AttnregError, configure, regulate
from attnreg.attention.families import FAMILIES
from attnreg.catalogue import works
from attnreg.methods import METHODS
from test_regulate import everything_in

PROMPT = "a cat and a blue balloon"
ELSEWHERE = {"taca", "deleaker"}
"""Methods that mean nothing on a UNet: `test_whole_text.py` and `test_over_joint.py` hold them to these promises."""
NAMES = [name for name in METHODS if name not in ("none", "auto", *ELSEWHERE)]
"""`auto` is one of two of them: `test_auto.py`."""
WINDOWED = [name for name in NAMES if name != "best-start"]
"""Methods that can be told when to act; the other one acts before the first step and never else."""
QUICK = {"refinements": 0, "noises": 1, "noise_steps": 1, "last_steps": 1, "starts": 6, "enough": 1e9, "updates": 2}
"""A search that is cut short is a search."""


def edit_of(name: str, **settings: Any) -> Any:
    """A method as fast as it can be told to be."""
    config = METHODS[name].config
    assert config
    known = {field.name for field in dataclasses.fields(config)}  # type: ignore[arg-type]
    return configure(name, {key: value for key, value in (QUICK | settings).items() if key in known})


@pytest.fixture(scope="module")
def pipe() -> Any:
    """Two levels: cross-attention on maps of the latent's own size, and on half of it in the middle."""
    return tiny.stable_diffusion(
        sample_size=16,
        block_out_channels=(32, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )


def steps_of(pipe: Any, prompt: Any = PROMPT, seed: int = 0, **options: Any) -> list[Tensor]:
    """The latents after every step."""
    kept: list[Tensor] = []

    def keep(pipe: Any, step: int, timestep: Any, values: dict[str, Tensor]) -> dict[str, Tensor]:
        kept.append(values["latents"].clone())
        return values

    count = 1 if isinstance(prompt, str) else len(prompt)
    generators = [torch.Generator().manual_seed(seed + i) for i in range(count)]
    small = {"height": 64, "width": 80, "num_inference_steps": 2, "output_type": "latent"}
    pipe(prompt, generator=generators, callback_on_step_end=keep, **(small | options))
    return kept


@pytest.fixture(scope="module")
def plain(pipe: Any) -> list[Tensor]:
    return steps_of(pipe)


def test_only_what_is_refused_here_is_held_to_its_promises_elsewhere() -> None:
    assert {name for name in METHODS if not works(name, FAMILIES[0])} == ELSEWHERE


@pytest.mark.parametrize("name", NAMES)
def test_before_during_after(name: str, pipe: Any, plain: list[Tensor]) -> None:
    """Another picture inside the block, the same one twice; afterwards the very objects and the very picture."""
    objects, scheduler = everything_in(pipe), sorted(vars(pipe.scheduler))
    generator = torch.get_rng_state()
    with regulate(pipe, config=edit_of(name, window=(0.0, 1.0))) as trace:
        during = steps_of(pipe)
        again = steps_of(pipe)
        assert (trace.steps, trace.regulated_steps) == (2, 2 if name in WINDOWED else 1)
        assert [target.text for target in trace.targets[0]] == ["cat", "blue balloon"]
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.equal(during[-1], again[-1])
    assert not torch.equal(during[0], plain[0])
    assert not torch.allclose(during[-1], plain[-1], rtol=0, atol=1e-6)
    assert objects == everything_in(pipe)
    assert scheduler == sorted(vars(pipe.scheduler))
    assert torch.equal(steps_of(pipe)[-1], plain[-1])


@pytest.mark.parametrize("name", NAMES)
def test_strength_0_and_no_window_are_the_unmodified_model(name: str, pipe: Any, plain: list[Tensor]) -> None:
    never = [{"window": (0.5, 0.5)}] * (name in WINDOWED)
    for settings in ({"strength": 0.0, "window": (0.0, 1.0)}, *never):
        with regulate(pipe, config=edit_of(name, **settings)) as trace:
            assert torch.equal(steps_of(pipe)[-1], plain[-1])
        assert trace.regulated_steps == 0


@pytest.mark.parametrize("name", [name for name in NAMES if "gradient" in METHODS[name].needs])
def test_step_size_0_is_the_unmodified_model(name: str, pipe: Any, plain: list[Tensor]) -> None:
    with regulate(pipe, config=edit_of(name, step_size=0.0, window=(0.0, 1.0))) as trace:
        assert torch.equal(steps_of(pipe)[-1], plain[-1])
    assert trace.regulated_steps == 2


@pytest.mark.parametrize("name", WINDOWED)
def test_outside_the_window_bit_identical(name: str, pipe: Any, plain: list[Tensor]) -> None:
    with regulate(pipe, config=edit_of(name, window=(0.5, 1.0))) as trace:
        late = steps_of(pipe)
    assert trace.regulated_steps == 1
    assert [torch.equal(a, b) for a, b in zip(late, plain, strict=True)] == [True, False]


@pytest.mark.parametrize("name", NAMES)
def test_everything_is_restored_when_the_call_raises(name: str, pipe: Any, plain: list[Tensor]) -> None:
    """In the midst of the second step, inside the denoiser."""
    objects, scheduler = everything_in(pipe), sorted(vars(pipe.scheduler))
    calls: list[int] = []

    def fail(*_: Any) -> None:
        calls.append(1)
        if torch.is_grad_enabled() or len(calls) > 2:
            raise KeyboardInterrupt("on purpose")

    handle = pipe.unet.mid_block.register_forward_pre_hook(fail)
    try:
        with pytest.raises(KeyboardInterrupt, match="on purpose"), regulate(pipe, config=edit_of(name)):
            steps_of(pipe, num_inference_steps=4)
    finally:
        handle.remove()
    assert objects == everything_in(pipe)
    assert scheduler == sorted(vars(pipe.scheduler))
    assert all(one.requires_grad for one in pipe.unet.parameters())
    assert torch.equal(steps_of(pipe)[-1], plain[-1])


@pytest.mark.parametrize("guidance_scale", [1.0, 7.5])
@pytest.mark.parametrize("name", sorted(set(NAMES) - {"attention-regulation:reference"}))
def test_images_do_not_see_one_another(name: str, guidance_scale: float, pipe: Any) -> None:
    """With and without guidance. (The published code of Attention Regulation chooses one step for a whole batch.)"""
    prompts, targets = ["a dog", PROMPT], [["dog"], None]
    config, options = edit_of(name), {"guidance_scale": guidance_scale}
    with regulate(pipe, targets, config):
        together = steps_of(pipe, prompts, **options)[-1]
    plain = steps_of(pipe, prompts, **options)[-1]
    for i, (prompt, wanted) in enumerate(zip(prompts, targets, strict=True)):
        with regulate(pipe, wanted, config):
            alone = steps_of(pipe, prompt, seed=i, **options)[-1]
        # Where a latent is moved, rounding is multiplied by the length of the move.
        torch.testing.assert_close(together[i], alone[0], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(together[1], plain[1], rtol=0, atol=1e-6)


# --- several at once ----------------------------------------------------------------------------------------------

PAIRS = [
    ("prompt-weighting", "attention-regulation"),
    ("structured-diffusion", "attention-scaling"),
    ("attend-and-excite", "attention-regulation"),
    ("dense-diffusion", "structured-diffusion"),
    ("composable-diffusion", "syngen"),
]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_two_methods_at_once(first: str, second: str, pipe: Any, plain: list[Tensor]) -> None:
    """Both act, each in its own window; the one that is switched off leaves exactly the other."""
    objects = everything_in(pipe)
    drawn = {}
    for name in (first, second, f"{first}+{second}", f"{second}+{first}"):
        with regulate(pipe, config=configure(name, quick_of(name) | {"window": (0.0, 1.0)})) as trace:
            drawn[name] = steps_of(pipe)[-1]
        assert trace.regulated_steps == 2
    both = drawn[f"{first}+{second}"]
    assert torch.equal(both, drawn[f"{second}+{first}"])
    assert not any(torch.allclose(both, drawn[name], rtol=0, atol=1e-6) for name in (first, second))
    assert objects == everything_in(pipe)


def quick_of(name: str) -> dict[str, Any]:
    """Of the quick settings those that one of the methods has."""
    known = {
        field.name
        for part in name.split("+")
        for field in dataclasses.fields(METHODS[part].config)  # type: ignore[arg-type]
    }
    return {key: value for key, value in QUICK.items() if key in known}


def test_a_part_that_is_switched_off_leaves_the_other(pipe: Any) -> None:
    from attnreg.methods.attend_and_excite import AttendAndExcite
    from attnreg.methods.prompt_weighting import PromptWeighting
    from attnreg.regulation.config import AttentionRegulation
    from attnreg.regulation.kinds import Composed

    regulation = AttentionRegulation()
    with regulate(pipe, config=regulation):
        alone = steps_of(pipe)[-1]
    off = Composed((PromptWeighting(strength=0.0), regulation, AttendAndExcite(strength=0.0)))
    with regulate(pipe, config=off) as trace:
        assert torch.equal(steps_of(pipe)[-1], alone)
    assert trace.regulated_steps == 1
    assert trace.records


CLASHES = [
    ("attention-regulation", "attention-scaling", "the logits"),
    ("attention-regulation", "dense-diffusion", "the attention over the text"),
    ("prompt-weighting", "structured-diffusion", "the embedding"),
    ("attend-and-excite", "conform", "the latent"),
    ("composable-diffusion", "attention-regulation", "how the prompt is heard"),
    ("prompt-weighting", "composable-diffusion", "how the prompt is heard"),
]


@pytest.mark.parametrize(("first", "second", "what"), CLASHES)
def test_two_methods_that_change_the_same(first: str, second: str, what: str) -> None:
    for name in (f"{first}+{second}", f"{second}+{first}"):
        with pytest.raises(AttnregError, match=f"{what}; choose one"):
            configure(name)


def test_what_is_no_edit_is_refused(pipe: Any) -> None:
    from attnreg.attention.calls.edits import edits_of
    from attnreg.methods.attention_scaling import AttentionScaling

    for wrong in (object(), AttentionScaling):
        with pytest.raises(AttnregError, match="expected an edit such as"):
            edits_of(wrong)
