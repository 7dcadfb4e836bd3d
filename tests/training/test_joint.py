"""How `pocket-joint` is made: its words, its padding, the pairs it never sees, the whole way once."""

from __future__ import annotations

import itertools
import random
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderTiny, DiffusionPipeline
from einops import rearrange
from torch.nn import functional as F

from attnreg import AttentionBalance, regulate
from attnreg.models.about import BUNDLED, POCKET, about, damaged
from attnreg.regulation.best_start import BestStart
from training import joint, pocket_joint
from training.layout import LayoutHead, as_tensor, layout_of
from training.render import compose
from training.tokenizer import NEXT_RING, new_t5_tokenizer, new_tokenizer
from training.words import COLOURS, GLUE, NOUNS, SETTING, Thing, held_out_pairs, seen_together

TOKENIZERS = joint.Tokenizers(new_tokenizer(), new_t5_tokenizer())


@pytest.mark.parametrize("word", [*NOUNS, *COLOURS, *GLUE, *SETTING, *NEXT_RING])
def test_a_known_word_is_one_token_of_t5(word: str) -> None:
    wanted = [word] if word == "," else [f"▁{word}"]
    pieces = TOKENIZERS.t5.tokenize(f"a {word}" if word != "," else "a,")
    assert pieces[1:] == wanted
    assert len(TOKENIZERS.t5.tokenize("zebra")) > 1


def test_one_padding_stands_for_all() -> None:
    """Against the pipeline's own 256 tokens, of which nearly all are padding; to the rounding of sums."""
    model = joint.Model(TOKENIZERS).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # what is untrained predicts nothing: its last layer is zero
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    captions = ["a red car and a cat", "a small dog in the snow at night"]
    noisy, sigma = torch.randn(2, 8, 16, 16, generator=generator), torch.tensor([0.3, 0.9])
    with torch.no_grad():
        ours = model(noisy, sigma, TOKENIZERS(captions))
        clip = TOKENIZERS.clip(captions, padding="max_length", return_tensors="pt").input_ids
        t5 = TOKENIZERS.t5(captions, padding="max_length", max_length=256, return_tensors="pt").input_ids
        told = [encoder(clip, output_hidden_states=True) for encoder in (model.text_encoder, model.text_encoder_2)]
        text = [torch.cat([one.hidden_states[-2] for one in told], -1), model.text_encoder_3(t5).last_hidden_state]
        whole = model.transformer(
            noisy,
            encoder_hidden_states=torch.cat(text, 1),
            pooled_projections=torch.cat([one.text_embeds for one in told], -1),
            timestep=1000 * sigma,
        ).sample
    assert whole.abs().max() > 0.1
    torch.testing.assert_close(ours, whole, rtol=1e-4, atol=1e-5)


def test_a_caption_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="raise T5_KEPT"):
        TOKENIZERS(["a cat and " * 9])


def test_it_never_sees_what_the_other_model_never_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that one set of prompts is unseen by both. Nor does it see three things."""
    held_out = held_out_pairs(joint.HELD_OUT_SHARE)
    assert held_out_pairs() < held_out
    shown = seen_together(2, joint.HELD_OUT_SHARE)
    assert len(shown) == 276 - len(held_out) == 69
    assert held_out.isdisjoint(map(frozenset, shown))
    assert set(joint.SHARES) == {"one", "two"}
    coder = AutoencoderTiny.from_pretrained(POCKET / "vae")
    drawn: list[list[str]] = []
    compose = joint.compose

    def noting(things: list[Any], *rest: Any) -> Any:
        drawn.append([thing.noun for thing in things])
        return compose(things, *rest)

    monkeypatch.setattr(joint, "compose", noting)
    made = joint.encode(coder, TOKENIZERS, 40, "two", random.Random(0))
    assert made.latents.shape == (40, 8, 16, 16)
    assert made.layouts is not None
    for layout, nouns in zip(made.layouts, drawn, strict=True):
        assert {NOUNS[int(number) - 1] for number in layout[..., 0].unique() if number} == set(nouns)
    assert all(frozenset(nouns) not in held_out and len(nouns) == 2 for nouns in drawn)


def test_a_layout_tells_each_cell_by_its_middle() -> None:
    """Cell by cell, against the squares of the scene."""
    rng = random.Random(0)
    for number in (1, 2, 3):
        scene = compose([Thing(noun) for noun in rng.sample(NOUNS, number)], rng)
        layout = layout_of(scene)
        for row, column in itertools.product(range(16), range(16)):
            x, y = 8 * column + 4, 8 * row + 4
            wanted = [0, 0, 0, 0]
            for placed in scene.placed:
                across, down = (x - placed.left) / placed.size, (y - placed.top) / placed.size
                if 0 <= across < 1 and 0 <= down < 1:
                    noun = NOUNS.index(placed.thing.noun) + 1
                    wanted = [noun, int(255 * across), int(255 * down), int(255 * placed.size / 128)]
            assert layout[row, column].tolist() == wanted


def test_the_layout_head_learns_what_a_token_says_of_its_own_cells() -> None:
    """Tokens that hold their cells' layout: a line can read it, and only in the right order."""
    torch.manual_seed(0)
    scene = compose([Thing("cat"), Thing("car")], random.Random(0))
    layouts = as_tensor([layout_of(scene)])
    cells = torch.cat([F.one_hot(layouts[..., 0].long(), 25), layouts[..., 1:] / 255], -1).float()
    tokens = rearrange(cells, "b (h p) (w q) c -> b (h w) (p q c)", p=2, q=2)
    head = LayoutHead(tokens.shape[-1], 2)
    optimiser = torch.optim.Adam(head.parameters(), 0.05)
    for _ in range(200):
        optimiser.zero_grad()
        loss = head.loss(tokens, layouts)
        loss.backward()
        optimiser.step()
    assert loss < 0.01 < head.loss(tokens.flip(1), layouts)


def test_what_is_bundled_is_what_this_makes() -> None:
    """Its files are whole, its card is the one kept here, and its parts have the shapes that training goes on with."""
    folder = BUNDLED["pocket-joint"]
    assert damaged(folder) == []
    assert (folder / "README.md").read_text() == pocket_joint.CARD.read_text()
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 35e6
    pipe = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    model = joint.Model(TOKENIZERS)
    for name in ("transformer", "text_encoder", "text_encoder_2", "text_encoder_3"):
        getattr(model, name).load_state_dict(getattr(pipe, name).state_dict())


def test_a_run_from_kept_weights_has_no_layout_to_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An untrained head would throw the denoiser back; a run from nothing has it."""
    coder = AutoencoderTiny.from_pretrained(POCKET / "vae")
    sets = {kind: joint.encode(coder, TOKENIZERS, 8, kind, random.Random(0)) for kind in joint.SHARES}
    asked: list[int] = []

    def loss(head: LayoutHead, tokens: torch.Tensor, layouts: torch.Tensor) -> torch.Tensor:
        asked.append(len(tokens))
        return tokens.sum() * 0

    monkeypatch.setattr(LayoutHead, "loss", loss)
    first = joint.train(tmp_path / "first", sets, TOKENIZERS, 1e-4, batch=2)
    assert set(asked) == {2}
    start = joint.Weights(first.transformer, first.text_encoder, first.text_encoder_2, first.text_encoder_3)
    asked.clear()
    joint.train(tmp_path / "second", sets, TOKENIZERS, 1e-4, batch=2, start=start)
    assert asked == []


def test_pictures_that_nothing_learns_from_are_always_the_same() -> None:
    coder = AutoencoderTiny.from_pretrained(POCKET / "vae")
    first, again = (joint.held_out(coder, TOKENIZERS, 3) for _ in range(2))
    learnt = joint.encode(coder, TOKENIZERS, 3, "one", random.Random("0 pictures of one"))
    assert torch.equal(first["one"].latents, again["one"].latents)
    assert not torch.equal(first["one"].latents, learnt.latents)
    model = joint.Model(TOKENIZERS).eval()
    for part in model.transformer.proj_out.parameters():
        torch.nn.init.zeros_(part)  # where nothing is predicted, the loss is the velocity's own size
    told = joint.losses(model, first, size=2)
    assert told == joint.losses(model, again, size=2)
    generator = torch.Generator().manual_seed(0)
    sizes = []
    for clean in first["one"].latents.float().split(2):
        sizes.append((torch.randn(clean.shape, generator=generator) - clean).square().flatten(1).mean(1))
        torch.randn(len(clean), generator=generator)
    assert told["one"] == pytest.approx(torch.cat(sizes).mean().item(), rel=1e-5)


def test_other_weights_see_other_pictures(tmp_path: Path) -> None:
    for name in ("one.safetensors", "README.md"):
        (tmp_path / name).write_bytes(b"a")
    first = pocket_joint.seed_of(tmp_path)
    (tmp_path / "README.md").write_bytes(b"b")
    assert pocket_joint.seed_of(tmp_path) == first, "a card that is written anew is no reason to begin again"
    (tmp_path / "one.safetensors").write_bytes(b"b")
    assert pocket_joint.seed_of(tmp_path) != first


def test_the_whole_way_in_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few steps, stopped and gone on with; the directory opens as any pipeline does, and is regulated as such."""
    command = [
        "pocket_joint",
        "--work",
        str(tmp_path / "work"),
        "--pictures",
        "64",
        "--device",
        "cpu",
        "--held-out",
        "4",
    ]
    out = tmp_path / "model"
    for start, minutes in ((tmp_path / "none", "0.02"), (out, "0.03")):
        monkeypatch.setattr(sys, "argv", [*command, "--out", str(out), "--start", str(start), "--minutes", minutes])
        pocket_joint.main()
    told = about(out)
    assert told is not None
    assert (told.name, damaged(out)) == ("pocket-joint", [])
    assert {frozenset(pair) for pair in told.held_out_pairs} == held_out_pairs(joint.HELD_OUT_SHARE)
    pipe = DiffusionPipeline.from_pretrained(out, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    with regulate(pipe, config=AttentionBalance()) as trace:
        picture = pipe("a cat and a red car", num_inference_steps=2, generator=torch.Generator().manual_seed(0)).images[
            0
        ]
    assert picture.size == (128, 128)
    assert [target.text for target in trace.targets[0]] == ["cat", "red car"]
    assert [len(target.tokens) for target in trace.targets[0]] == [2, 4], "each word stands in two columns"
    with regulate(pipe, config=BestStart(enough=0.0)) as trace:
        pipe("a cat and a red car", num_inference_steps=2)
    assert trace.starts[0].spared
