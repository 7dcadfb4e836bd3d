"""A pipeline that is probed is regulated as its adapter says: the same layers, columns, queries and picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from PIL import Image
from promises import OTHER, PROMPT, everything_in
from torch import Tensor

import tiny
import tiny_transformers
from attnreg import AttentionBalance, AttnregError, configure, regulate
from attnreg.attention import families
from attnreg.attention.families import FAMILIES, family_of
from attnreg.recipe import read_recipe
from attnreg.studio import Session, draw_again
from test_families import Noted, calls  # noqa: F401  (a fixture)
from tiny_families import EVERY, SMALL_OF_EVERY

STEPS = 2
NOT_PROBED = {
    "FLUX.2 klein KV": "which map 96 positions of the picture form, got nothing",
    "Bria": "got 3 values with a vector a token",
    "Bria FIBO": "got 3 values with a vector a token",
    "Krea 2": "return one vector a token, got several",
    "Ernie-Image": "one argument of ErnieImageTransformer2DModel that holds what encode_prompt returned, got none",
    "Ideogram 4": "whose tokens fill columns of what its encode_prompt returns, got none",
    "Lumina 2": "keys of .* that are the text's or the picture's, got some that are both",
    "HiDream": "return one vector a token, got several",
    "Hunyuan-DiT": "text in one argument of HunyuanDiT2DModel, got encoder_hidden_states and encoder_hidden_states_t5",
    "Lumina-Next": "the keys of the changed words alone to move in .*, got others",
    "Kandinsky 5": "which map 24 positions of the picture form, got nothing",
    "DeepFloyd IF": "the keys of the changed words alone to move in .*, got others",
    "Stable Cascade": "got 4 values with a vector a token",
    "DreamLite": "a prompt in words, got prompt_embeds",
    "PRX": "whose tokens fill columns of what its encode_prompt returns, got none",
}
"""Families with an adapter of their own that a probe cannot read, and what it says: never that it has regulated."""


@pytest.fixture(scope="module", params=[one for one in EVERY if one not in NOT_PROBED])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def parts_of(noted: list[Noted]) -> list[Any]:
    """What was corrected in each call: rows, queries, columns, map."""
    found = [
        [(*part.rows, part.queries.indices(output.shape[2]), part.columns.tokens.tolist(), part.grid) for part in parts]
        for parts, _, _, output in noted
    ]
    noted.clear()
    return found


@pytest.mark.parametrize("prompts", [PROMPT, [PROMPT, OTHER]], ids=["one", "two"])
def test_it_finds_what_the_adapter_says(
    name: str,
    pipe: Any,
    draw: Callable[..., Tensor],
    calls: list[Noted],  # noqa: F811
    prompts: Any,
) -> None:
    edit = AttentionBalance(window=(0.0, 1.0))
    plain, objects = draw(prompts), everything_in(pipe)
    with regulate(pipe, config=edit) as known:
        wanted = draw(prompts)
    told = parts_of(calls)
    with regulate(pipe, config=edit, family="probe") as found:
        drawn = draw(prompts)
    assert found.layers == known.layers
    assert parts_of(calls) == told
    assert torch.equal(drawn, wanted)
    assert [[target.text for target in one] for one in found.targets] == [
        [target.text for target in one] for one in known.targets
    ]
    assert (found.steps, found.regulated_steps) == (known.steps, known.regulated_steps)
    (record,) = found.probes
    family, denoiser = family_of(pipe)
    assert (record.denoiser, record.text, record.layers) == (type(denoiser).__name__, family.text, known.layers)
    assert record.calls == 3
    assert objects == everything_in(pipe)
    assert torch.equal(draw(prompts), plain)


def test_it_costs_what_it_says(name: str, pipe: Any, draw: Callable[..., Tensor]) -> None:
    """Three calls of the denoiser for the first picture of a size, none for the next of it."""
    _, denoiser = family_of(pipe)
    ran: list[int] = []
    handle = denoiser.register_forward_hook(lambda *_: ran.append(1))
    counted: list[int] = []
    encoders = [part for name, part in pipe.components.items() if name.startswith("text_encoder") and part is not None]
    handles = [handle, *(one.register_forward_hook(lambda *_: counted.append(1)) for one in encoders)]
    try:
        draw()
        plain, read = len(ran), len(counted)
        with regulate(pipe, config=AttentionBalance(), family="probe") as trace:
            ran.clear(), counted.clear()
            draw()
            # The probe calls the denoiser's own forward, below the hook: it is counted by what it says.
            assert len(ran) == plain
            assert trace.probes[0].calls == 3
            asked = {"HunyuanImage": 1}.get(name, len(encoders))  # the other one reads quoted text alone
            # Two tokens an encoder, in each text that is encoded on its own.
            apart = (
                1
                + (name == "FLUX.2 klein")
                + (family_of(pipe)[0].negative is None and "negative_prompt" in SMALL_OF_EVERY[name])
            )
            assert trace.probes[0].readings == 2 * asked * apart
            assert len(counted) - read == trace.probes[0].readings * read // apart
            draw()
            assert trace.probes[0].calls == 0
    finally:
        for one in handles:
            one.remove()


@pytest.mark.parametrize("name", NOT_PROBED)
def test_what_it_cannot_read_is_refused_in_a_line(name: str) -> None:
    pipe = EVERY[name]()
    pipe(prompt=PROMPT, **small(name))  # some keep something of their own from the first picture on
    objects = everything_in(pipe)
    with (
        pytest.raises(AttnregError, match=NOT_PROBED[name]),
        regulate(pipe, config=AttentionBalance(), family="probe"),
    ):
        pipe(prompt=PROMPT, **small(name))
    assert objects == everything_in(pipe)


# --- what it cannot know ------------------------------------------------------------------------------------------


def small(name: str, **options: Any) -> dict[str, Any]:
    return {"num_inference_steps": 2, "output_type": "latent"} | SMALL_OF_EVERY[name] | options


@pytest.mark.parametrize("method", ["best-start", "attend-and-excite", "prompt-weighting"])
def test_what_needs_more_than_layers_is_refused(method: str) -> None:
    with pytest.raises(AttnregError, match=r"works on probe, got \w+, which edits the .*attention-balance"):
        regulate(tiny_transformers.pixart(), config=configure(method), family="probe").__enter__()


def test_whether_text_and_picture_share_a_softmax_is_found() -> None:
    """The rule for the whole text draws as the adapter lets it, or is refused once it is known."""
    joint = tiny_transformers.stable_diffusion_3()
    drawn = []
    for family in (None, "probe"):
        with regulate(joint, config=configure("taca"), family=family):
            drawn.append(
                joint(PROMPT, generator=torch.Generator().manual_seed(0), **small("Stable Diffusion 3")).images
            )
    assert torch.equal(*drawn)
    cross = tiny_transformers.pixart()
    objects = everything_in(cross)
    with (
        pytest.raises(AttnregError, match="looks at the text alone"),
        regulate(cross, config=configure("taca"), family="probe"),
    ):
        cross(PROMPT, **small("PixArt"))
    assert objects == everything_in(cross)


def test_a_latent_that_holds_more_than_the_picture_is_refused() -> None:
    """References behind the picture are latents as well: the map that all of them form is none."""
    parts = tiny_transformers.flux().components
    edited = tiny.quiet(diffusers.FluxKontextPipeline(**parts))
    options = {"num_inference_steps": 2, "output_type": "latent", "height": 32, "width": 48, "max_sequence_length": 16}
    with (
        pytest.raises(AttnregError, match="which map 192 positions of the picture form, got nothing"),
        regulate(edited, config=AttentionBalance(), family="probe"),
    ):
        edited(prompt=PROMPT, image=Image.new("RGB", (48, 32)), _auto_resize=False, max_area=32 * 48, **options)


def of_class(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The pipeline, its denoiser's class in no entry of the table."""
    table = tuple(one for one in FAMILIES if one.model != type(pipe.transformer).__name__)
    monkeypatch.setattr(families, "FAMILIES", table)
    return pipe


def test_a_class_in_no_entry_names_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what its forward takes, by its layers and, of several, by its name; forced, it is regulated as that one."""
    pipe = tiny_transformers.pixart()
    with regulate(pipe, config=AttentionBalance()):
        wanted = pipe(PROMPT, generator=torch.Generator().manual_seed(0), **small("PixArt")).images
    of_class(pipe, monkeypatch)
    with pytest.raises(AttnregError, match=r"PixArtTransformer2DModel; the nearest is Sana: try family='Sana' \(--fam"):
        regulate(pipe).__enter__()
    for family in ("sana", "probe"):
        with regulate(pipe, ["cat", "blue balloon"], AttentionBalance(), family=family) as trace:
            if family == "probe":
                drawn = pipe(PROMPT, generator=torch.Generator().manual_seed(0), **small("PixArt")).images
        assert all(name.endswith(".attn2") for name in trace.layers)
    assert torch.equal(drawn, wanted)


def test_a_family_that_does_not_fit_is_refused() -> None:
    pipe = tiny_transformers.pixart()
    for name, message in (
        ("Pixart-alpha", "expected one of Stable Diffusion,.* or probe, got 'Pixart-alpha'; did you mean 'PixArt'?"),
        ("Stable Diffusion", r"expected a pipeline with a \.unet, as those of Stable Diffusion have it"),
        ("Z-Image", "expected a denoiser like that of Z-Image, got PixArtTransformer2DModel without the argument x"),
        ("FLUX", "like that of FLUX, got PixArtTransformer2DModel without layers in which the picture looks at text"),
    ):
        with pytest.raises(AttnregError, match=message):
            regulate(pipe, family=name).__enter__()


def test_the_family_stands_in_the_recipe_and_draws_again(tmp_path: Path) -> None:
    """From a directory, as the command line does it; the line under the picture says what probing cost."""
    tiny_transformers.pixart().save_pretrained(tmp_path / "model")
    options: dict[str, Any] = {"method": "attention-balance", "steps": 2, "device": "cpu", "height": 64, "width": 96}
    session = Session.open(PROMPT, model=str(tmp_path / "model"), family="probe", **options)
    told: list[str] = []
    (drawn,) = session.draw([0], tmp_path / "out", beside_unmodified=False, say=told.append)
    assert read_recipe(drawn).family == "probe"
    assert any("PixArtTransformer2DModel was probed: text in encoder_hidden_states" in line for line in told)
    assert any("it cost 3 calls of the denoiser and 2 of the text encoders" in line for line in told)
    _, same, _ = draw_again(drawn, "cpu", tmp_path / "again")
    assert same
    with pytest.raises(AttnregError, match="family: expected one of"):
        Session.open(PROMPT, model=str(tmp_path / "model"), family="Pix", **options)
