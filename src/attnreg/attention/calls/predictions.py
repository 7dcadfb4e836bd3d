"""How an edit of the prediction reaches a pipeline: the phrases are denoised beside the prompt, and made into one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from attnreg.attention.calls.call import (
    Call,
    denoised_alone_error,
    denoised_under,
    perturbed,
    prediction_in,
    with_prediction,
)
from attnreg.attention.families import family_of
from attnreg.attention.layers.skipping import skips_error
from attnreg.regulation.kinds import EncodedText, PredictionEdit
from attnreg.types import AttnregError


def combined(
    edit: PredictionEdit,
    pipe: Any,
    call: Call,
    output: Any,
    phrases: Sequence[Sequence[EncodedText]],
    nothing: EncodedText,
) -> Any:
    """The denoiser's output with the prompts' rows made of their phrases'.

    `phrases`: of each image, none if it stays as it is. `nothing`: the empty text, denoised where guidance is off.
    Raises `AttnregError` for a pipeline under which a phrase cannot be denoised alone.
    """
    if perturbed(pipe):
        raise AttnregError(denoised_alone_error(pipe, "a method that edits attention"))
    if error := skips_error(family_of(pipe)[1], "a method that edits attention"):
        raise error
    rows = {image: row for image, row in call.first_rows.items() if phrases[image]}
    if not rows:
        return output
    prediction = prediction_in(output)
    others = call.unconditional_rows()
    if others is None:
        base = dict(zip(rows, denoised_under(call, list(rows.values()), [nothing] * len(rows)), strict=True))
    else:
        base = {image: prediction[others[row % call.images]] for image, row in rows.items()}
    alone: dict[int, list[Tensor]] = {image: [] for image in rows}
    for number in range(max(len(phrases[image]) for image in rows)):
        having = [image for image in rows if len(phrases[image]) > number]
        found = denoised_under(call, [rows[image] for image in having], [phrases[image][number] for image in having])
        for image, one in zip(having, found, strict=True):
            alone[image].append(one)
    made = torch.stack(
        [edit.combine(prediction[row], base[image], torch.stack(alone[image])) for image, row in rows.items()]
    )
    at = torch.tensor(list(rows.values()), device=prediction.device)
    return with_prediction(output, prediction.index_copy(0, at, made.to(prediction.dtype)))
