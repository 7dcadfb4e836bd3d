"""Every transformer family: the right columns, rows and queries, nothing else, and nothing left behind."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from promises import PROMPT, everything_in, held_before_during_after, held_of_two_prompts
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

import tiny_families
import tiny_transformers
from attnreg import AttentionBalance, AttentionRegulation, AttnregError, configure, regulate
from attnreg.attention import attending
from attnreg.attention.families import FAMILIES, family_of, select_layers
from attnreg.attention.layers import correction
from attnreg.recipe import read_recipe
from attnreg.regulation.columns import Bias, ColumnAttention
from attnreg.studio import Session
from tiny_families import SMALL

Noted = tuple[Any, tuple[Any, ...], dict[str, Any], Tensor]
"""The parts of a corrected attention call, its arguments and what it returned."""


@pytest.fixture(scope="module", params=tiny_families.FAMILIES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def pipe(name: str) -> Any:
    return tiny_families.FAMILIES[name]()


@pytest.fixture
def draw(name: str, pipe: Any) -> Callable[..., Tensor]:
    def drawn(prompt: Any = PROMPT, **options: Any) -> Tensor:
        settings = {"num_inference_steps": 3, "output_type": "latent"} | SMALL[name] | options
        return tiny_families.drawn(pipe, prompt, settings)

    return drawn


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Noted]:
    """Every corrected attention call."""
    noted: list[Noted] = []

    def noting(parts: Any, *args: Any, **kwargs: Any) -> Tensor:
        output = correction.attend_corrected(parts, *args, **kwargs)
        noted.append(([part for part, _ in parts], args, kwargs, output.clone()))
        return output

    monkeypatch.setattr(attending, "attend_corrected", noting)
    return noted


def test_before_during_after(name: str, pipe: Any, draw: Callable[..., Tensor]) -> None:
    trace = held_before_during_after(pipe, draw, draw(), AttentionBalance())
    assert [target.text for target in trace.targets[0]] == ["cat", "blue balloon"]
    assert (trace.steps, trace.regulated_steps) == (3, 3), "calls for the negative prompt are no steps"
    assert {record.layer for record in trace.records} == set(trace.layers)
    assert family_of(pipe)[0].name == tiny_families.VARIANTS.get(name, name)


def test_the_default_says_which_method_acted(name: str, pipe: Any, draw: Callable[..., Tensor]) -> None:
    with regulate(pipe) as trace:
        draw()
    (decision,) = trace.decisions
    if name in tiny_families.FOLLOWED:
        assert decision.method == "best-start"
    else:
        assert decision.method == "attention-balance"
        assert any(why in decision.reason for why in ("cannot be foreseen yet", "a picture to refer to"))
        assert trace.regulated_steps > 0


def test_targets_are_heard_as_the_method_says(pipe: Any, draw: Callable[..., Tensor]) -> None:
    with regulate(pipe, config=AttentionBalance(gain=2.0)) as trace:
        draw()
    (told,) = trace.attention()
    assert sum(after for _, after in told.values()) > sum(before for before, _ in told.values())
    masses = [after for _, after in told.values()]
    assert max(masses) / min(masses) < 1.1, "both are heard alike"
    with regulate(pipe, config=AttentionRegulation()) as trace:
        draw()
    assert all(record.loss_after <= record.loss_before for record in trace.records)  # type: ignore[operator]


def test_the_picture_in_the_prompts_rows_alone(pipe: Any, draw: Callable[..., Tensor], calls: list[Noted]) -> None:
    """Against the model's own call: other rows and the text's own queries are the same to the bit."""
    with regulate(pipe, config=AttentionBalance(window=(0.0, 0.4))) as trace:
        draw()
    assert len(calls) == trace.regulated_steps * len(trace.layers)
    for (part,), args, kwargs, output in calls:
        plain = F.scaled_dot_product_attention(*args, **kwargs)
        edited = torch.zeros(output.shape[:3], dtype=torch.bool)
        for row in part.rows:
            edited[row, :, part.queries] = True
        assert torch.equal(output[~edited], plain[~edited])
        assert not torch.equal(output[edited], plain[edited])
        assert part.grid.pixels == output[:, :, part.queries].shape[2]
        assert part.grid.height < part.grid.width


class Keys(TorchFunctionMode):
    """Notes the keys of the first attention call in it, and how many queries it has; of so many keys, if it is told."""

    def __init__(self, count: int | None) -> None:
        super().__init__()
        self.count = count
        self.first: Tensor | None = None
        self.queries = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and self.first is None:
            query, key = args[:2] if len(args) > 1 else (kwargs["query"], kwargs["key"])
            if self.count is None or key.shape[2] == self.count:
                self.first, self.queries = key.detach().clone(), query.shape[2]
        return func(*args, **kwargs)


def keys_of(module: nn.Module, count: int | None, run: Callable[[], Any]) -> tuple[Tensor, int]:
    """The keys of a module's attention call while the denoiser runs, and how many queries it has."""
    noted, original = Keys(count), module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        with noted:
            return original(*args, **kwargs)

    module.forward = forward  # type: ignore[method-assign]
    try:
        run()
    finally:
        del module.forward
    assert noted.first is not None
    return noted.first, noted.queries


def test_a_probe_agrees_with_the_columns(pipe: Any, draw: Callable[..., Tensor], calls: list[Noted]) -> None:
    """Another embedding in a word's columns of the text moves exactly the keys that the family says stand for it."""
    family, denoiser = family_of(pipe)
    given: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    handle = denoiser.register_forward_pre_hook(
        lambda _, args, kwargs: given.append((args, dict(kwargs))), with_kwargs=True
    )
    try:
        with regulate(pipe, config=AttentionBalance(window=(0.0, 0.4))) as trace:
            draw()
    finally:
        handle.remove()
    arguments, rows = _bound(denoiser, *given[0]), calls[0][0][0].rows
    layer, module = next(iter(select_layers(family, denoiser, ("all",)).items()))
    columns = trace.targets[0][0].tokens[-1:] if _is_refined(denoiser) else trace.targets[0][0].tokens

    def run(changed: bool) -> tuple[Tensor, int]:
        moved = with_moved_texts(family, arguments, columns) if changed else {}
        with torch.no_grad():
            return keys_of(module, family.keys(arguments), lambda: denoiser(**(arguments | moved)))

    (before, queries), (after, _) = run(False), run(True)
    moved = (after - before).abs().sum((1, 3))
    with torch.no_grad():
        found = family.places_of_rows(range(len(before)), layer, arguments, denoiser, queries, before.shape[2])
    for row, places in [(moved[row], found[row]) for row in rows]:
        # A refiner of the text's own lets its tokens see one another first: the moved one moves most.
        at = [row.argmax().item()] if _is_refined(denoiser) else torch.nonzero(row).flatten().tolist()
        assert at == [places.text + column for column in columns]


def with_moved_texts(family: Family, arguments: dict[str, Any], columns: Sequence[int]) -> dict[str, Any]:
    """The denoiser's arguments that hold texts, with other embeddings where they fill some columns."""
    made, first = {}, 0
    for name in (family.text, *family.further):
        texts = arguments[name]
        moved = [text.clone() for text in texts]
        for text in moved:
            text[[column - first for column in columns if 0 <= column - first < len(text)]] += 1
        made[name] = moved if isinstance(texts, list) else torch.stack(moved)
        first += max(map(len, moved))
    if "encoder_hidden_states_llama3" in arguments:  # its layers' tokens stand twice behind T5's
        llama = arguments["encoder_hidden_states_llama3"].clone()
        behind = [(column - texts.shape[1]) % llama.shape[2] for column in columns if column >= texts.shape[1]]
        llama[:, :, behind] += 1
        made["encoder_hidden_states_llama3"] = llama
    return made


def _bound(denoiser: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    from attnreg.attention.layers.catch import own_signature

    return dict(own_signature(denoiser, "forward").bind(*args, **kwargs).arguments)


def _is_refined(denoiser: Any) -> bool:
    """Whether layers of the text's own, or norms over all of its tokens, come first."""
    refiners = ("context_refiner", "text_fusion", "text_transformer_blocks")
    return (
        any(hasattr(denoiser, name) for name in refiners)
        or hasattr(getattr(denoiser, "context_embedder", None), "token_refiner")
        or getattr(denoiser.config, "cross_attention_norm", None) == "group_norm"
    )


def test_words_are_found_where_the_encoder_read_them(
    pipe: Any, draw: Callable[..., Tensor], calls: list[Noted]
) -> None:
    """Another word in the prompt moves the target's column first, where text is read from left to right, or most."""
    told = []
    for prompt in (PROMPT, PROMPT.replace("cat", "car")):
        calls.clear()
        targets, texts = _drawn(pipe, draw, prompt)
        row = calls[0][0][0].rows[0]
        told.append((targets, torch.cat([text[row] for text in texts])))
    (targets, first), (_, second) = told
    length = min(len(first), len(second))
    moved = (first[:length] - second[:length]).abs().flatten(1).amax(-1)
    earliest = torch.nonzero(moved > 1e-3).flatten()[0].item()
    assert earliest in targets[0].tokens or moved.argmax().item() in targets[0].tokens


def _drawn(pipe: Any, draw: Callable[..., Tensor], prompt: str) -> tuple[Any, list[Any]]:
    """The targets of a prompt, and the embeddings that the denoiser is given in its first call, of each argument."""
    family, denoiser = family_of(pipe)
    given: list[dict[str, Any]] = []
    handle = denoiser.register_forward_pre_hook(
        lambda module, args, kwargs: given.append(_bound(module, args, kwargs)), with_kwargs=True
    )
    try:
        with regulate(pipe, config=AttentionBalance(window=(0.0, 0.4))) as trace:
            draw(prompt)
    finally:
        handle.remove()
    return trace.targets[0], [given[0][name] for name in (family.text, *family.further)]


def test_two_prompts_with_targets_of_their_own(name: str, pipe: Any, draw: Callable[..., Tensor]) -> None:
    if name == "DreamLite":
        pytest.skip("it draws one prompt")
    trace = held_of_two_prompts(name, pipe, draw, AttentionBalance(), 1e-3)
    assert [[target.text for target in one] for one in trace.targets] == [
        ["cat", "blue balloon"], ["clock", "dog", "car"],
    ]  # fmt: skip
    assert {record.image for record in trace.records} == {0, 1}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_everything_is_restored_when_the_call_raises(
    pipe: Any, draw: Callable[..., Tensor], error: type[BaseException]
) -> None:
    objects = everything_in(pipe)

    @torch.no_grad()
    def fails(*_: Any) -> None:
        raise error("stopped")

    _, denoiser = family_of(pipe)
    layers = list(select_layers(family_of(pipe)[0], denoiser, ("all",)).values())
    handle = layers[-1].register_forward_pre_hook(fails)
    try:
        with pytest.raises(error, match="stopped"), regulate(pipe, config=AttentionBalance()):
            draw()
    finally:
        handle.remove()
    after = everything_in(pipe)
    assert len(objects) == len(after)
    assert [one for one in objects if not isinstance(one, tuple)] == [
        one for one in after if not isinstance(one, tuple)
    ]
    with regulate(pipe, config=AttentionBalance()):
        assert draw().isfinite().all()


@pytest.mark.parametrize("method", ["best-start", "attend-and-excite", "attention-regulation:reference"])
def test_what_does_not_work_there_is_refused_in_a_line(
    name: str, pipe: Any, draw: Callable[..., Tensor], method: str
) -> None:
    kind = {"best-start": "start", "attend-and-excite": "latent"}.get(method, "probabilities")
    if kind in family_of(pipe)[0].kinds:
        pytest.skip("it works there")
    family = re.escape(tiny_families.VARIANTS.get(name, name))
    with pytest.raises(AttnregError, match=rf"works on {family}, got \w+, which edits the {kind}.*attention-balance"):
        regulate(pipe, config=configure(method)).__enter__()


def test_another_backend_is_set_aside_while_a_layer_is_edited() -> None:
    """Flex attention never calls the function that is caught; it is what the layers have again afterwards."""
    pipe = tiny_transformers.flux()
    processors = [module.processor for module in pipe.transformer.modules() if hasattr(module, "processor")]
    for processor in processors:
        processor._attention_backend = "flex"
    options = {"num_inference_steps": 2, "output_type": "latent", "height": 32, "width": 32, "max_sequence_length": 16}
    with regulate(pipe, config=AttentionBalance(window=(0.0, 1.0))) as trace:
        pipe(PROMPT, generator=torch.Generator().manual_seed(0), **options)
    assert {record.layer for record in trace.records} == set(trace.layers)
    assert [processor._attention_backend for processor in processors] == ["flex"] * len(processors)


def test_a_directory_is_drawn_from_as_the_command_line_does(name: str, pipe: Any, tmp_path: Path) -> None:
    """With the family's own defaults for what is not told, unmodified and regulated, and a recipe that says so."""
    if name in tiny_families.UNSAVED:
        pytest.skip(tiny_families.UNSAVED[name])
    pipe.save_pretrained(tmp_path / "model")
    height, width = tiny_families.SIDES.get(name, (64, 96))
    options: dict[str, Any] = {"method": "auto", "steps": 2, "device": "cpu", "height": height, "width": width}
    if hasattr(pipe, "prior"):
        with pytest.raises(
            AttnregError, match=r"draws pictures, got StableCascadePriorPipeline, .* regulate\(pipe.prior_pipe\)"
        ):
            Session.open(PROMPT, model=str(tmp_path / "model"), **options)
        return
    session = Session.open(PROMPT, model=str(tmp_path / "model"), **options)
    assert [target.text for target in session.targets] == ["cat", "blue balloon"]
    told: list[str] = []
    plain, regulated, sheet = session.draw([0], tmp_path / "out", beside_unmodified=True, say=told.append)
    assert (regulated.exists(), sheet.exists()) == (True, True)
    assert plain.read_bytes() != regulated.read_bytes()
    assert any(line.startswith("seed 0: ") for line in told)
    assert read_recipe(regulated).method == "auto"


def test_every_family_has_its_tiny_pipeline() -> None:
    built = {"Stable Diffusion", *tiny_families.FAMILIES} - tiny_families.VARIANTS.keys()
    assert {family.name for family in FAMILIES} == built


def test_a_method_of_ones_own_works_there_too() -> None:
    """Anything with a `bias` does: here all that the picture may look at are the targets."""

    class Only:
        strength, window, layers = 1.0, (0.0, 1.0), ("transformer_blocks.0",)

        def bias(self, attention: ColumnAttention, step: int, layer: str, memory: dict[str, Any]) -> Bias:
            return Bias(torch.full_like(attention.logits, 20.0))

    pipe = tiny_transformers.stable_diffusion_3()
    with regulate(pipe, config=Only()) as trace:  # type: ignore[arg-type]
        pipe(PROMPT, num_inference_steps=2, output_type="latent", **SMALL["Stable Diffusion 3"])
    assert trace.layers == ("transformer_blocks.0.attn",)
    assert sum(after for _, after in trace.attention()[0].values()) > 0.99
