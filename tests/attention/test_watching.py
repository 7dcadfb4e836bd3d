"""Watching: every value against a slow oracle from raw probabilities, and not a bit of any picture changed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

import tiny
import tiny_transformers
from attnreg import AttnregError, configure, regulate, watch
from attnreg.attention.families import family_of, select_layers
from attnreg.attention.lookahead.trajectory import CachedPredictions
from attnreg.regulation.best_start import BestStart
from attnreg.sampling import generate

PROMPT = "a cat and a blue balloon"
SMALL: dict[str, Any] = {"height": 64, "width": 96, "num_inference_steps": 4}
UNGUIDED: dict[str, dict[str, Any]] = {
    "Stable Diffusion 3": {"height": 32, "width": 48, "max_sequence_length": 16, "guidance_scale": 1.0},
    "FLUX": {"height": 32, "width": 48, "max_sequence_length": 16},
    "PixArt": {
        "height": 64, "width": 96, "max_sequence_length": 16, "use_resolution_binning": False, "guidance_scale": 1.0,
    },
    "Qwen-Image": {"height": 32, "width": 48},
    "Z-Image": {"height": 32, "width": 48, "max_sequence_length": 64, "guidance_scale": 0.0},
}  # fmt: skip
"""So that each call of the denoiser has the prompt's row alone."""
PADDED = 32
"""Z-Image makes the picture's positions a multiple of it; its text stands behind them."""


class RawProbabilities(TorchFunctionMode):
    """Every attention call's probabilities in full, in float64, by the layer that makes it: its first call alone."""

    def __init__(self, modules: dict[str, Any], keys: Callable[[int], bool]) -> None:
        super().__init__()
        self.layer, self.keys = "", keys
        self.found: dict[str, list[Tensor]] = {name: [] for name in modules}
        self.handles = [
            module.register_forward_pre_hook(lambda *_, name=name, **__: setattr(self, "layer", name))
            for name, module in modules.items()
        ]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and self.layer:
            query, key = args[0] if args else kwargs["query"], args[1] if len(args) > 1 else kwargs["key"]
            if self.keys(key.shape[-2]):
                mask = kwargs.get("attn_mask", args[3] if len(args) > 3 else None)
                logits = query.double() @ key.double().mT / math.sqrt(query.shape[-1])
                if mask is not None:
                    logits = logits.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else logits + mask
                self.found[self.layer].append(logits.softmax(-1))
                self.layer = ""
        return func(*args, **kwargs)


def by_hand(raw: RawProbabilities, places: tuple[int, int], pixels: int, tokens: tuple[int, ...]) -> Tensor:
    """`(step, pixel)`: the mean over layers and heads of the sum over a target's columns, in the last row.

    places: where the picture's positions begin among the queries, and the text among the keys.
    """
    first, text = places
    layers = []
    for calls in raw.found.values():
        rows = [one[-1, :, first : first + pixels] for one in calls]
        layers.append(torch.stack([sum(row[:, :, text + token] for token in tokens).mean(0) for row in rows]))  # type: ignore[union-attr]
    return torch.stack(layers).mean(0)


def compare(pipe: Any, options: dict[str, Any], places: Callable[[int, int], tuple[int, int]]) -> None:
    """Watch a picture, draw it once more under the oracle, and hold one beside the other."""
    family, denoiser = family_of(pipe)
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    with watch(pipe) as trace:
        watched = pipe(PROMPT, generator=generators[0], output_type="latent", **options).images
    seen = trace.seen()
    over = max(token for target in trace.targets[0] for token in target.tokens)
    raw = RawProbabilities(select_layers(family, denoiser, trace.layers), lambda keys: keys > over)
    with raw:
        plain = pipe(PROMPT, generator=generators[1], output_type="latent", **options).images
    for handle in raw.handles:
        handle.remove()
    assert torch.equal(torch.as_tensor(watched[0]), torch.as_tensor(plain[0])), "not a bit of the picture is changed"
    assert len(seen.steps) == options["num_inference_steps"]
    assert seen.layers == trace.layers
    height, width = seen.before.shape[2:]
    assert height < width
    rows = next(iter(raw.found.values()))[0].shape[-2:]
    for number, target in enumerate(trace.targets[0]):
        slow = by_hand(raw, places(height * width, rows[0]), height * width, target.tokens).numpy()
        own = seen.before[:, number].reshape(len(seen.steps), -1)
        np.testing.assert_allclose(own, slow, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(seen.shares()[:, number], slow.mean(1), rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def sd1() -> Any:
    return tiny.stable_diffusion()


def test_a_unet_against_the_oracle(sd1: Any) -> None:
    """With guidance: the prompt's row is the last one."""
    compare(sd1, SMALL, lambda *_: (0, 0))


@pytest.mark.parametrize("name", UNGUIDED)
def test_a_transformer_against_the_oracle(name: str) -> None:
    def places(pixels: int, queries: int) -> tuple[int, int]:
        if name == "PixArt":
            return 0, 0
        if name in ("FLUX", "Qwen-Image"):
            return queries - pixels, 0
        return 0, pixels if name == "Stable Diffusion 3" else -(-pixels // PADDED) * PADDED

    compare(tiny_transformers.FAMILIES[name](), UNGUIDED[name] | {"num_inference_steps": 2}, places)


def test_an_edited_picture_tells_both_sides_and_the_steps_outside_of_the_window(sd1: Any) -> None:
    edit = configure("attention-scaling", {"window": (0.0, 0.5), "shift": 2.0})
    drawn = [generate(sd1, PROMPT, edit, maps=maps, output_type="latent", **SMALL) for maps in (True, False)]
    assert torch.equal(drawn[0].picture, drawn[1].picture)
    seen = drawn[0].trace.seen()
    assert (seen.steps, seen.edited) == ((0, 1, 2, 3), (True, True, False, False))
    assert (seen.shares()[:2] > seen.shares(edited=False)[:2]).all()
    assert (seen.shares()[2:] == seen.shares(edited=False)[2:]).all()
    assert drawn[0].trace.attention() == drawn[1].trace.attention(), "to be watched changes no other account"


def test_where_an_edit_acts_elsewhere_the_familys_layers_are_looked_at_all_the_same(sd1: Any) -> None:
    """So that scores compare; of `AttentionBalance`, which acts in all of them, too."""
    with watch(sd1) as plain:
        generate_in(sd1)
    with regulate(sd1, config=configure("attention-balance"), maps=True) as trace:
        generate_in(sd1)
    assert trace.seen().layers == plain.seen().layers == plain.layers
    assert len(trace.layers) > len(plain.layers)


def generate_in(pipe: Any) -> Any:
    return pipe(PROMPT, generator=torch.Generator().manual_seed(0), output_type="latent", **SMALL).images


def test_what_best_start_foresees_is_seen(sd1: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kept noise: maps are the unmodified model's, though half of its steps are not computed again."""
    recalled: list[bool] = []
    own = CachedPredictions.recall

    def recall(self: Any, arguments: Any) -> Any:
        found = own(self, arguments)
        recalled.append(found is not None)
        return found

    monkeypatch.setattr(CachedPredictions, "recall", recall)
    plain = generate(sd1, PROMPT, None, maps=True, output_type="latent", **SMALL)
    kept = generate(sd1, PROMPT, BestStart(enough=0.0), maps=True, output_type="latent", **SMALL)
    assert recalled == [True, True, True, False]
    assert torch.equal(plain.picture, kept.picture)
    np.testing.assert_allclose(kept.trace.seen().before, plain.trace.seen().before, rtol=1e-5, atol=1e-6)
    assert kept.trace.seen().steps == (0, 1, 2, 3)


def test_the_default_tells_attention_without_being_asked_for_maps(sd1: Any) -> None:
    """It chose a start, or kept the given one: nothing was edited, and yet it is known what was attended to."""
    with regulate(sd1) as trace:
        generate_in(sd1)
    with watch(sd1) as plain:
        generate_in(sd1)
    (told,) = trace.attention()
    assert trace.decisions[0].method == "best-start"
    assert told.keys() == {"cat", "blue balloon"}
    assert all(before == after > 0 for before, after in told.values())
    if trace.starts[0].chosen == 0:
        assert told == {word: pytest.approx(pair, rel=1e-4) for word, pair in plain.attention()[0].items()}
    assert trace.maps() == []


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_another_backend_keeps_its_bits() -> None:
    """It is asked for the output, and torch's own function only for what it attends to."""
    pipe = tiny_transformers.FAMILIES["FLUX"]()
    options = UNGUIDED["FLUX"] | {"num_inference_steps": 1, "output_type": "latent"}
    for module in pipe.transformer.modules():  # `set_attention_backend` would set it for all other models too
        if hasattr(module, "processor"):
            module.processor._attention_backend = "flex"
    plain = pipe(PROMPT, generator=torch.Generator().manual_seed(0), **options).images
    with watch(pipe) as trace:
        watched = pipe(PROMPT, generator=torch.Generator().manual_seed(0), **options).images
    assert torch.equal(plain, watched)
    assert trace.seen().steps == (0,)


def test_a_prompt_that_names_nothing_and_an_image_that_is_not_there(sd1: Any) -> None:
    with watch(sd1) as trace, pytest.warns(UserWarning, match="no noun"):
        sd1("and", generator=torch.Generator().manual_seed(0), output_type="latent", **SMALL)
    with pytest.raises(AttnregError, match="names a thing"):
        trace.seen()
    with watch(sd1, ["cat"]) as trace:
        generate_in(sd1)
    with pytest.raises(AttnregError, match=r"watched \(0\), got 3"):
        trace.seen(3)
