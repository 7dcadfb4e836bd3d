"""Promises that every method keeps, and the test of the design: a new one is one dict line."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import tiny
from attnreg.attention.calls.edits import kinds_of
from attnreg.attention.families import FAMILIES
from attnreg.catalogue import works
from attnreg.methods import METHODS
from attnreg.methods.attention_scaling import AttentionScaling
from attnreg.methods.method import Method
from attnreg.methods.setting import Setting
from attnreg.regulation.columns import LogitEdit
from attnreg.regulation.edit import Edited, ProbabilityEdit, PromptColumns
from attnreg.sampling import configure, generate, read_settings
from attnreg.types import AttnregError, Grid, Logits
from materialised import edited as materialised

PROMPT = "a cat and a blue balloon"
SMALL = {"height": 64, "width": 64, "num_inference_steps": 2}
CONFIGS = {name: method.config for name, method in METHODS.items() if method.config is not None and name != "auto"}
"""`auto` is one of two of them, and has no settings: `attention/test_auto.py`."""
LOGITS = [name for name, config in CONFIGS.items() if isinstance(config(), LogitEdit | ProbabilityEdit)]
ON_UNETS = [name for name in LOGITS if works(name, FAMILIES[0])]


@pytest.fixture(scope="module")
def pipe() -> Any:
    return tiny.stable_diffusion()


@pytest.fixture(scope="module")
def unmodified(pipe: Any) -> np.ndarray:
    return np.asarray(generate(pipe, PROMPT, None, **SMALL).picture)


GRID = Grid(4, 6)


def example(images: int = 2, grid: Grid = GRID) -> tuple[Tensor, list[PromptColumns], Grid]:
    logits = 2 * torch.randn(images, 3, grid.pixels, 8, generator=torch.Generator().manual_seed(0))
    prompts = [PromptColumns(((1, 2), (4,)), 0, 5), PromptColumns(((5,), (3, 2)), 0, 6)]
    return logits, prompts[:images], grid


@pytest.mark.parametrize("name", METHODS)
def test_every_method_explains_itself(name: str) -> None:
    method = METHODS[name]
    assert method.summary
    assert method.edits
    assert method.passes
    assert set(method.needs) <= {"parse", "layout", "gradient"}
    assert "\n" not in "".join((method.summary, method.paper, method.edits, method.passes))
    if method.config is None:
        assert name == "none"
    else:
        assert dataclasses.is_dataclass(method.config)
        assert isinstance(method.home, str), "loaded when it is asked for"
        assert method.home.startswith(("methods.", "regulation."))


def test_the_table_of_methods_loads_none_of_them() -> None:
    """In a process of its own: names and summaries want neither torch nor a method's file."""
    code = (
        "import sys; from attnreg.methods import METHODS; assert all(one.summary for one in METHODS.values());"
        "print([name for name in sys.modules if name == 'torch' or name.startswith('attnreg.regulation')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", METHODS)
def test_settings_are_written_as_they_are_read(name: str) -> None:
    config, settings = METHODS[name].config, METHODS[name].settings()
    assert list(settings) == ([field.name for field in dataclasses.fields(config)] if config else [])  # type: ignore[arg-type]
    for one in settings.values():
        assert one.help
        assert one.read(one.written) == one.default
        assert type(one.read(one.written)) is type(one.default)
    if config:
        assert config(**{one.name: one.read(one.written) for one in settings.values()}) == config()


@pytest.mark.parametrize(
    ("method", "name", "text", "value"),
    [
        ("attention-balance", "gain", "2", 2.0),
        ("attention-balance", "gain", " 1e-1 ", 0.1),
        ("attention-balance", "window", "0, 0.5", (0.0, 0.5)),
        ("attention-balance", "window", "(0, 0.5)", (0, 0.5)),
        ("attention-balance", "layers", "mid_block,up_blocks.1", ("mid_block", "up_blocks.1")),
        ("attention-balance", "layers", "['up_blocks.[12]', '*.attn2']", ("up_blocks.[12]", "*.attn2")),
        ("best-start", "starts", "12", 12),
        ("best-start", "spare", "False", False),
        ("attend-and-excite", "thresholds", "", ()),
        ("dense-diffusion", "boxes", "((0,0,.5,1),(.5,0,1,1))", ((0, 0, 0.5, 1), (0.5, 0, 1, 1))),
        ("prompt-weighting+attention-balance", "gain", "2", 2.0),
    ],
)
def test_settings_are_read(method: str, name: str, text: str, value: Any) -> None:
    assert read_settings(method, {name: text}) == {name: value}
    assert configure(method, read_settings(method, {name: text})) is not None


@pytest.mark.parametrize(
    ("method", "name", "text", "message"),
    [
        ("attention-balance", "gain", "much", "gain: expected a number, got 'much'; write it as in gain=3.0"),
        ("attention-balance", "window", "0.5", "window: expected 2 numbers separated by commas, got '0.5'"),
        ("attention-balance", "window", "(0, 0.5", "window: expected 2 numbers"),
        ("best-start", "starts", "8.0", "starts: expected a whole number, got '8.0'"),
        ("best-start", "spare", "perhaps", "spare: expected true or false, got 'perhaps'"),
        ("dense-diffusion", "boxes", "0,0,1,1", "boxes: expected values in brackets separated by commas"),
        ("attention-balance", "gian", "2", "got gian; did you mean gain?"),
        ("attention-balance", "shift", "2", "got shift; leave it out, or choose a method that has it, such as attent"),
        ("auto", "gain", "2", "settings of auto (it has none), got gain; leave it out, or choose a method that has it"),
        ("none", "gain", "2", "settings of none (it has none)"),
        ("no-such", "gain", "2", "'no-such'"),
    ],
)
def test_settings_that_are_not_read(method: str, name: str, text: str, message: str) -> None:
    with pytest.raises(AttnregError) as told:
        read_settings(method, {name: text})
    assert message in str(told.value)


@given(st.floats(allow_nan=False), st.integers(), st.booleans(), st.lists(st.floats(allow_nan=False), max_size=3))
def test_any_value_survives(number: float, whole: int, truth: bool, several: list[float]) -> None:
    for value, kind in ((number, float), (whole, int), (truth, bool), (tuple(several), tuple[float, ...])):
        setting = Setting("one", kind, value, "")
        assert setting.read(setting.written) == value


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_are_frozen_and_share_their_first_settings(name: str) -> None:
    edit = CONFIGS[name]()
    kinds = kinds_of(edit)
    assert len(kinds) == 1
    assert ("gradient" in METHODS[name].needs) == (kinds == ["latent"])
    shared = (
        ["strength"]
        + ["window"] * (kinds != ["start"])
        + ["layers"] * (kinds[0] in ("logits", "attention", "joint", "latent"))
    )
    assert [field.name for field in dataclasses.fields(edit)][: len(shared)] == shared
    assert edit.strength > 0
    for field in dataclasses.fields(edit):
        assert field.metadata["help"], f"{field.name} has no help"
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(edit, field.name, getattr(edit, field.name))
    assert CONFIGS[name]() == edit
    assert hash(CONFIGS[name]()) == hash(edit)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(
    "settings",
    [{"strength": -1.0}, {"strength": math.nan}, {"window": (0.6, 0.5)}, {"window": (0.0, 1.5)}, {"layers": ()}],
    ids=str,
)
def test_shared_settings_are_checked(name: str, settings: dict[str, Any]) -> None:
    if not settings.keys() <= {field.name for field in dataclasses.fields(CONFIGS[name]())}:
        pytest.skip("it acts in no layers of its own")
    with pytest.raises(AttnregError, match=next(iter(settings))):
        CONFIGS[name](**settings)


@pytest.mark.parametrize("name", LOGITS)
def test_strength_zero_is_the_unmodified_attention(name: str) -> None:
    """To the bit, in the edit itself: not only because the pipeline would skip it."""
    logits, prompts, grid = example()
    edited = materialised(CONFIGS[name](strength=0.0), logits, prompts, grid, 0, "layer", {})
    assert torch.equal(edited.probabilities, logits.softmax(-1))
    assert torch.equal(edited.mass_before, edited.mass_after)


@pytest.mark.parametrize("name", LOGITS)
def test_strength_zero_draws_the_unmodified_picture(name: str, pipe: Any, unmodified: np.ndarray) -> None:
    edit = CONFIGS[name](strength=0.0, layers=("all",), window=(0.0, 1.0))
    assert np.array_equal(np.asarray(generate(pipe, PROMPT, edit, **SMALL).picture), unmodified)


@pytest.mark.parametrize("name", ON_UNETS)
def test_full_strength_draws_another_picture(name: str, pipe: Any, unmodified: np.ndarray) -> None:
    """In the layers with the largest maps, where each of them can work."""
    edit = CONFIGS[name](layers=("down_blocks.0",), window=(0.0, 0.5))
    drawn = generate(pipe, PROMPT, edit, **SMALL)
    assert not np.array_equal(np.asarray(drawn.picture), unmodified)
    assert drawn.trace.regulated_steps == 1
    assert np.array_equal(np.asarray(generate(pipe, PROMPT, edit, **SMALL).picture), np.asarray(drawn.picture))


@pytest.mark.parametrize("name", sorted(set(LOGITS) - {"attention-regulation:reference"}))
def test_images_do_not_see_one_another(name: str) -> None:
    """What an image gets does not depend on its company. (The published code chooses one step for a whole batch.)"""
    logits, prompts, grid = example()
    together = materialised(CONFIGS[name](), logits, prompts, grid, 0, "layer", {})
    for image in range(2):
        mine = logits[image : image + 1], prompts[image : image + 1]
        alone = materialised(CONFIGS[name](), *mine, grid, 0, "layer", {})
        torch.testing.assert_close(together.probabilities[image : image + 1], alone.probabilities)
        torch.testing.assert_close(together.mass_after[image : image + 1], alone.mass_after)


@given(
    strength=st.floats(0, 3),
    shift=st.floats(-4, 4),
    factor=st.floats(0, 2),
    images=st.integers(1, 2),
    height=st.integers(1, 3),
    width=st.integers(1, 3),
)
def test_attention_scaling_by_hand(
    strength: float, shift: float, factor: float, images: int, height: int, width: int
) -> None:
    """Against loops over plain numbers: raise the targets' logits one by one, take exponentials, then divide."""
    logits, prompts, grid = example(images, grid=Grid(height, width))
    edit = AttentionScaling(strength=strength, shift=shift, factor=factor)
    edited = materialised(edit, logits, prompts, grid, 3, "layer", {})
    expected = []
    for image, prompt in zip(logits.tolist(), prompts, strict=True):
        heeded = [column for target in prompt.targets for column in target]
        before, after = [0.0] * len(prompt.targets), [0.0] * len(prompt.targets)
        rows = [row for head in image for row in head]
        for row in rows:
            plain = [math.exp(logit) for logit in row]
            raised = [
                math.exp(logit + strength * ((factor - 1) * logit + shift)) if token in heeded else math.exp(logit)
                for token, logit in enumerate(row)
            ]
            expected.append([e / sum(raised) for e in raised])
            for index, target in enumerate(prompt.targets):
                before[index] += sum(plain[token] for token in target) / sum(plain) / len(rows)
                after[index] += sum(raised[token] for token in target) / sum(raised) / len(rows)
        number = prompts.index(prompt)
        assert edited.mass_before[number].tolist() == pytest.approx(before, rel=1e-4)
        assert edited.mass_after[number].tolist() == pytest.approx(after, rel=1e-4)
    torch.testing.assert_close(edited.probabilities.flatten(0, 2), torch.tensor(expected), rtol=1e-4, atol=1e-7)
    assert edited.loss_before is None


# --- a method from outside ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Deaf:
    """A toy: the targets' tokens are not heard at all, in the first half of the steps."""

    strength: float = 1.0
    window: tuple[float, float] = (0.0, 0.5)
    layers: tuple[str, ...] = ("auto",)

    def __call__(
        self,
        logits: Logits,
        prompts: Sequence[PromptColumns],
        grid: Grid,
        step: int,
        layer: str,
        memory: dict[str, Any],
    ) -> Edited:
        heard, mass = logits.softmax(-1), torch.zeros(len(prompts), len(prompts[0].targets))
        probabilities = heard.clone()
        for image, prompt in enumerate(prompts):
            probabilities[image, :, :, [column for target in prompt.targets for column in target]] = 0
        return Edited(probabilities, mass, mass)


def test_a_new_method_is_one_line(monkeypatch: pytest.MonkeyPatch, pipe: Any, unmodified: np.ndarray) -> None:
    with pytest.raises(AttnregError, match="'deaf'"):
        configure("deaf")
    monkeypatch.setitem(METHODS, "deaf", Method(Deaf, "a toy", ""))
    edit = configure("deaf", {"window": (0.0, 1.0)})
    drawn = generate(pipe, PROMPT, edit, targets=["cat"], **SMALL)
    assert not np.array_equal(np.asarray(drawn.picture), unmodified)
    assert drawn.trace.regulated_steps == drawn.trace.steps == 2
    assert drawn.trace.attention() == [{"cat": (0.0, 0.0)}]
    with pytest.raises(AttnregError, match="strength, window, layers"):
        configure("deaf", {"loudness": 3})
