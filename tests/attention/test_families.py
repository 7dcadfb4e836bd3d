"""Every transformer family: the right columns, rows and queries, nothing else, and nothing left behind."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from diffusers.models.attention_dispatch import attention_backend
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
from attnreg.attention.layers.catch import own_signature
from attnreg.models.defaults import defaults_of
from attnreg.models.load import load_pipeline
from attnreg.recipe import read_recipe
from attnreg.regulation.columns import Bias, ColumnAttention
from attnreg.studio import Session
from attnreg.types import Target
from tiny_families import SMALL

Noted = tuple[Any, tuple[Any, ...], dict[str, Any], Tensor]
"""The parts of a corrected attention call, its arguments and what it returned."""
STEPS = 3


@pytest.fixture(scope="module", params=tiny_families.FAMILIES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


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


def test_before_during_after(name: str, pipe: Any, draw: Callable[..., Tensor], plain: Tensor) -> None:
    trace = held_before_during_after(pipe, draw, plain, AttentionBalance())
    assert [target.text for target in trace.targets[0]] == ["cat", "blue balloon"]
    assert (trace.steps, trace.regulated_steps) == (3, 3), "calls for the negative prompt are no steps"
    assert {record.layer for record in trace.records} == set(trace.layers)
    assert family_of(pipe)[0].name == tiny_families.VARIANTS.get(name, name)


def test_the_default_says_which_method_acted(name: str, pipe: Any, draw: Callable[..., Tensor]) -> None:
    with regulate(pipe) as trace:
        draw(num_inference_steps=1)
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


def test_layers_that_are_not_named_are_the_models_own(pipe: Any, draw: Callable[..., Tensor]) -> None:
    """The one that is called last is edited alone: what all others return is the same to the bit."""
    family, denoiser = family_of(pipe)
    layers = select_layers(family, denoiser, ("all",))
    returned: dict[str, list[Tensor]] = {}

    def noting(name: str) -> Callable[..., None]:
        def note(_: nn.Module, __: Any, output: Any) -> None:
            returned.setdefault(name, [one.clone() for one in (output if isinstance(output, tuple) else (output,))])

        return note

    def of_the_first_call() -> dict[str, list[Tensor]]:
        returned.clear()
        draw(num_inference_steps=1)
        return dict(returned)

    handles = [module.register_forward_hook(noting(name)) for name, module in layers.items()]
    try:
        before = of_the_first_call()
        *others, last = before
        with regulate(pipe, config=AttentionBalance(window=(0.0, 1.0), layers=(last,))) as trace:
            after = of_the_first_call()
    finally:
        for handle in handles:
            handle.remove()
    assert trace.layers == (last,)
    for name in others:
        assert all(map(torch.equal, before[name], after[name])), name
    assert not torch.equal(before[last][0], after[last][0])


class Attended(TorchFunctionMode):
    """Notes queries and keys of the first attention call in it; of that over so many keys, if it is told."""

    def __init__(self, count: int | None) -> None:
        super().__init__()
        self.count = count
        self.first: tuple[Tensor, Tensor] | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and self.first is None:
            query, key = args[:2] if len(args) > 1 else (kwargs["query"], kwargs["key"])
            if self.count is None or key.shape[2] == self.count:
                self.first = query.detach().clone(), key.detach().clone()
        return func(*args, **kwargs)


def attended(module: nn.Module, count: int | None, run: Callable[[], Any]) -> tuple[Tensor, Tensor]:
    """The queries and the keys of a module's attention call while the denoiser runs."""
    noted, original = Attended(count), module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        with noted:
            return original(*args, **kwargs)

    module.forward = forward  # type: ignore[method-assign]
    try:
        with torch.no_grad():
            run()
    finally:
        del module.forward
    assert noted.first is not None
    return noted.first


class FirstCall(NamedTuple):
    """What the denoiser is given in the first call of a picture that is regulated, and what was found out about it."""

    arguments: dict[str, Any]
    targets: Sequence[Target]
    rows: list[int]
    """The edited ones."""


def first_call(pipe: Any, draw: Callable[..., Tensor], calls: list[Noted], prompt: str = PROMPT) -> FirstCall:
    _, denoiser = family_of(pipe)
    given: list[dict[str, Any]] = []
    calls.clear()
    handle = denoiser.register_forward_pre_hook(
        lambda module, args, kwargs: given.append(_bound(module, args, kwargs)), with_kwargs=True
    )
    try:
        with regulate(pipe, config=AttentionBalance(window=(0.0, 1.0))) as trace:
            draw(prompt, num_inference_steps=1)
    finally:
        handle.remove()
    return FirstCall(given[0], trace.targets[0], [row for part in calls[0][0] for row in part.rows])


def _bound(denoiser: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    return dict(own_signature(denoiser, "forward").bind(*args, **kwargs).arguments)


def test_a_probe_agrees_with_the_columns(pipe: Any, draw: Callable[..., Tensor], calls: list[Noted]) -> None:
    """Another embedding in a word's columns of the text moves exactly the keys that the family says stand for it."""
    family, denoiser = family_of(pipe)
    arguments, targets, rows = first_call(pipe, draw, calls)
    layer, module = next(iter(select_layers(family, denoiser, ("all",)).items()))
    columns = targets[0].tokens[-1:] if _is_refined(denoiser) else targets[0].tokens

    def run(moved: dict[str, Any]) -> tuple[Tensor, Tensor]:
        return attended(module, family.keys(arguments), lambda: denoiser(**(arguments | moved)))

    (query, before), (_, after) = run({}), run(with_moved_texts(family, arguments, columns))
    moved = (after - before).abs().sum((1, 3))
    found = family.places_of_rows(range(len(before)), layer, arguments, denoiser, query.shape[2], before.shape[2])
    for row, places in [(moved[row], found[row]) for row in rows]:
        # A refiner of the text's own lets its tokens see one another first: the moved one moves most.
        at = [row.argmax().item()] if _is_refined(denoiser) else torch.nonzero(row).flatten().tolist()
        assert at == [places.text + column for column in columns]


@pytest.mark.parametrize("corner", ["right", "left"])
def test_a_probe_agrees_with_the_map(
    name: str, pipe: Any, draw: Callable[..., Tensor], calls: list[Noted], corner: str
) -> None:
    """Other latents at the right end of the first row, or the left end of the last, move that query, or move it most.

    The map is as high and wide as the picture, in proportion.
    """
    family, denoiser = family_of(pipe)
    arguments, _, rows = first_call(pipe, draw, calls)
    layer, module = next(iter(select_layers(family, denoiser, ("all",)).items()))

    def run(moved: dict[str, Any]) -> tuple[Tensor, Tensor]:
        return attended(module, family.keys(arguments), lambda: denoiser(**(arguments | moved)))

    before, key = run({})
    sizes = before.shape[2], key.shape[2]
    places = family.places_of_rows(range(len(before)), layer, arguments, denoiser, *sizes)[rows[0]]
    grid = places.grid
    assert grid.height * SMALL[name]["width"] == grid.width * SMALL[name]["height"]
    y, x = (0, grid.width - 1) if corner == "right" else (grid.height - 1, 0)
    own = torch.arange(sizes[0])[places.queries]
    latents = family.stacked(arguments[family.sample]).clone()
    if latents.ndim == 3:  # patches in a sequence: behind places for the text, or kept keys of references
        first = int(torch.nonzero(latents[0].any(-1))[0]) if name == "Ideogram 4" else latents.shape[1] - grid.pixels
        latents[:, first + y * grid.width + x] += 1
    else:
        picture = latents.movedim(-1, 1) if family.channel_axis == -1 else latents
        height, width = picture.shape[-2] // grid.height, picture.shape[-1] // grid.width
        if name == "DreamLite":  # another picture at the right
            width //= 2
        picture[..., y * height : (y + 1) * height, x * width : (x + 1) * width] += 1
    after, _ = run({family.sample: family.listed(latents)})
    moved = (after - before).abs().sum((1, 3))[rows[0]]
    if name in ("Kandinsky 3", "DreamLite"):  # convolutions before the layer mix a position with those beside it
        most = divmod(int(moved[own].argmax()), grid.width)
        assert max(abs(most[0] - y), abs(most[1] - x)) <= 1
    else:
        assert moved.argmax() == own[y * grid.width + x]


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


def _is_refined(denoiser: Any) -> bool:
    """Whether layers of the text's own, or norms over all of its tokens, come first."""
    refiners = ("context_refiner", "text_fusion", "text_transformer_blocks")
    return (
        any(hasattr(denoiser, name) for name in refiners)
        or hasattr(getattr(denoiser, "context_embedder", None), "token_refiner")
        or getattr(denoiser.config, "cross_attention_norm", None) == "group_norm"
    )


def test_words_are_found_where_the_encoder_read_them(
    name: str, pipe: Any, draw: Callable[..., Tensor], calls: list[Noted]
) -> None:
    """Another word in the prompt moves the target's first column first, where text is read from left to right.

    Elsewhere it moves the target's columns most. So it is in every part of the text that an encoder fills; and the rows
    in which anything moves are the ones that are edited.
    """
    prompts = PROMPT, PROMPT.replace("cat", ANOTHER.get(name, "dog"))
    first, second = (first_call(pipe, draw, calls, prompt) for prompt in prompts)
    start = 0
    for part, other in zip(*(parts_of_text(pipe, one.arguments) for one in (first, second)), strict=True):
        moved = [moved_columns(one, two) for one, two in zip(part, other, strict=True)]
        assert [row for row, columns in enumerate(moved) if (columns > 1e-3).any()] == sorted(first.rows)
        columns, end = moved[first.rows[0]], start + max(map(len, part))
        wanted = [token - start for token in first.targets[0].tokens if start <= token < end]
        if earliest := torch.nonzero(columns > 1e-3).flatten()[0].item():
            assert earliest == wanted[0]
        else:
            assert sorted(columns.topk(len(wanted)).indices.tolist()) == wanted
        start = end


ANOTHER = {"Kolors": "red"}
"""What is written in the place of the target where not every other word is as many tokens."""


def moved_columns(text: Tensor, other: Tensor) -> Tensor:
    """How far each column of a text is from that of another."""
    length = min(len(text), len(other))
    return (text[:length] - other[:length]).abs().flatten(1).amax(1)


def parts_of_text(pipe: Any, arguments: dict[str, Any]) -> list[list[Tensor]]:
    """What the denoiser is given of each row's text, part by part as text encoders made them, in the columns' order."""
    family, _ = family_of(pipe)
    parts = [list(arguments[name]) for name in (family.text, *family.further)]
    if family.name == "Stable Diffusion 3":  # CLIP's columns, then T5's
        clip = pipe.tokenizer.model_max_length
        parts = [[row[:clip] for row in parts[0]], [row[clip:] for row in parts[0]]]
    if "encoder_hidden_states_llama3" in arguments:  # its last layer's, then those of the block's own
        layers = arguments["encoder_hidden_states_llama3"]
        parts += [list(layers[-1]), list(layers[0])]
    return parts


def test_two_prompts_with_targets_of_their_own(
    name: str, pipe: Any, draw: Callable[..., Tensor], calls: list[Noted]
) -> None:
    """In every layer, the row of each prompt is edited in the columns of its own targets."""
    if name == "DreamLite":
        pytest.skip("it draws one prompt")
    trace = held_of_two_prompts(name, pipe, draw, AttentionBalance(), 1e-3)
    assert [[target.text for target in one] for one in trace.targets] == [
        ["cat", "blue balloon"], ["clock", "dog", "car"],
    ]  # fmt: skip
    assert {record.image for record in trace.records} == {0, 1}
    wanted = [beyond_the_first({token for target in one for token in target.tokens}) for one in trace.targets]
    for parts, _, _, _ in calls[: trace.regulated_steps * len(trace.layers)]:
        edited = {row: beyond_the_first({*of_row.tolist()}) for part in parts for row, of_row in columns_of(part)}
        assert [edited[row] for row in sorted(edited)] == wanted


def columns_of(part: Any) -> Iterator[tuple[int, Tensor]]:
    """The edited columns of each row among the keys."""
    return zip(part.rows, part.columns.tokens, strict=True)


def beyond_the_first(columns: set[int]) -> list[int]:
    """How far columns are from the first of them, wherever the text begins."""
    return [column - min(columns) for column in sorted(columns)]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_everything_is_restored_when_the_call_raises(
    pipe: Any, draw: Callable[..., Tensor], plain: Tensor, error: type[BaseException]
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
    assert torch.equal(draw(), plain)


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


@pytest.mark.parametrize("everywhere", [False, True], ids=["of its layers", "of the process"])
def test_another_backend_is_set_aside_while_a_layer_is_edited(everywhere: bool) -> None:
    """Flex attention never calls the function that is caught; it is what the layers have again afterwards.

    It may be chosen for the layers, or for all models of the process, as `DIFFUSERS_ATTN_BACKEND` does.
    """
    pipe = tiny_transformers.flux()
    processors = [module.processor for module in pipe.transformer.modules() if hasattr(module, "processor")]
    own = None if everywhere else "flex"
    for processor in processors:
        processor._attention_backend = own
    options = {"num_inference_steps": 2, "output_type": "latent", "height": 32, "width": 32, "max_sequence_length": 16}
    with (
        attention_backend("flex") if everywhere else nullcontext(),
        regulate(pipe, config=AttentionBalance(window=(0.0, 1.0))) as trace,
    ):
        pipe(PROMPT, generator=torch.Generator().manual_seed(0), **options)
    assert {record.layer for record in trace.records} == set(trace.layers)
    assert [processor._attention_backend for processor in processors] == [own] * len(processors)


@pytest.fixture(scope="module")
def folder(name: str, pipe: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The pipeline as a directory in the hub's layout."""
    if name in tiny_families.UNSAVED:
        pytest.skip(tiny_families.UNSAVED[name])
    made = tmp_path_factory.mktemp("model")
    pipe.save_pretrained(made)
    return str(made)


def test_a_directory_is_drawn_from_as_the_command_line_does(
    name: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unmodified and regulated, and a recipe that says so."""
    height, width = tiny_families.SIDES.get(name, (64, 96))
    options: dict[str, Any] = {"method": "attention-balance", "steps": 2, "height": height, "width": width}
    loaded = load_pipeline(folder, device="cpu")
    for path, sizes in tiny_families.SIZES.get(name, {}).items():
        monkeypatch.setattr(path, sizes) if "." in path else setattr(loaded, path, sizes)
    if hasattr(loaded, "prior"):
        with pytest.raises(
            AttnregError, match=r"draws pictures, got StableCascadePriorPipeline, .* regulate\(pipe.prior_pipe\)"
        ):
            Session.open(PROMPT, model=folder, pipe=loaded, **options)
        return
    session = Session.open(PROMPT, model=folder, pipe=loaded, **options)
    assert [target.text for target in session.targets] == ["cat", "blue balloon"]
    told: list[str] = []
    plain, regulated, sheet = session.draw([0], tmp_path / "out", beside_unmodified=True, say=told.append)
    assert (regulated.exists(), sheet.exists()) == (True, True)
    assert plain.read_bytes() != regulated.read_bytes()
    assert any(line.startswith("seed 0: ") for line in told)
    recipe = read_recipe(regulated)
    assert (recipe.method, recipe.model, recipe.height, recipe.width) == (
        "attention-balance", str(Path(folder).resolve()), height, width,
    )  # fmt: skip


class BegunError(Exception):
    """The denoiser is called."""


def test_what_is_not_told_of_a_directory_is_the_pipelines_own(name: str, folder: str) -> None:
    """Size, steps and guidance, as the pipeline has them in its own hands once it denoises."""
    loaded = load_pipeline(folder, device="cpu")
    seen: list[dict[str, Any]] = []

    def stop(*_: Any) -> None:
        frame = inspect.currentframe()
        while frame and not (frame.f_code.co_name == "__call__" and frame.f_locals.get("self") is session.pipe):
            frame = frame.f_back
        assert frame
        seen.append(dict(frame.f_locals))
        raise BegunError

    if hasattr(loaded, "prior"):
        pytest.skip("it draws no picture")
    session = Session.open(PROMPT, method="auto", model=folder, pipe=loaded)
    handle = family_of(loaded)[1].register_forward_pre_hook(stop)
    try:
        with pytest.raises(BegunError):
            session.sample(0, None)
    finally:
        handle.remove()
    told, own = seen[0], defaults_of(loaded)
    assert told["num_inference_steps"] == own.steps
    assert told.get(own.guidance) == own.guidance_scale
    if name not in SIZED_OTHERWISE:
        assert [own.height, own.width] == [told.get(f"orig_{side}", told[side]) for side in ("height", "width")]


SIZED_OTHERWISE = {
    "Z-Image": "its size is written in its code alone",
    "Hunyuan-DiT": "it draws at one of a few sizes, none of them as small as this one's own",
    "Kandinsky 3": "it counts in positions of the latent by then",
}
"""Pipelines whose size cannot be compared once they denoise -> why."""


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
