"""What attention could do at best: each thing's own phrase, encoded alone, read by the part of the picture that is its.

`python -m benchmarks.regions`: an instrument, no method; `phrase-regions` with regions or phrases that it would not
choose. `--regions halves` forces the first thing to the left; `own` are the method's, the model's own. `--phrases
alone` reads "a bear"; `repeated` "a bear and a bear", which keeps the layout of pairs. Printed: how many of the
development half's pictures that lack a thing are mended, how many of the others are spoilt.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from attnreg.evaluation.prompts import halves, prompt_set
from attnreg.measure.pocket import PocketJudge
from attnreg.methods.phrase_regions import PhraseRegions
from attnreg.models.load import load_pipeline
from attnreg.regulation.edit import PromptWords
from attnreg.regulation.kinds import Moment
from benchmarks.drawing import drawn, jobs_drawn, pixel_distance


@dataclass(frozen=True, kw_only=True)
class Repeated(PhraseRegions):
    """`phrase-regions` that reads each phrase twice."""

    def texts(self, words: PromptWords) -> tuple[str, ...]:
        """ "a bear and a bear" for each target."""
        return tuple(f"{one} and {one}" for one in super().texts(words))


def halved(edit: type[PhraseRegions]) -> type[PhraseRegions]:
    """The edit with the first target's region on the left, the second's on the right, whatever the model sees there."""

    class Halved(edit):  # type: ignore[misc, valid-type]
        def shares(
            self, attended: Float[Tensor, "image target pixel"], moment: Moment, memory: dict[str, Any]
        ) -> Float[Tensor, "image target pixel"]:
            left = torch.arange(moment.grid.width, device=attended.device) < moment.grid.width // 2
            both = torch.stack([left, ~left]).to(attended.dtype).repeat(1, moment.grid.height)
            shares: Tensor = (self.strength * self.share * both).expand_as(attended)
            return shares

    return Halved


def main() -> None:
    """Draw the development half unmodified and with regions, judge, print a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regions", choices=["halves", "own"], default="halves")
    parser.add_argument("--phrases", choices=["alone", "repeated"], default="alone")
    parser.add_argument("--share", type=float, default=0.5, help="of what the regions' phrases say")
    parser.add_argument("--begin", type=float, default=0.0, help="share of the steps before it starts")
    parser.add_argument("--end", type=float, default=1.0, help="share of the steps after which it ends")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--right", type=int, default=24, help="pictures that show everything, drawn by lot")
    arguments = parser.parse_args()
    kind = Repeated if arguments.phrases == "repeated" else PhraseRegions
    edit = (halved(kind) if arguments.regions == "halves" else kind)(
        share=arguments.share, window=(arguments.begin, arguments.end)
    )
    pipe, judge = load_pipeline(), PocketJudge()
    pipe.set_progress_bar_config(disable=True)
    plain = list(drawn(pipe, halves(prompt_set("unseen-pairs")).development, range(arguments.seeds)))
    whole = [bool(s["all things"]) for s in judge([one.picture for one in plain], [one.prompt for one in plain])]
    wrong = [one for one, right in zip(plain, whole, strict=True) if not right]
    right = [one for one, right in zip(plain, whole, strict=True) if right]
    lot = np.random.default_rng(0).permutation(len(right))[: arguments.right]
    some = wrong + [right[i] for i in lot]
    pictures = [one.picture for one in jobs_drawn(pipe, [(one.prompt, one.seed) for one in some], edit)]
    after = [s["all things"] for s in judge(pictures, [one.prompt for one in some])]
    moved = np.mean([pixel_distance(a, one.picture) for a, one in zip(pictures, some, strict=True)])
    mended, spoilt = sum(after[: len(wrong)]), len(lot) - sum(after[len(wrong) :])
    print(
        f"regions {arguments.regions}, phrases {arguments.phrases}, share {arguments.share:g}, "
        f"{arguments.begin:g} to {arguments.end:g} of the steps: {np.mean(whole):.1%} of {len(plain)} unmodified; "
        f"mended {mended:.0f} of {len(wrong)}, spoilt {spoilt:.0f} of {len(lot)}, distance {moved:.3f}"
    )


if __name__ == "__main__":
    main()
