"""What attention could do at best: each thing's own phrase, encoded alone, read by the part of the picture that is its.

`python -m benchmarks.regions`: an instrument, no method. In every cross-attention layer the conditional rows get
`(1 - share) * whole prompt + share * sum_t r_t(x) * context of thing t`. `--regions halves` forces the first thing to
the left; `own` takes `r` from the model's attention in the step before, balanced; `layer` from that very layer's, in
that very step. `--context alone` encodes "a bear";
`repeated` "a bear and a bear", which keeps the layout of pairs. Printed: how many of the development half's pictures
that lack a thing are mended, how many of the others are spoilt.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from attnreg.evaluation.prompts import halves, prompt_set
from attnreg.measure.pocket import PocketJudge
from attnreg.models.about import POCKET, about
from attnreg.models.load import load_pipeline
from attnreg.regulation.balance import shared_anew
from benchmarks.drawing import Job, batched, drawn, pixel_distance, together

MAP = 16
SHARPNESS = 0.1
KEPT = 0.5
"""Of the regions of the steps before."""


@dataclass
class Regions:
    """Of the pictures in hand: the contexts `(image, thing, token, channel)`, where each thing is, which step it is."""

    contexts: Tensor
    columns: list[list[list[int]]]
    share: float
    window: tuple[float, float]
    regions: Tensor | None = None
    step: int = 0
    steps: int = 1
    seen: list[Tensor] = field(default_factory=list)

    def maps(self, probabilities: Tensor) -> Tensor:
        """Where the things' tokens are attended to: probabilities `(image, head, pixel, token)` of one layer."""
        mean, side = probabilities.mean(1), round(probabilities.shape[2] ** 0.5)
        maps: Tensor = torch.stack(
            [torch.stack([mean[i][:, c].sum(-1) for c in things]) for i, things in enumerate(self.columns)]
        )
        square: Tensor = maps.unflatten(-1, (side, side))
        return square

    def made_of(self, maps: Tensor) -> Tensor:
        """Regions of maps: equally large, smooth, sharp."""
        maps = maps / maps.mean((2, 3), keepdim=True)
        given = F.avg_pool2d(F.pad(maps, (1,) * 4, mode="replicate"), 3, 1).flatten(2).clamp_min(1e-6).log()
        made = shared_anew(given, given.logsumexp(1, keepdim=True), SHARPNESS, 60).exp()
        square: Tensor = made.unflatten(-1, maps.shape[2:])
        return square

    def next_step(self) -> None:
        """Make regions of what was seen."""
        self.step += 1
        if not self.seen:
            return
        new = self.made_of(torch.stack(self.seen).mean(0))
        self.seen.clear()
        self.regions = new if self.regions is None else KEPT * self.regions + (1 - KEPT) * new

    @property
    def acts(self) -> bool:
        """Whether this step is one of those in which the contexts are read."""
        return self.window[0] <= self.step / self.steps < self.window[1]


@dataclass
class Processor:
    """A cross-attention layer as it is, with the regions' contexts mixed into the second half of the batch."""

    hand: Regions
    regions: str

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> Tensor:
        """As diffusers' own processor, for layers without masks and residuals."""

        def heads(values: Tensor) -> Tensor:
            split: Tensor = values.unflatten(-1, (attn.heads, -1))
            return split.transpose(1, 2)

        def read(query: Tensor, context: Tensor) -> Tensor:
            key, value = heads(attn.to_k(context)), heads(attn.to_v(context))
            return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)

        query, half = heads(attn.to_q(hidden_states)), len(hidden_states) // 2
        out, side = read(query, encoder_hidden_states), round(hidden_states.shape[1] ** 0.5)
        asked = query[half:]
        regions = self.hand.regions
        if self.regions == "layer" or (side == MAP and self.regions == "own"):
            key = heads(attn.to_k(encoder_hidden_states[half:]))
            maps = self.hand.maps((asked @ key.mT * asked.shape[-1] ** -0.5).softmax(-1))
            if self.regions == "layer":
                regions = self.hand.made_of(maps)
            else:
                self.hand.seen.append(maps)
        if self.hand.acts and regions is not None:
            where = F.interpolate(regions, size=(side, side), mode="area").flatten(2)
            own = sum(read(asked, self.hand.contexts[:, t]) * where[:, t, :, None] for t in range(where.shape[1]))
            out = torch.cat([out[:half], (1 - self.hand.share) * out[half:] + self.hand.share * own])
        mixed: Tensor = attn.to_out[1](attn.to_out[0](out))
        return mixed


def phrases(text: str) -> tuple[str, str, str]:
    """The two phrases of a pair's prompt and what joins them."""
    first, joint, second = re.split(r" (and|with) ", text)
    return first, joint, second


def columns(text: str) -> list[list[int]]:
    """The columns of the phrases' words without their articles: every known word is one token."""
    first, _, second = (len(part.split()) for part in phrases(text))
    return [list(range(2, first + 1)), list(range(first + 3, first + second + 2))]


def contexts(pipe: Any, texts: Sequence[str], kind: str) -> Tensor:
    """What the things' own texts become, `(image, thing, token, channel)`."""

    def own(text: str) -> list[str]:
        first, joint, second = phrases(text)
        return [f"{one} {joint} {one}" if kind == "repeated" else one for one in (first, second)]

    tokens = pipe.tokenizer([one for text in texts for one in own(text)], padding="max_length", return_tensors="pt")
    with torch.inference_mode():
        encoded: Tensor = pipe.text_encoder(tokens.input_ids).last_hidden_state
    each: Tensor = encoded.unflatten(0, (len(texts), 2))
    return each


def draw(pipe: Any, jobs: Sequence[Job], arguments: argparse.Namespace) -> list[Any]:
    """The jobs' pictures, things' own contexts read in their regions; the pipeline is left as it was."""
    told = about(POCKET)
    assert told, "the bundled model says what it draws best with"
    layers = {name: module for name, module in pipe.unet.named_modules() if name.endswith(".attn2")}
    before = {name: module.processor for name, module in layers.items()}
    pictures: list[Any] = []
    try:
        for some in batched(jobs):
            texts = [prompt.text for prompt, _ in some]
            hand = Regions(
                contexts(pipe, texts, arguments.context),
                [columns(text) for text in texts],
                arguments.share,
                (arguments.begin, arguments.end),
                steps=told.steps,
            )
            if arguments.regions == "halves":
                left = (torch.arange(MAP) < MAP // 2).float().expand(len(texts), 1, MAP, MAP)
                hand.regions = torch.cat([left, 1 - left], 1)
            for module in layers.values():
                module.processor = Processor(hand, arguments.regions)

            def ended(_pipe: Any, _step: int, _time: Any, kept: Any, hand: Regions = hand) -> Any:
                hand.next_step()
                return kept

            pictures += together(pipe, some, callback_on_step_end=ended)
    finally:
        for name, module in layers.items():
            module.processor = before[name]
    return pictures


def main() -> None:
    """Draw the development half unmodified and with regions, judge, print a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regions", choices=["halves", "own", "layer"], default="halves")
    parser.add_argument("--context", choices=["alone", "repeated"], default="alone")
    parser.add_argument("--share", type=float, default=0.5, help="of what the regions' contexts say")
    parser.add_argument("--begin", type=float, default=0.0, help="share of the steps before it starts")
    parser.add_argument("--end", type=float, default=1.0, help="share of the steps after which it ends")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--right", type=int, default=24, help="pictures that show everything, drawn by lot")
    arguments = parser.parse_args()
    pipe, judge = load_pipeline(), PocketJudge()
    pipe.set_progress_bar_config(disable=True)
    plain = list(drawn(pipe, halves(prompt_set("unseen-pairs")).development, range(arguments.seeds)))
    whole = [bool(s["all things"]) for s in judge([one.picture for one in plain], [one.prompt for one in plain])]
    wrong = [one for one, right in zip(plain, whole, strict=True) if not right]
    right = [one for one, right in zip(plain, whole, strict=True) if right]
    lot = np.random.default_rng(0).permutation(len(right))[: arguments.right]
    some = wrong + [right[i] for i in lot]
    pictures = draw(pipe, [(one.prompt, one.seed) for one in some], arguments)
    after = [s["all things"] for s in judge(pictures, [one.prompt for one in some])]
    moved = np.mean([pixel_distance(a, one.picture) for a, one in zip(pictures, some, strict=True)])
    mended, spoilt = sum(after[: len(wrong)]), len(lot) - sum(after[len(wrong) :])
    print(
        f"regions {arguments.regions}, context {arguments.context}, share {arguments.share:g}, "
        f"{arguments.begin:g} to {arguments.end:g} of the steps: {np.mean(whole):.1%} of {len(plain)} unmodified; "
        f"mended {mended:.0f} of {len(wrong)}, spoilt {spoilt:.0f} of {len(lot)}, distance {moved:.3f}"
    )


if __name__ == "__main__":
    main()
