"""GenEval's rules on hand-made instances; Mask2Former's on a real, tiny network; colours seen through the mask."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Mask2FormerForUniversalSegmentation

from attnreg.errors import AttnregError
from attnreg.measure import geneval
from attnreg.measure.asked import Prompt, Relation, Thing
from attnreg.measure.boxes import Box
from attnreg.measure.geneval import COLOURS, ColourNames, GenEval, Instance, Instances, cut_out, verdict
from attnreg.measure.judges import JUDGES
from attnreg.measure.weights import find_weights

RGB = {"red": (255, 0, 0), "green": (0, 160, 0), "blue": (0, 0, 255), "white": (255, 255, 255), "black": (0, 0, 0)}


def instance(noun: str, score: float, left: int, top: int, right: int, bottom: int, side: int = 32) -> Instance:
    mask = torch.zeros(side, side, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return Instance(Box(noun, score, left, top, right, bottom), mask)


def judged(prompt: Prompt, found: Sequence[Sequence[Instance]], colours: Sequence[str] = ()) -> dict[str, float]:
    named = iter(colours)
    return verdict(prompt, found, lambda seen, noun: [next(named) for _ in seen])


LEFT, RIGHT = instance("cat", 0.9, 0, 0, 8, 8), instance("dog", 0.8, 20, 0, 30, 8)


def test_objects_and_counts() -> None:
    one = Prompt("a cat", (Thing("cat"),))
    assert judged(one, [[LEFT]]) == {"correct": 1, "objects": 1}
    assert judged(one, [[LEFT, LEFT]]) == {"correct": 1, "objects": 1}  # of one, more are no fault
    assert judged(one, [[]]) == {"correct": 0, "objects": 0}
    two = Prompt("two cats", (Thing("cat", count=2),))
    assert judged(two, [[LEFT, LEFT]]) == {"correct": 1, "objects": 1, "counts": 1}
    assert judged(two, [[LEFT] * 3]) == {"correct": 0, "objects": 1, "counts": 0}
    assert judged(two, [[LEFT]]) == {"correct": 0, "objects": 0, "counts": 0}


def test_colours_of_the_surest() -> None:
    red = Prompt("a red cat and a dog", (Thing("cat", "red"), Thing("dog")))
    assert judged(red, [[LEFT, LEFT], [RIGHT]], ["red"]) == {"correct": 1, "objects": 1, "colours": 1}
    assert judged(red, [[LEFT], [RIGHT]], ["blue"]) == {"correct": 0, "objects": 1, "colours": 0}
    assert judged(red, [[], [RIGHT]]) == {"correct": 0, "objects": 0, "colours": 0}


def test_positions() -> None:
    prompt = Prompt("a dog right of a cat", (Thing("cat"), Thing("dog")), (Relation(1, "right of", 0),))
    assert judged(prompt, [[LEFT], [RIGHT]]) == {"correct": 1, "objects": 1, "positions": 1}
    assert judged(prompt, [[RIGHT], [LEFT]]) == {"correct": 0, "objects": 1, "positions": 0}
    assert judged(prompt, [[LEFT], []]) == {"correct": 0, "objects": 0, "positions": 0}


def test_a_thing_is_cut_out_on_grey() -> None:
    picture = Image.new("RGB", (32, 32), RGB["blue"])
    shape = instance("cat", 1.0, 4, 8, 12, 20)
    shape.mask[8:10, 4:12] = False  # the box is larger than the outline
    pixels = np.asarray(cut_out(picture, shape))
    assert pixels.shape == (12, 8, 3)
    assert (pixels[:2] == geneval.GREY).all()
    assert (pixels[2:] == RGB["blue"]).all()


class ByEye:
    """An encoder whose space is RGB: a picture is the mean of what is not grey, a text the colour it names."""

    def texts(self, texts: Sequence[str]) -> torch.Tensor:
        named = [
            next((RGB[word] for word in RGB if word in text.replace("-", " ").split()), (90, 90, 1)) for text in texts
        ]
        return self.unit(named)

    def pictures(self, pictures: Sequence[Any]) -> torch.Tensor:
        pixels = [np.asarray(picture).reshape(-1, 3) for picture in pictures]
        return self.unit([each[(each != geneval.GREY).any(1)].mean(0) for each in pixels])

    def unit(self, rows: Sequence[Any]) -> torch.Tensor:
        values = torch.tensor(np.array(rows, dtype=np.float32)) - 127.5
        return torch.nn.functional.normalize(values, dim=-1)


def test_colour_names() -> None:
    picture = Image.new("RGB", (32, 32), RGB["black"])
    picture.paste(RGB["red"], (0, 0, 8, 8))
    picture.paste(RGB["green"], (20, 0, 30, 8))
    names = ColourNames(ByEye())
    assert names(picture, [LEFT, RIGHT, instance("cat", 0.5, 0, 16, 8, 24)], "cat") == ["red", "green", "black"]
    assert names(picture, [], "cat") == []


class Found:
    """A detector with a fixed answer."""

    label = Instances.label

    def __init__(self, instances: list[Instance]) -> None:
        self.labels, self.instances = {0: "cat", 1: "dog"}, instances

    def __call__(self, pictures: Sequence[Any]) -> list[list[Instance]]:
        return [self.instances for _ in pictures]


def test_counting_needs_surer_instances(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = GenEval.__new__(GenEval)
    judge.instances = Found([LEFT, instance("cat", 0.95, 0, 0, 4, 4), RIGHT])  # type: ignore[assignment]
    judge.colour_names = ColourNames(ByEye())
    picture = Image.new("RGB", (32, 32), RGB["red"])
    one, two = Prompt("a cat", (Thing("cat"), Thing("dog"))), Prompt("two cats", (Thing("cat", count=2),))
    red = Prompt("a red dog", (Thing("dog", "red"),))
    assert judge([picture] * 3, [one, two, red]) == [
        {"correct": 1, "objects": 1},
        {"correct": 0, "objects": 0, "counts": 0},
        {"correct": 1, "objects": 1, "colours": 1},
    ]
    monkeypatch.setattr(geneval, "COUNTING_THRESHOLD", 0.85)
    assert judge([picture], [two]) == [{"correct": 1, "objects": 1, "counts": 1}]


@torch.no_grad()
def test_instances_of_a_real_network(
    mask2former_folder: Path, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(geneval, "THRESHOLD", 0.15)  # a random network is sure of little
    instances = Instances(find_weights(mask2former_folder, {"mask2former": ""}, "cpu"))
    found = instances([picture.resize((48, 40)) for picture in pictures])
    model = Mask2FormerForUniversalSegmentation.from_pretrained(mask2former_folder).eval()
    assert any(found)
    for picture, here in zip(pictures, found, strict=True):
        outputs = model(**instances.processor(images=picture.resize((48, 40)), return_tensors="pt"))
        chances = outputs.class_queries_logits[0].softmax(-1)[:, :-1].flatten()
        queries, kinds = np.unravel_index(chances.topk(10).indices.numpy(), (10, 5))
        logits = torch.nn.functional.interpolate(outputs.masks_queries_logits, (384, 384), mode="bilinear")[0]
        expected = []
        for query, kind in zip(queries, kinds, strict=True):
            inside = logits[query] > 0
            mean = (logits[query].sigmoid() * inside).sum() / (inside.sum() + 1e-6)
            score = float(chances[query * 5 + kind] * mean)
            # Of each pixel of the picture, the network's pixel nearest to its upper left corner.
            shown = inside[(torch.arange(40) * 384 // 40)[:, None], torch.arange(48) * 384 // 48]
            if shown.any() and score >= 0.15:
                expected.append((["cat", "dog", "aeroplane", "mouse", "bear"][kind], score))
        nouns, scores = zip(*sorted((one.box.noun, one.box.score) for one in here), strict=True)
        expected_nouns, expected_scores = zip(*sorted(expected), strict=True)
        assert nouns == expected_nouns
        assert scores == pytest.approx(expected_scores, abs=1e-4)
        assert [one.box.score for one in here] == sorted((one.box.score for one in here), reverse=True)
        for one in here:
            assert one.mask.shape == (40, 48)
            box = one.box
            inside = one.mask[int(box.top) : int(box.bottom), int(box.left) : int(box.right)]
            assert inside.sum() == one.mask.sum()  # the box holds the whole outline, and touches it on every side
            assert all(bool(edge.any()) for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


def test_end_to_end(mask2former_folder: Path, clip_folder: Path, pictures: list[Image.Image]) -> None:
    judge = JUDGES["geneval"].open({"mask2former": mask2former_folder, "clip": clip_folder}, "cpu")
    assert isinstance(judge, GenEval)
    prompts = [
        Prompt("a red cat left of a dog", (Thing("cat", "red"), Thing("dog")), (Relation(0, "left of", 1),)),
        Prompt("two airplanes", (Thing("airplane", count=2),)),
        Prompt("a computer mouse", (Thing("computer mouse"),)),
    ]
    judge.check(prompts)
    assert [list(score) for score in judge(pictures, prompts)] == [
        ["correct", "objects", "colours", "positions"],
        ["correct", "objects", "counts"],
        ["correct", "objects"],
    ]
    for prompt, fault in (
        (Prompt("a frog", (Thing("frog"),)), "one of the 5 things of the detector's training, got 'frog'"),
        (Prompt("a gray cat", (Thing("cat", "gray"),)), f"a colour of {', '.join(COLOURS)}, got 'gray'"),
        (Prompt("x", (Thing("cat"), Thing("dog")), (Relation(0, "inside", 1),)), "a position of .*, got 'inside'"),
        (Prompt("a lovely day"), "leave out the judge geneval"),
    ):
        with pytest.raises(AttnregError, match=fault):
            judge.check([prompt])
