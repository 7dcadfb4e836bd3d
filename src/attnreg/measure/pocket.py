"""The bundled judge of the bundled models: which things a small picture shows, where, and in which colours."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from attnreg.measure.asked import Prompt, Relation
from attnreg.measure.judge import Scores
from attnreg.measure.pocket_network import STRIDE, Spotter
from attnreg.measure.pocket_weights import REMEDY, WEIGHTS, read
from attnreg.types import AttnregError

SURE = 0.4
"""From which confidence on a thing counts as seen. On worn renderings .4 to .5 are about equally good."""
APART = 5
"""Side, in cells, of the square in which only the strongest centre counts: a blend of two things is one at most."""
SIDE = 128


@dataclass(frozen=True)
class Recognised:
    """A thing in a picture."""

    noun: str
    confidence: float
    x: float
    """Its centre, in pixels from the left edge."""
    y: float
    colour: str
    """The likeliest of the colours the judge knows; of an untinted thing, whichever comes nearest."""
    colours: dict[str, float]


class PocketJudge:
    """Sees pictures of the bundled models; knows its nouns and colours and nothing else."""

    needs_unmodified = False

    def __init__(self, weights: Path = WEIGHTS, device: str = "cpu", batch: int = 64) -> None:
        told, state = read(weights)
        self.nouns, self.colours = told["nouns"], told["colours"]
        self.network = Spotter(len(self.nouns), len(self.colours)).eval().requires_grad_(False).to(device)
        try:
            self.network.load_state_dict(state)
        except RuntimeError as error:  # other names or shapes than the network's
            raise AttnregError(f"expected the judge's weights at {weights}, got others; {REMEDY}") from error
        self.device, self.batch = device, batch

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Raises `AttnregError` for a prompt whose things are not given, or are none that the judge knows."""
        for prompt in prompts:
            if not prompt.things:
                raise AttnregError(
                    f"judge pocket: expected a prompt whose things are listed, got {prompt.text!r} without; "
                    "use a prompt set that says what each prompt shows"
                )
            for thing in prompt.things:
                if thing.noun not in self.nouns or (thing.colour or self.colours[0]) not in self.colours:
                    raise AttnregError(
                        f"judge pocket: expected things of the bundled models ({', '.join(self.nouns)}; colours "
                        f"{', '.join(self.colours)}), got {thing.phrase!r} in {prompt.text!r}; use another judge"
                    )
            for relation in prompt.relations:
                if relation.where not in _SIDES:
                    raise AttnregError(
                        f"judge pocket: expected a relation of {', '.join(_SIDES)}, got {relation.where!r} in "
                        f"{prompt.text!r}; use another judge"
                    )

    def __call__(
        self, pictures: Sequence[Any], prompts: Sequence[Prompt], unmodified: Sequence[Any] | None = None
    ) -> list[Scores]:
        """For each picture, 1.0 or 0.0 (or a share) for what was asked for; see `scores`."""
        self.check(prompts)
        return [scores(prompt, seen) for prompt, seen in zip(prompts, self.see(pictures), strict=True)]

    def see(self, pictures: Sequence[Any]) -> list[list[Recognised]]:
        """The things in each PIL picture, the surest first."""
        found: list[list[Recognised]] = []
        for start in range(0, len(pictures), self.batch):
            heat, colour = self.maps(pictures[start : start + self.batch])
            found += [self._peaks(one, hues) for one, hues in zip(heat, colour, strict=True)]
        return found

    def confidences(self, pictures: Sequence[Any]) -> Float[np.ndarray, "picture noun"]:
        """How sure each noun is to be somewhere in each picture, 0..1; for calibration."""
        parts = [
            self.maps(pictures[start : start + self.batch])[0].amax(dim=(2, 3)).numpy()
            for start in range(0, len(pictures), self.batch)
        ]
        return np.concatenate(parts)

    def features(self, pictures: Sequence[Any]) -> Float[np.ndarray, "picture channel"]:
        """The mean and the maximum of the judge's last hidden maps: what FID and perceptual distance are made of."""
        rows = []
        for start in range(0, len(pictures), self.batch):
            maps = self.hidden(pictures[start : start + self.batch])
            rows.append(torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1).cpu().numpy())
        return np.concatenate(rows)

    @torch.inference_mode()
    def hidden(self, pictures: Sequence[Any]) -> Float[Tensor, "n channel y x"]:
        """The last hidden maps, a cell per 8 x 8 pixels."""
        return self.network.maps(self._tensor(pictures))

    @torch.inference_mode()
    def maps(self, pictures: Sequence[Any]) -> tuple[Float[Tensor, "n noun y x"], Float[Tensor, "n colour y x"]]:
        """Confidence of each noun's centre and probability of each colour, a cell per 8 x 8 pixels."""
        heat, colour = self.network(self._tensor(pictures))
        return heat.sigmoid().float().cpu(), colour.softmax(dim=1).float().cpu()

    def _tensor(self, pictures: Sequence[Any]) -> Tensor:
        rows = [picture.convert("RGB") for picture in pictures]
        # Things have the sizes that the judge knows only at the model's own size.
        rows = [row if row.size == (SIDE, SIDE) else row.resize((SIDE, SIDE)) for row in rows]
        pixels = torch.from_numpy(np.stack([np.asarray(row) for row in rows])).permute(0, 3, 1, 2)
        return pixels.to(self.device).float().div_(127.5).sub_(1)

    def _peaks(self, heat: Float[Tensor, "noun y x"], colour: Float[Tensor, "colour y x"]) -> list[Recognised]:
        strongest, which = heat.max(dim=0)
        crest = F.max_pool2d(strongest[None, None], APART, stride=1, padding=APART // 2)[0, 0]
        seen = []
        for y, x in ((strongest == crest) & (strongest >= SURE)).nonzero().tolist():
            hues = colour[:, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].mean(dim=(1, 2)).tolist()
            named = dict(zip(self.colours, hues, strict=True))
            seen.append(
                Recognised(
                    self.nouns[int(which[y, x])], float(strongest[y, x]), (x + 0.5) * STRIDE, (y + 0.5) * STRIDE,
                    max(named, key=lambda name: named[name]), named,
                )
            )  # fmt: skip
        return sorted(seen, key=lambda one: -one.confidence)


class PocketDistance:
    """ "distance": how differently the judge sees a picture and the unmodified one, place by place.

    Mean over places of the squared distance between the judge's last hidden maps, each of length 1 there, as LPIPS
    measures on the maps of a larger network (Zhang et al. 2018, arXiv:1801.03924, equation 1, without its weights).
    """

    needs_unmodified = True

    def __init__(self, weights: Path = WEIGHTS, device: str = "cpu") -> None:
        self.judge = PocketJudge(weights, device)

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Any prompt will do."""

    def __call__(
        self, pictures: Sequence[Any], prompts: Sequence[Prompt], unmodified: Sequence[Any] | None = None
    ) -> list[Scores]:
        """The distance of each picture from the unmodified one. Raises `AttnregError` if one is missing."""
        if unmodified is None or len(unmodified) != len(pictures):
            raise AttnregError(
                f"judge pocket-distance: expected an unmodified picture for each of {len(pictures)}, got "
                f"{'none' if unmodified is None else len(unmodified)}; draw them with the method none"
            )
        out: list[Scores] = []
        size = self.judge.batch
        for start in range(0, len(pictures), size):
            ours, theirs = (
                F.normalize(self.judge.hidden(some[start : start + size]), dim=1) for some in (pictures, unmodified)
            )
            out += [{"distance": value} for value in (ours - theirs).square().sum(dim=1).mean(dim=(1, 2)).tolist()]
        return out


@functools.cache
def pocket_judge() -> PocketJudge:
    """The judge, loaded once."""
    return PocketJudge()


_SIDES = {
    "left of": lambda first, second: first.x < second.x,
    "right of": lambda first, second: first.x > second.x,
    "above": lambda first, second: first.y < second.y,
    "below": lambda first, second: first.y > second.y,
}


def scores(prompt: Prompt, seen: Sequence[Recognised]) -> Scores:
    """What of the prompt was seen.

    - "all things": every thing is there, each as often as asked for (at least); "things": the share of them.
    - "colours", if colours were asked for: the share of the coloured things that are there in their colour; "all":
      every thing there, and the coloured ones in their colours. Without colours "all" is "all things".
    - "counts", if a thing is asked for more than once or things share a noun: every number is exactly right.
    - "relations", if any: the share of the relations that hold between the surest of each.
    """
    wanted = [thing for thing in prompt.things for _ in range(thing.count)]
    left = list(seen)
    there: list[Recognised | None] = []
    # Coloured things choose first, the one nearest to their colour: "a car and a red car" must not take the red one.
    wanted.sort(key=lambda one: one.colour is None)
    for thing in wanted:
        of_noun = [one for one in left if one.noun == thing.noun]
        chosen = max(of_noun, key=lambda one: one.colours.get(thing.colour or "", one.confidence), default=None)
        there.append(chosen)
        if chosen is not None:
            left.remove(chosen)
    in_order = sorted(wanted, key=lambda one: one.colour is None)
    present = [one is not None for one in there]
    coloured = [
        one is not None and one.colour == thing.colour
        for thing, one in zip(in_order, there, strict=True)
        if thing.colour
    ]
    out = {"things": sum(present) / len(present), "all things": float(all(present))}
    if coloured:
        out["colours"] = sum(coloured) / len(coloured)
    out["all"] = float(all(present) and all(coloured))
    if len({thing.noun for thing in wanted}) < len(wanted):
        numbers = {thing.noun: sum(one.noun == thing.noun for one in wanted) for thing in wanted}
        out["counts"] = float(all(sum(s.noun == noun for s in seen) == number for noun, number in numbers.items()))
    if prompt.relations:
        out["relations"] = sum(_holds(prompt, relation, seen) for relation in prompt.relations) / len(prompt.relations)
    return out


def _holds(prompt: Prompt, relation: Relation, seen: Sequence[Recognised]) -> bool:
    first, second = (
        next((one for one in seen if one.noun == prompt.things[index].noun), None)
        for index in (relation.first, relation.second)
    )
    return first is not None and second is not None and bool(_SIDES[relation.where](first, second))
