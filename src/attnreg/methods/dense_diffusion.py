"""DenseDiffusion: every thing has a box, and attention is moved into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnreg.regulation.edit import Edited, PromptWords, check_fit, full_precision
from attnreg.regulation.grouping import membership, target_mass
from attnreg.regulation.kinds import ImageLogits, Moment
from attnreg.regulation.settings import EditSettings, in_layers, in_window, number, setting
from attnreg.types import AttnregError, Grid, Logits

Box = tuple[float, float, float, float]
"""Top, left, bottom, right, as fractions of the picture."""


def boxes_in_the_picture(name: str, value: object) -> tuple[Box, ...]:
    """Accepts boxes `(top, left, bottom, right)` within 0 and 1, or none."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise AttnregError(f"{name}: expected boxes, got {value!r}; write for example ((0.0, 0.0, 1.0, 0.5),)")
    side = number(0.0, 1.0)
    found = []
    for box in value:
        if isinstance(box, str) or not isinstance(box, Sequence) or len(box) != 4:
            raise AttnregError(f"{name}: expected (top, left, bottom, right), got {box!r}; give four fractions")
        top, left, bottom, right = (float(side(name, part)) for part in box)  # type: ignore[arg-type]
        if top >= bottom or left >= right:
            raise AttnregError(f"{name}: expected top < bottom and left < right, got {tuple(box)}; swap them")
        found.append((top, left, bottom, right))
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class DenseDiffusion(EditSettings):
    """`softmax(L + l R (max L - L) (1 - S) - l (1 - R) (L - min L) (1 - S))`, where R says who belongs together.

    Kim et al., ICCV 2023, arXiv:2308.12964, equations 2 to 5. Over the text, R is 1 where a pixel lies in the box of a
    token's target; tokens of no target are left alone. Over the picture, R is 1 where two pixels lie in the same box;
    what lies in none is one more segment. Maximum and minimum are over the keys. S is the segment's share of the
    picture, and `l = w t^5` falls with the time step t from 1 to 0.

    Without boxes the targets stand side by side in the order given, in equal parts of the longer side. (The paper also
    encodes each phrase alone: `structured-diffusion` does that, and the two compose.)
    """

    window: tuple[float, float] = in_window(0.0, 0.3)
    layers: tuple[str, ...] = in_layers("all")
    over_text_weight: float = setting(1.0, number(0.0), "w: how strongly attention over the text is moved")
    over_image_weight: float = setting(0.3, number(0.0), "w: how strongly attention over the picture is moved")
    boxes: tuple[Box, ...] = setting(
        (), boxes_in_the_picture, "top, left, bottom, right of each target's box, as fractions; none: side by side"
    )

    def over_text(self, logits: Logits, words: Sequence[PromptWords], moment: Moment, memory: dict[str, Any]) -> Edited:
        """The edited attention of one layer over the text; see `kinds.AttentionEdit`."""
        columns = [one.columns for one in words]
        check_fit(logits, columns, moment.grid)
        with full_precision(logits) as logits:
            members = membership(tuple(columns), logits.shape[-1], logits.dtype, logits.device)
            inside = self.segments(len(words[0].targets), moment.grid).to(logits)  # target pixel
            belongs = torch.einsum("iut,tp->ipu", members[..., :-1], inside).unsqueeze(1)
            heeded = members[..., :-1].sum(-1)[:, None, None]
            share = torch.einsum("iut,t->iu", members[..., :-1], inside.mean(-1))[:, None, None]
            level = self.strength * self.over_text_weight * moment.noise**5
            probabilities = (logits + _moved(logits, belongs, level * (1 - share) * heeded)).softmax(-1)
            return Edited(probabilities, target_mass(logits.softmax(-1), members), target_mass(probabilities, members))

    def over_image(
        self, logits: ImageLogits, words: Sequence[PromptWords], moment: Moment
    ) -> Float[Tensor, "image head pixel pixel"]:
        """The edited attention of one layer over the picture; see `kinds.AttentionEdit`."""
        with full_precision(logits) as logits:
            inside = self.segments(len(words[0].targets), moment.grid).to(logits)
            inside = torch.cat([inside, (inside.sum(0, keepdim=True) == 0).to(inside)])
            belongs = (inside.mT @ inside > 0).to(logits)
            share = belongs.mean(-1, keepdim=True)  # of a pixel's segment: what it belongs together with
            level = self.strength * self.over_image_weight * moment.noise**5
            return (logits + _moved(logits, belongs, level * (1 - share))).softmax(-1)

    def segments(self, targets: int, grid: Grid) -> Bool[Tensor, "target pixel"]:
        """Which pixels of a map lie in each target's box: those whose middle does, and one at least.

        Raises `AttnregError` if there are boxes, but not one a target.
        """
        boxes = self.boxes or side_by_side(targets, grid)
        if len(boxes) != targets:
            raise AttnregError(
                f"boxes: expected one for each of {targets} targets, got {len(boxes)}; give one a target"
            )
        rows, columns = ((torch.arange(side) + 0.5) / side for side in grid)
        found = []
        for top, left, bottom, right in boxes:
            tall, wide = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
            tall[min(grid.height - 1, int((top + bottom) / 2 * grid.height))] = True
            wide[min(grid.width - 1, int((left + right) / 2 * grid.width))] = True
            found.append((tall[:, None] & wide[None, :]).flatten())
        return torch.stack(found)


def side_by_side(targets: int, grid: Grid) -> tuple[Box, ...]:
    """Equal parts of the picture from left to right, or from top to bottom where it is higher than wide."""
    parts = [(i / targets, (i + 1) / targets) for i in range(targets)]
    if grid.height > grid.width:
        return tuple((start, 0.0, end, 1.0) for start, end in parts)
    return tuple((0.0, start, 1.0, end) for start, end in parts)


def _moved(logits: Tensor, belongs: Tensor, level: Tensor) -> Tensor:
    """What is added to logits: up to the row's maximum where key and query belong together, else down to its minimum.

    A key that is masked (its logit is minus infinity) stays so and counts in no minimum.
    """
    finite = logits.isfinite()
    top = logits.amax(-1, keepdim=True)
    bottom = logits.masked_fill(~finite, torch.inf).amin(-1, keepdim=True)
    moved = level * torch.where(belongs > 0, top - logits, bottom - logits)
    return moved.masked_fill(~finite, 0.0)
