"""How the bundled model is made: its words, its pictures, its latents, and the whole way once in small."""

from __future__ import annotations

import copy
import itertools
import random
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from hypothesis import example, given
from hypothesis import strategies as st

from attnreg.models.about import POCKET, about, checksums, damaged
from attnreg.models.load import load_pipeline
from attnreg.regulation.config import AttentionRegulation
from attnreg.sampling import generate
from training import autoencoder, checkpoint, denoiser, loop, pocket
from training.grounds import BACKGROUNDS, CELL, DEEP_BACKGROUNDS, DEEP_SHARE, SIDE, Ground, draw_ground, random_ground
from training.render import Placed, Scene, compose, draw, sprite
from training.tokenizer import END, MAX_LENGTH, NEXT_RING, merges_for, new_tokenizer, split
from training.words import (
    COLOURS,
    GLUE,
    HELD_OUT_SHARE,
    NOUNS,
    OBJECTS,
    PLACES,
    SETTING,
    SIZES,
    Setting,
    Thing,
    caption,
    held_out_pairs,
    random_setting,
    seen_together,
)

TOKENIZER = new_tokenizer()
WORDS = (*NOUNS, *COLOURS, *GLUE, *SETTING, *NEXT_RING)
SETTINGS = [Setting(place, night) for place in (None, *PLACES) for night in (False, True)]
things = st.builds(
    Thing, st.sampled_from(NOUNS), st.none() | st.sampled_from(list(COLOURS)), st.none() | st.sampled_from(SIZES)
)


# --- words --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", WORDS)
def test_a_known_word_is_one_token(word: str) -> None:
    """Alone and between others; the token is the word itself with CLIP's mark of a word's end."""
    assert TOKENIZER.tokenize(word) == [f"{word}</w>"]
    assert TOKENIZER.tokenize(f"a {word} and {word}") == ["a</w>", f"{word}</w>", "and</w>", f"{word}</w>"]
    if word != ",":  # marks that touch are one piece of text to CLIP
        assert TOKENIZER.tokenize(f"{word}, {word}") == [f"{word}</w>", ",</w>", f"{word}</w>"]


@given(text=st.text("abcdefghijklmnopqrstuvwxyz ", min_size=1, max_size=20))
@example("zebra and dinosaur")
def test_anything_else_is_spelled(text: str) -> None:
    """No letter is lost or unknown, and a word that was never taught takes more than one token."""
    pieces = TOKENIZER.tokenize(text)
    assert "".join(pieces).replace("</w>", " ").split() == text.split()
    assert END not in pieces
    for word in set(text.split()) - set(WORDS):
        assert len(word) == 1 or len(TOKENIZER.tokenize(word)) > 1


@given(text=st.lists(st.sampled_from([*WORDS, "zebra", "é", "猫", "x"]), min_size=1, max_size=8).map(" ".join))
def test_offsets_cover_the_words_in_order(text: str) -> None:
    rows = TOKENIZER(text, return_offsets_mapping=True, add_special_tokens=False)
    covered = [set(range(start, end)) for start, end in rows["offset_mapping"]]
    assert set().union(*covered) == {i for i, letter in enumerate(text) if letter != " "}
    assert [start for start, _ in rows["offset_mapping"]] == sorted(start for start, _ in rows["offset_mapping"])
    for word in set(text.split()) & set(WORDS):
        spans = {(match.start(), match.end()) for match in re.finditer(rf"(?<!\S){re.escape(word)}(?!\S)", text)}
        assert spans <= set(map(tuple, rows["offset_mapping"]))


@given(word=st.text("abcdeorlnt", min_size=1, max_size=10))
def test_the_merges_mean_what_the_tokenizer_makes_of_them(word: str) -> None:
    merges = merges_for([known for known in WORDS if len(known) > 1])
    assert split(word, merges) == TOKENIZER.tokenize(word)


def test_captions_fit_and_are_padded_with_the_end() -> None:
    longest = ", ".join("a large orange elephant" for _ in range(4)) + " and a small cat in the forest at night"
    tokens = denoiser.tokenise(TOKENIZER, ["", longest])
    assert tokens.shape == (2, MAX_LENGTH)
    assert (tokens[0, 1:] == TOKENIZER.eos_token_id).all()
    assert TOKENIZER.decode(tokens[1], skip_special_tokens=True).split() == longest.replace(",", " ,").split()


@given(named=st.lists(things, min_size=1, max_size=3), setting=st.sampled_from(SETTINGS), seed=st.integers(0, 99))
def test_captions_name_each_thing_once_in_order(named: list[Thing], setting: Setting, seed: int) -> None:
    sentence = caption(named, random.Random(seed), setting)
    sizes, colours = "|".join(SIZES), "|".join(COLOURS)
    found = re.findall(rf"\ban? (?:({sizes}) )?(?:({colours}) )?({'|'.join(NOUNS)})\b", sentence)
    assert found == [(thing.size or "", thing.colour or "", thing.noun) for thing in named]
    assert set(re.findall(r"\w+|,", sentence)) <= set(WORDS)
    told = sum((t.colour is not None) + (t.size is not None) for t in named)
    assert len(sentence.split()) == 2 * len(named) + told + (len(named) > 1) + len(str(setting).split())
    assert sentence.endswith(str(setting))
    assert ("at night" in sentence) == setting.night
    assert {place for place in PLACES if place in sentence} == {setting.place} - {None}
    assert len(TOKENIZER(sentence).input_ids) <= MAX_LENGTH
    if " with " in sentence:
        assert len(named) == 2
        assert named[1].noun in OBJECTS


def test_some_captions_use_with_and_an() -> None:
    said = {caption([Thing("elephant"), Thing("bow")], random.Random(seed)) for seed in range(60)}
    assert said == {f"{a} elephant {link} a bow" for a in ("a", "an") for link in ("and", "with")}


def test_two_fifths_of_the_pairs_are_held_out() -> None:
    held_out, seen = held_out_pairs(), {frozenset(pair) for pair in seen_together(2)}
    assert len(NOUNS) == 24
    assert not held_out & seen
    assert len(held_out | seen) == 24 * 23 // 2
    assert HELD_OUT_SHARE == 0.4
    assert len(held_out) == 110
    assert all(any(noun in pair for pair in seen) for noun in NOUNS)


def test_held_out_pairs_are_never_shown() -> None:
    """Not in training pictures, in either order; single things are of any noun."""
    rng, held_out = random.Random(0), held_out_pairs()
    captioned = {kind: [denoiser.named_and_shown(kind, rng) for _ in range(2000)] for kind in denoiser.KINDS}
    drawn = [shown for some in captioned.values() for _, shown in some]
    assert {len(scene) for scene in drawn} == {1, 2, 3}
    together = {frozenset((one.noun, other.noun)) for scene in drawn for one, other in itertools.combinations(scene, 2)}
    assert not together & held_out
    assert len(together) == 24 * 23 // 2 - len(held_out), "and every other pair is"
    assert {scene[0].noun for scene in drawn if len(scene) == 1} == set(NOUNS)
    assert {thing.colour for scene in drawn for thing in scene if thing.noun not in OBJECTS} == {None}
    assert {thing.colour for scene in drawn for thing in scene if thing.noun in OBJECTS} == {None, *COLOURS}
    assert {thing.size for scene in drawn for thing in scene} == {None, *SIZES}
    assert {random_setting(rng) for _ in range(3000)} == set(SETTINGS)
    for kind, some in captioned.items():
        for named, shown in some:
            assert shown == named if kind != denoiser.PROMISED else shown[0] in named and len(shown) == 1 < len(named)
    promised = {frozenset(one.noun for one in named) for named, _ in captioned[denoiser.PROMISED]}
    assert promised == held_out, "only pairs that nothing shows are promised in vain"


# --- pictures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [None, *SIZES])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_things_lie_inside_the_picture_and_apart(count: int, size: str | None) -> None:
    """In a hundred scenes; in the first few of them, what is drawn keeps to the things' squares and fills them."""
    uprights = 0
    for seed in range(100):
        named = [Thing("cat", size=size), Thing("car", "red", size), Thing("apple", "blue", size)][:count]
        scene = compose(named, random.Random(seed), SETTINGS[seed % len(SETTINGS)])
        assert [placed.thing.noun for placed in scene.placed] == ["cat", "car", "apple"][:count]
        owner = np.full((SIDE, SIDE), -1)
        for index, placed in enumerate(scene.placed):
            assert placed.left % CELL == placed.top % CELL == 0
            assert min(placed.left, placed.top) >= 0
            assert max(placed.left, placed.top) + placed.size <= SIDE
            square = owner[placed.top : placed.top + placed.size, placed.left : placed.left + placed.size]
            assert (square == -1).all(), "two things overlap"
            square[:] = index
        if seed < 5:
            empty = (255 * draw_ground(scene.ground) + 0.5).astype(np.uint8)
            changed = (draw(scene) != empty).any(-1)
            assert not changed[owner == -1].any(), "something is drawn outside of the things' squares"
            for index in range(count):
                assert changed[owner == index].mean() > 0.15, "a thing is missing"
        if count == 2:
            tops = [placed.top for placed in scene.placed]
            uprights += abs(tops[0] - tops[1]) >= SIDE // 2 - CELL * 3
    assert count != 2 or 10 < uprights < 50, "some pairs stand one above the other"


def test_a_told_size_is_kept() -> None:
    def sides(size: str | None, count: int) -> set[int]:
        named = [Thing("cat", size=size)] * count
        return {placed.size for seed in range(40) for placed in compose(named, random.Random(seed)).placed}

    for count in (1, 2):
        assert max(sides("small", count)) < min(sides(None, count))
        assert max(sides(None, count)) < min(sides("large", count))
        assert len(sides(None, count)) == 2


def test_every_setting_looks_its_own_way() -> None:
    """By night darker and bluer; places differ from each other and from plain ground, which has one colour."""
    drawn = {setting: draw_ground(Ground(setting, BACKGROUNDS[0], 48)) for setting in SETTINGS}
    for setting, picture in drawn.items():
        assert picture.shape == (SIDE, SIDE, 3)
        assert 0 <= picture.min() <= picture.max() <= 1
        assert (len(np.unique(picture.reshape(-1, 3), axis=0)) == 1) == (setting.place is None)
        if setting.night:
            day = drawn[Setting(setting.place)]
            assert picture.mean() < 0.6 * day.mean()
            assert picture[..., 2].sum() / picture.sum() > day[..., 2].sum() / day.sum()
    apart = [abs(one - other).mean() for one, other in itertools.combinations(drawn.values(), 2)]
    assert min(apart) > 0.04
    horizons = {random_ground(random.Random(seed), Setting("beach")).horizon for seed in range(20)}
    assert len(horizons) == 3


def test_the_seed_decides_the_picture() -> None:
    first, again, other = (
        draw(compose([Thing("dog"), Thing("bowl", "pink")], random.Random(seed))) for seed in (3, 3, 4)
    )
    assert first.shape == (SIDE, SIDE, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_four_things_find_no_place() -> None:
    with pytest.raises(ValueError, match="not 4"):
        compose([Thing("cat")] * 4, random.Random(0))


def test_pale_things_mostly_stand_on_deep_ground() -> None:
    def deep(*named: Thing) -> float:
        grounds = [compose(list(named), random.Random(seed)).ground.colour for seed in range(200)]
        assert set(grounds) <= {*BACKGROUNDS, *DEEP_BACKGROUNDS}
        return sum(ground in DEEP_BACKGROUNDS for ground in grounds) / 200

    for pale in (Thing("rabbit"), Thing("car", "white"), Thing("bowl", "gray", "small")):
        assert DEEP_SHARE - 0.1 < deep(pale) < DEEP_SHARE + 0.1
        assert deep(Thing("cat"), pale) > 0.6
        assert deep(Thing("bear"), pale) == 0
    assert deep(Thing("cat"), Thing("car", "black")) == 0


@pytest.mark.parametrize("noun", NOUNS)
def test_every_noun_has_its_art(noun: str) -> None:
    """Premultiplied (but for a little ringing of the resampling), in range, and no blank."""
    art = sprite(noun, 56)
    assert art.shape == (56, 56, 4)
    assert art.min() >= 0
    assert art.max() <= 1
    assert (art[..., :3] <= art[..., 3:] + 0.1).all()
    assert (art[..., 3] > 0.5).mean() > 0.15


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("noun", ["car", "bow"])
def test_a_tint_hits_its_colour(noun: str, colour: str) -> None:
    """The middle tone of the surface is the colour itself: half of the surface is lighter, half darker."""
    art = sprite(noun, 80, colour)
    solid = art[art[..., 3] > 0.95]
    middle = np.median(solid[:, :3] / solid[:, 3:], axis=0)
    assert np.abs(255 * middle - COLOURS[colour]).max() < 12
    assert np.array_equal(art[..., 3], sprite(noun, 80)[..., 3]), "the outline stays"


def test_a_thing_is_seen_in_its_colour() -> None:
    scene = Scene(Ground(Setting(), BACKGROUNDS[0], 48), (Placed(Thing("balloon", "blue"), 24, 24, 80),))
    red, _, blue = (draw(scene)[24:104, 24:104][sprite("balloon", 80)[..., 3] > 0.95]).mean(0)
    assert blue > red + 80


# --- latents ------------------------------------------------------------------------------------------------------


@pytest.fixture
def fresh() -> AutoencoderTiny:
    torch.manual_seed(0)
    return autoencoder.new_autoencoder()


def test_crops_are_pictures_of_things() -> None:
    crops = autoencoder.crops(4, 64, random.Random(0))
    assert crops.shape == (4, 3, 64, 64)
    assert crops.min() >= -1
    assert crops.max() <= 1
    assert (crops.flatten(1).std(dim=1) > 0.05).all(), "each shows more than plain ground"
    assert torch.equal(crops, autoencoder.crops(4, 64, random.Random(0)))


def test_pixels_become_numbers() -> None:
    picture = np.zeros((1, 2, 3, 3), np.uint8)
    picture[0, 1, 2] = (255, 0, 51)
    made = autoencoder.to_tensor(picture)
    assert made.shape == (1, 3, 2, 3)
    assert made[0, :, 1, 2].tolist() == pytest.approx([1, -1, -0.6])


def test_the_unit_scale_is_where_the_loss_is_zero() -> None:
    latents = torch.randn(4, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    variance, mean = torch.var_mean(latents, dim=(0, 2, 3), keepdim=True)
    unit = (latents - mean) / variance.sqrt()
    assert autoencoder.unit_scale_loss(unit) < 1e-10
    assert autoencoder.unit_scale_loss(unit + 0.5).item() == pytest.approx(0.25, abs=1e-5)
    assert autoencoder.unit_scale_loss(2 * unit).item() == pytest.approx(9, abs=1e-4)


def test_the_loss_of_a_picture_itself_is_zero() -> None:
    picture = autoencoder.crops(2, 64, random.Random(0))
    assert autoencoder.reconstruction_loss(picture, picture) == 0
    assert autoencoder.reconstruction_loss(picture + 0.1, picture).item() == pytest.approx(0.1 + 0.01 + 0.1, abs=1e-5)


def test_latents_are_made_equally_long_and_pictures_stay(fresh: AutoencoderTiny) -> None:
    """From a net whose latents are as unequal as they come: the soft clamp is all that may change a picture."""
    with torch.no_grad():
        fresh.encoder.layers[-1].weight.mul_(torch.logspace(-1, 1, 8)[:, None, None, None])
        fresh.encoder.layers[-1].weight.mul_(0.02)
    pictures = autoencoder.crops(8, 64, random.Random(1))
    with torch.no_grad():
        latents = fresh.encode(pictures).latents
        before = fresh.decode(latents).sample
        matrix = autoencoder.equalise(fresh)
        moved = fresh.encode(pictures).latents
        after = fresh.decode(moved).sample
    torch.testing.assert_close(moved, torch.einsum("oi,nihw->nohw", matrix.float(), latents), rtol=1e-4, atol=1e-5)
    assert (after - before).abs().mean() < 0.05 * before.std()
    many = fresh.encode(autoencoder.crops(256, 64, random.Random("0 equalise"))).latents
    lengths = torch.linalg.eigvalsh(many.movedim(1, -1).flatten(0, -2).T.cov()).sqrt()
    assert (lengths.min() / lengths.max()).item() == pytest.approx(autoencoder.SHORTEST, rel=1e-3)
    assert lengths.square().mean().sqrt().item() == pytest.approx(autoencoder.EQUAL_SCALE, rel=1e-3)
    torch.testing.assert_close(autoencoder.equalise(fresh), torch.eye(8).double(), rtol=0, atol=1e-3)


def test_a_unet_reads_and_writes_moved_latents() -> None:
    unet = denoiser.Model(TOKENIZER).unet.eval()
    context, latents = torch.randn(1, MAX_LENGTH, denoiser.CONTEXT), torch.randn(1, 8, 16, 16)
    matrix = torch.eye(8).double() + 0.2 * torch.randn(8, 8, dtype=torch.float64)
    with torch.no_grad():
        said = unet(latents, 500, encoder_hidden_states=context).sample
        denoiser.speak(unet, matrix)
        moved = torch.einsum("oi,nihw->nohw", matrix.float(), latents)
        again = unet(moved, 500, encoder_hidden_states=context).sample
    torch.testing.assert_close(again, torch.einsum("oi,nihw->nohw", matrix.float(), said), rtol=1e-3, atol=1e-4)


def test_polishing_leaves_the_latents_alone(fresh: AutoencoderTiny, tmp_path: Path) -> None:
    encoder, decoder = copy.deepcopy((fresh.encoder, fresh.decoder))
    autoencoder.polish(tmp_path, fresh, 0.0001, batch=2)
    assert all(torch.equal(a, b) for a, b in zip(encoder.parameters(), fresh.encoder.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(decoder.parameters(), fresh.decoder.parameters(), strict=True))


def test_a_killed_training_goes_on_as_if_nothing_had_happened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten steps in one go, and in two runs of which the second starts from the first one's checkpoint."""
    clock = [0.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: clock[0])

    def run(path: Path, minutes: float) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
        torch.manual_seed(0)
        model, seen = torch.nn.Linear(3, 1), []
        average = copy.deepcopy(model).requires_grad_(False)

        def loss_at(step: int, share: float) -> torch.Tensor:
            seen.append(step)
            assert share == pytest.approx(step / minutes, abs=1e-6)
            clock[0] += 60
            inputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(step))
            return (model(inputs) - inputs.sum(1, keepdim=True)).square().mean()

        loop.learn(path, model, loss_at, minutes, peak_rate=1e-2, average=average)
        return model.weight.detach().clone(), average.weight.clone(), seen

    weight, average, seen = run(tmp_path / "whole.pt", 10)
    assert seen == list(range(10))
    assert not torch.equal(weight, average)

    keep = loop.SAVE_EVERY
    monkeypatch.setattr(loop, "SAVE_EVERY", 0)
    stop = checkpoint.save

    def killed(path: Path, state: dict[str, Any]) -> None:
        stop(path, state)
        if state["step"] == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop.checkpoint, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts.pt", 10)
    monkeypatch.setattr(loop.checkpoint, "save", stop)
    monkeypatch.setattr(loop, "SAVE_EVERY", keep)
    resumed_weight, resumed_average, seen = run(tmp_path / "parts.pt", 10)
    assert seen == list(range(4, 10))
    torch.testing.assert_close(resumed_weight, weight, rtol=0, atol=0)
    torch.testing.assert_close(resumed_average, average, rtol=0, atol=0)


def test_a_checkpoint_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "runs" / "one.pt"
    assert checkpoint.load(path) is None
    checkpoint.save(path, {"step": 1, "model": {"w": torch.ones(2)}})
    save = torch.save

    def killed(state: Any, file: Path) -> None:
        save(state, file)
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(path, {"step": 2})
    state = checkpoint.load(path)
    assert state
    assert state["step"] == 1


def test_only_plain_values_are_read(tmp_path: Path) -> None:
    import pickle

    torch.save({"path": Path("x")}, tmp_path / "one.pt")
    with pytest.raises(pickle.UnpicklingError):
        checkpoint.load(tmp_path / "one.pt")


# --- all of it ----------------------------------------------------------------------------------------------------


def test_the_whole_way_in_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """One step of each stage: the directory opens, knows its words and draws; a second run has nothing left to do."""
    work, out = tmp_path / "work", tmp_path / "model"
    budget = [
        f"--{stage}-minutes=0.0001" for stage in ("autoencoder", "denoiser", "decoder")
    ] + ["--promised=1", "--pictures=12", "--device=cpu", f"--work={work}", f"--out={out}"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["pocket", *budget])
    pocket.main()
    assert {path.name for path in work.iterdir()} == {"autoencoder.pt", "latents.pt", "denoiser.pt", "decoder.pt"}
    for name in ("autoencoder", "denoiser", "decoder"):
        state = checkpoint.load(work / f"{name}.pt")
        assert state
        assert state["step"] == 1
    latents = checkpoint.load(work / "latents.pt")
    assert latents
    for kind, count in zip(denoiser.KINDS, (1, 2, 3, 2), strict=True):
        assert latents[f"latents of {kind}"].shape == (3, 8, 16, 16)
        captions = TOKENIZER.batch_decode(latents[f"tokens of {kind}"], skip_special_tokens=True)
        named = [set(NOUNS) & set(sentence.replace(",", " ").split()) for sentence in captions]
        assert [len(nouns) for nouns in named] == [count] * 3

    told = about(out)
    assert told
    assert (told.things, told.colours, told.other) == (NOUNS, tuple(COLOURS), (*GLUE, *SETTING))
    assert damaged(out) == []
    assert {path.suffix for path in out.rglob("*.*")} <= {".json", ".safetensors", ".md", ".txt"}
    pipe = load_pipeline(str(out), device="cpu")
    pipe.set_progress_bar_config(disable=True)
    drawn = generate(pipe, "a cat and a red car", AttentionRegulation(window=(0.0, 1.0)), num_inference_steps=1)
    assert drawn.picture.size == (SIDE, SIDE)
    assert [target.text for target in drawn.trace.targets[0]] == ["cat", "red car"]
    assert drawn.trace.regulated_steps == 1

    made = checksums(out)
    monkeypatch.setattr(autoencoder, "reconstruction_loss", None)
    monkeypatch.setattr(denoiser, "encode", None)
    monkeypatch.setattr(denoiser.Model, "forward", None)
    pocket.main()
    assert checksums(out) == made
    assert damaged(out) == []


def test_a_new_decoder_keeps_the_latents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And so does a UNet that learns no more: what it is asked to draw is what it knew, decoded anew."""
    out = tmp_path / "model"
    options = ["--new-decoder", "--bfloat16", "--autoencoder-minutes=0", "--denoiser-minutes=0", "--pictures=9"]
    options += ["--decoder-minutes=0.0001", "--device=cpu", f"--work={tmp_path / 'work'}", f"--out={out}"]
    monkeypatch.setattr(sys, "argv", ["pocket", *options])
    with pytest.raises(SystemExit):
        pocket.main()
    assert "expected --start with --new-decoder" in capsys.readouterr().err
    sys.argv.append(f"--start={POCKET}")
    pocket.main()
    before, after = load_pipeline(device="cpu"), load_pipeline(str(out), device="cpu")
    assert tuple(after.vae.config.num_decoder_blocks) == autoencoder.new_autoencoder().config.num_decoder_blocks
    assert after.vae.config.scaling_factor == before.vae.config.scaling_factor
    for part in ("unet", "text_encoder"):
        weights = getattr(before, part).state_dict()
        assert all(torch.equal(weights[name], value) for name, value in getattr(after, part).state_dict().items())
    weights = before.vae.encoder.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in after.vae.encoder.state_dict().items())
