"""Latents that are moved in every family that allows it: what is seen, its gradient, and each method's promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from promises import IDLE, PROMPT, everything_in, held_before_during_after, held_of_two_prompts
from test_promises import edit_of
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

import tiny_families
from attnreg import AttnregError, configure, regulate
from attnreg.attention.calls.call import Call, contained
from attnreg.attention.families import FAMILIES, beside, family_of, select_layers
from attnreg.attention.families.family import BY_SELF_ATTENTION, LATENT, Family
from attnreg.attention.layers.catch import scaled_logits
from attnreg.attention.lookahead import map_recorder
from attnreg.attention.lookahead.map_recorder import MapRecorder
from attnreg.catalogue import works
from attnreg.methods import METHODS
from attnreg.regulation.edit import Maps, PromptWords
from test_latents import Push
from tiny_families import SMALL

STEPS = 2
METHODS_HERE = [name for name, one in METHODS.items() if "gradient" in one.needs]
BY_NAME = {family.name: family for family in FAMILIES}
REFERRING = {"FLUX.2 klein KV"}
"""Pipelines that are given a picture to refer to beside the latents."""
MOVED = [
    name
    for name in tiny_families.FAMILIES
    if LATENT in BY_NAME[tiny_families.VARIANTS.get(name, name)].kinds and name not in REFERRING
]


@pytest.fixture(scope="module", params=MOVED)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def methods_of(pipe: Any) -> list[str]:
    family, _ = family_of(pipe)
    return [method for method in METHODS_HERE if works(method, family)]


# --- what is seen -------------------------------------------------------------------------------------------------


class Softmax(TorchFunctionMode):
    """Notes the whole softmax of every attention call over so many keys (any number of them, if it is not told)."""

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
                mask = args[3] if len(args) > 3 else kwargs.get("attn_mask")
                key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
                self.first = scaled_logits(query, key, mask, kwargs.get("scale")).softmax(-1)
                self.queries = query.shape[2]
        return func(*args, **kwargs)


@contextmanager
def noted(modules: dict[str, Any], count: int | None) -> Iterator[dict[str, Softmax]]:
    """The softmax of each module's attention call while the denoiser runs in the block."""
    found = {name: Softmax(count) for name in modules}

    def around(name: str, original: Any) -> Any:
        def forward(*args: Any, **kwargs: Any) -> Any:
            with found[name]:
                return original(*args, **kwargs)

        return forward

    there = {name: vars(module).get("forward") for name, module in modules.items()}
    for name, module in modules.items():
        module.forward = around(name, module.forward)
    try:
        yield found
    finally:
        for name, module in modules.items():
            del module.forward
            if there[name] is not None:
                module.forward = there[name]


def seen_by_hand(pipe: Any, call: Call, row: int, z: Tensor) -> tuple[Tensor, Tensor | None]:
    """What a row gives to its text, and to itself, from the whole softmax of each layer; nothing is computed twice."""
    family, denoiser = family_of(pipe)
    layers = select_layers(family, denoiser, ("auto",))
    apart = beside(family, denoiser, list(layers)) if looks_apart(family) else {}
    rows = len(call.sample)
    latents = call.beside(torch.stack([z] * rows).to(call.sample))
    arguments = call.arguments | {call.family.sample: call.family.listed(latents)}
    with (
        noted(layers, family.keys(arguments)) as found,
        noted(apart, None) as over_itself,
        torch.enable_grad(),
    ):
        denoiser(**contained(arguments))
    cross, own = [], [one.first[row].mean(0) for one in over_itself.values() if one.first is not None]
    assert len(own) == len(apart)
    for layer, one in found.items():
        assert one.first is not None
        keys = one.first.shape[-1]
        places = family.places_of_rows(range(rows), layer, arguments, denoiser, one.queries, keys)[row]
        asked = one.first[row][:, places.queries]
        cross.append(asked[..., places.text : places.text + tokens_in(family, call, row, arguments)].mean(0))
        if family.sees_itself:
            assert isinstance(places.queries, slice)
            pixels = places.grid.pixels
            start = places.queries.start if keys == one.queries else 0 if places.text else keys - one.queries
            own.append(asked[..., start : start + pixels].mean(0))
    means = [torch.stack(maps).mean(0) for maps in (cross, own) if maps]
    shares = [maps / maps.sum(-1, keepdim=True) for maps in means]
    return shares[0], shares[1] if own else None


def looks_apart(family: Family) -> bool:
    """Whether the picture looks at itself in layers of their own."""
    return BY_SELF_ATTENTION in family.kinds and not family.sees_itself


def tokens_in(family: Family, call: Call, row: int, arguments: dict[str, Any]) -> int:
    """How many columns the text of a row fills."""
    return family.tokens(call.of_rows([row]))


def test_what_is_seen_is_the_models_own_and_so_is_its_gradient(
    pipe: Any, draw: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the whole softmax of every layer of a plain pass, where nothing is left out or computed anew."""
    calls: list[tuple[Call, int]] = []
    original = MapRecorder.__call__

    def noting(self: MapRecorder, call: Call, row: int, sample: Tensor) -> Maps:
        calls.append((call, row))
        return original(self, call, row, sample)

    monkeypatch.setattr(MapRecorder, "__call__", noting)
    family, _ = family_of(pipe)
    needs_self = BY_SELF_ATTENTION in family.kinds
    told: list[tuple[Tensor, Tensor]] = []
    latents: list[Tensor] = []

    def tell(z: Tensor, cross: Tensor, own: Tensor | None) -> None:
        weights = torch.rand(cross.shape[1], generator=torch.Generator().manual_seed(1))
        loss = (cross @ weights).square().sum()
        if own is not None:
            loss = loss + own.square().sum()
        told.append((cross.detach(), torch.autograd.grad(loss, z)[0]))

    def look(see: Any, latent: Tensor, words: PromptWords) -> None:
        latents.append(latent)
        z = latent.clone().requires_grad_(True)
        maps = see(z)
        assert maps.cross.shape[0] == maps.grid.pixels
        assert maps.grid.height < maps.grid.width
        torch.testing.assert_close(maps.cross.sum(-1), torch.ones(len(maps.cross)))
        tell(z, maps.cross, maps.own)

    with regulate(pipe, config=Push(0, look=look, needs_self=needs_self)):
        draw(num_inference_steps=1)
    z = latents[0].clone().requires_grad_(True)
    tell(z, *seen_by_hand(pipe, *calls[0], z))
    (ours, slope), (theirs, expected) = told
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    assert expected.abs().max() > 0
    torch.testing.assert_close(slope / expected.abs().max(), expected / expected.abs().max(), rtol=1e-3, atol=1e-3)


def test_of_large_maps_one_head_at_a_time_is_noted(
    pipe: Any, draw: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the picture looks at itself in layers of their own: the same maps, and the same gradient."""
    if not looks_apart(family_of(pipe)[0]):
        pytest.skip("all that it looks at is noted one head at a time")
    seen: list[tuple[Tensor, Tensor]] = []

    def look(see: Any, latent: Tensor, words: PromptWords) -> None:
        for most in (map_recorder.SMALL, 0):
            monkeypatch.setattr(map_recorder, "SMALL", most)
            z = latent.clone().requires_grad_(True)
            own = see(z).own
            seen.append((own.detach(), torch.autograd.grad(own.square().sum(), z)[0]))

    with regulate(pipe, config=Push(0, look=look, needs_self=True)):
        draw(num_inference_steps=1)
    (whole, slope), (by_head, slope_by_head) = seen[:2]
    torch.testing.assert_close(by_head, whole, rtol=1e-4, atol=1e-6)
    assert slope.abs().max() > 0
    torch.testing.assert_close(slope_by_head / slope.abs().max(), slope / slope.abs().max(), rtol=1e-3, atol=1e-3)


def test_every_loss_falls_along_its_gradient(pipe: Any, draw: Callable[..., Tensor]) -> None:
    family, _ = family_of(pipe)
    fell: dict[str, bool] = {}

    def look(see: Any, latent: Tensor, words: PromptWords) -> None:
        for method in methods_of(pipe):
            edit = edit_of(method)
            memory: dict[str, Any] = {}
            before = edit.look(latent, see, words, 0, 4, memory)
            if before.gradient is None:  # nothing that attracts or repels
                continue
            step = 0.02 * before.gradient / before.gradient.norm() * latent.norm()
            fell[method] = any(
                edit.look(latent - shrunk * step, see, words, 0, 4, {}).loss < before.loss for shrunk in (1, 0.1, 0.01)
            )

    with regulate(pipe, config=Push(0, look=look, needs_self=BY_SELF_ATTENTION in family.kinds)):
        draw(num_inference_steps=1)
    assert fell.keys() >= {"attend-and-excite", "divide-and-bind", "syngen"}
    assert all(fell.values()), fell


# --- promises -----------------------------------------------------------------------------------------------------


def test_before_during_after(pipe: Any, draw: Callable[..., Tensor], plain: Tensor) -> None:
    edit = edit_of("attend-and-excite", window=(0.0, 1.0))
    trace = held_before_during_after(pipe, draw, plain, edit, (*IDLE, {"step_size": 0.0}))
    assert (trace.steps, trace.regulated_steps, len(trace.updates)) == (2, 2, 2)
    assert all(one.requires_grad for one in family_of(pipe)[1].parameters())


def test_every_method_moves_the_picture(pipe: Any, draw: Callable[..., Tensor], plain: Tensor) -> None:
    objects = everything_in(pipe)
    for method in methods_of(pipe):
        # On some random networks the cost of FOCUS hardly depends on the latent.
        large = {"step_size": 9_000.0} if method == "focus" else {}
        with regulate(pipe, config=edit_of(method, window=(0.0, 1.0), **large)) as trace:
            during = draw()
        assert len(trace.updates) == 2
        assert during.isfinite().all()
        assert not torch.allclose(during, plain, rtol=0, atol=1e-6), method
    assert objects == everything_in(pipe)


def test_the_step_is_taken_from_the_moved_latents(pipe: Any, draw: Callable[..., Tensor], plain: Tensor) -> None:
    """All calls of a step are of the moved latents: a push before the first step is another start."""
    given: list[Tensor] = []
    _, denoiser = family_of(pipe)
    handle = denoiser.register_forward_pre_hook(
        lambda module, args, kwargs: given.append(latents_in(module, pipe, args, kwargs)), with_kwargs=True
    )
    original = denoiser.forward
    seen: list[Tensor] = []

    def forward(*args: Any, **kwargs: Any) -> Any:
        seen.append(latents_in(denoiser, pipe, args, kwargs))
        return original(*args, **kwargs)

    denoiser.forward = forward
    try:
        with regulate(pipe, config=Push(0, 0.25)):
            moved = draw(num_inference_steps=1)
    finally:
        handle.remove()
        denoiser.forward = original
        del denoiser.forward
    assert len(seen) == len(given)
    for pushed, one in zip(seen, given, strict=True):
        torch.testing.assert_close(pushed, one + 0.25)
    assert not torch.allclose(moved, draw(num_inference_steps=1))


def latents_in(denoiser: Any, pipe: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    from attnreg.attention.layers.catch import own_signature

    told = own_signature(denoiser, "forward").bind(*args, **kwargs).arguments[family_of(pipe)[0].sample]
    return torch.stack(told) if isinstance(told, list) else told.clone()


def test_two_prompts_with_targets_of_their_own(name: str, pipe: Any, draw: Callable[..., Tensor]) -> None:
    if name == "DreamLite":
        pytest.skip("it draws one prompt")
    edit = replace(edit_of("attend-and-excite"), step_size=1.0)
    trace = held_of_two_prompts(name, pipe, draw, edit, 1e-2)
    assert {one.image for one in trace.updates} == {0, 1}


def test_everything_is_restored_when_a_look_raises(pipe: Any, draw: Callable[..., Tensor], plain: Tensor) -> None:
    """In the midst of a pass with gradients."""
    objects, scheduler = everything_in(pipe), sorted(vars(pipe.scheduler))
    family, denoiser = family_of(pipe)

    def fail(*_: Any) -> None:
        if torch.is_grad_enabled():
            raise KeyboardInterrupt("on purpose")

    edit = edit_of("attend-and-excite")
    last = list(select_layers(family, denoiser, ("auto",)).values())[-1]
    handle = last.register_forward_pre_hook(fail)
    try:
        with pytest.raises(KeyboardInterrupt, match="on purpose"), regulate(pipe, config=edit):
            draw()
    finally:
        handle.remove()
    assert objects == everything_in(pipe)
    assert scheduler == sorted(vars(pipe.scheduler))
    assert all(one.requires_grad for one in denoiser.parameters())
    assert torch.equal(draw(), plain)


def test_what_sees_the_picture_itself_is_refused_where_it_does_not(name: str, pipe: Any) -> None:
    family, _ = family_of(pipe)
    if BY_SELF_ATTENTION in family.kinds:
        pytest.skip("it works there")
    for method in ("initno", "self-cross"):
        with pytest.raises(AttnregError, match=f"which edits the {BY_SELF_ATTENTION}"):
            regulate(pipe, config=configure(method)).__enter__()


@pytest.mark.parametrize("name", sorted(REFERRING))
def test_what_is_given_beside_the_latents_is_refused(name: str) -> None:
    made = tiny_families.FAMILIES[name]()
    with pytest.raises(AttnregError, match="a picture to refer to as well"), regulate(made, config=Push(0)):
        made(prompt=PROMPT, num_inference_steps=1, **SMALL[name])
