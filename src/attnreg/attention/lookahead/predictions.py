"""How an edit of the prediction reaches a pipeline: the phrases are denoised beside the prompt, and made into one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from attnreg.attention.calls.call import (
    Call,
    denoised_alone_error,
    denoised_under,
    perturbed,
    prediction_in,
    with_prediction,
)
from attnreg.attention.calls.prepared import Prepared
from attnreg.attention.layers.skipping import skips_error
from attnreg.attention.lookahead.guidance import Guidance
from attnreg.attention.lookahead.trajectory import Asked, CachedPredictions
from attnreg.regulation.kinds import EncodedText, PredictionEdit
from attnreg.types import AttnregError

INSTEAD = "a method that edits attention"


class CombinedPredictions:
    """Of one picture: in each step, the predictions under the phrases in the place of that under the prompt."""

    def __init__(self, edit: PredictionEdit | None, pipe: Any, denoiser: nn.Module) -> None:
        self.edit, self.pipe, self.denoiser = edit, pipe, denoiser
        self.without: CachedPredictions | None = None
        """What was predicted without the prompt, for the pipeline, which asks for it next in a call of its own."""

    def __call__(self, call: Call, output: Any, prepared: Prepared, spared: set[int]) -> Any:
        """The denoiser's output with the prompts' rows made of their phrases'.

        Args:
            call: under the prompts.
            output: what it returned.
            prepared: what was made of every image's prompt.
            spared: images that stay as they are.

        Raises:
            AttnregError: for a pipeline under which a phrase cannot be denoised alone.
        """
        self._check(call)
        self.without = None
        phrases = [[] if image in spared else texts for image, texts in enumerate(prepared.phrases)]
        rows = {image: row for image, row in call.first_rows.items() if phrases[image]}
        if not rows:
            return output
        prediction = call.family.stacked(prediction_in(output))
        assert prepared.nothing is not None
        base = self._without_prompt(call, rows, prediction, prepared.nothing)
        alone: dict[int, list[Tensor]] = {image: [] for image in rows}
        for number in range(max(len(phrases[image]) for image in rows)):
            texts = {image: phrases[image][number] for image in rows if len(phrases[image]) > number}
            for image, one in _denoised(call, rows, texts).items():
                alone[image].append(one)
        assert self.edit is not None
        made = torch.stack(
            [self.edit.combine(prediction[row], base[image], torch.stack(alone[image])) for image, row in rows.items()]
        )
        at = torch.tensor(list(rows.values()), device=prediction.device)
        return with_prediction(output, call.family.listed(prediction.index_copy(0, at, made.to(prediction.dtype))))

    def recall(self, arguments: Mapping[str, Any]) -> Any | None:
        """What the denoiser returns without the prompt, if it was just asked the same, to the bit."""
        known = self.without.recall(arguments) if self.without else None
        return None if known is None else known.output

    def _check(self, call: Call) -> None:
        """Raises `AttnregError` where the prediction that is guided from is another than the one without the prompt."""
        if perturbed(self.pipe):
            raise AttnregError(denoised_alone_error(self.pipe, INSTEAD))
        if error := skips_error(self.denoiser, INSTEAD):
            raise error
        if not call.rows_without_prompt and call.negative is None:
            return
        if own_way := call.family.guides_otherwise(Guidance(self.pipe, call.family).told):
            raise AttnregError(
                f"expected guidance by the prediction without the prompt, alike in all steps, got "
                f"{type(self.pipe).__name__}, which {own_way}; leave that out, or choose {INSTEAD}"
            )

    def _without_prompt(
        self, call: Call, rows: Mapping[int, int], prediction: Tensor, nothing: EncodedText
    ) -> Mapping[int, Tensor]:
        """Of each image, what is predicted without its prompt: under the empty text where guidance is off."""
        if (others := call.unconditional_rows()) is not None:
            return {image: prediction[others[row % call.images]] for image, row in rows.items()}
        if (negative := call.of_negatives()) is None:
            return _denoised(call, rows, dict.fromkeys(rows, nothing))
        output = negative.run()
        self.without = CachedPredictions(self.denoiser, [Asked(negative.arguments, output, [])])
        without = call.family.stacked(prediction_in(output))
        return {image: without[row] for image, row in rows.items()}


def _denoised(call: Call, rows: Mapping[int, int], texts: Mapping[int, EncodedText]) -> dict[int, Tensor]:
    """What is predicted for some images, each under a text of its own: in one pass where these are equally long."""
    found: dict[int, Tensor] = {}
    for length in {len(text.embedding) for text in texts.values()}:
        images = [image for image, text in texts.items() if len(text.embedding) == length]
        some = [texts[image] for image in images]
        found |= dict(zip(images, denoised_under(call, _rows(rows, images), some), strict=True))
    return found


def _rows(rows: Mapping[int, int], images: Sequence[int]) -> list[int]:
    return [rows[image] for image in images]
