"""What an edit of the embeddings puts in the place of the prompts', in each call of the denoiser."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attnreg.attention.calls.call import Call
from attnreg.attention.calls.encodings import same
from attnreg.attention.families.family import Embeddings
from attnreg.regulation.kinds import Embedded
from attnreg.types import AttnregError


class Rewriting:
    """Of one picture: pipelines hand the same embeddings to every step, and the rewritten ones are made once."""

    def __init__(self) -> None:
        self.made: tuple[Embeddings | None, int, Embeddings | None] = (None, 0, None)
        """Of which tensor, how often that had been written to, and what it became."""

    def __call__(self, call: Call, embedded: dict[int, Embedded], prompts: Any) -> Call:
        """The call with what an edit made of some images' prompts in their rows.

        Args:
            call: a call of the denoiser.
            embedded: what it made, by the image.
            prompts: what `encode_prompt` had returned, one embedding `(token, channel)` an image.

        Raises:
            AttnregError: if the rows hold something else by now.
        """
        changed = [
            (row, embedded[image].keys)
            for row, image in call.pairs
            if image in embedded and not same(embedded[image].keys, call.hidden[row])
        ]
        if not changed:
            return call
        hidden = call.hidden
        times = _times_written(hidden) if isinstance(hidden, Tensor) else 0
        if not isinstance(hidden, Tensor) or self.made[0] is not hidden or self.made[1] != times:
            if any(not same(prompts[image], hidden[row]) for row, image in call.pairs if image in embedded):
                raise AttnregError(
                    "expected the embeddings that encode_prompt returned, got others in the midst of a picture; a "
                    "callback writes to them: leave it out, or choose a method that changes no embedding"
                )
            self.made = hidden, times, _with_rows(hidden, dict(changed))
        return call.given(**{call.family.text: self.made[2]})


def _with_rows(hidden: Embeddings, rows: dict[int, Tensor]) -> Embeddings:
    """The same embeddings, with others in some rows."""
    if not isinstance(hidden, Tensor):
        return [rows[row].to(one) if row in rows else one for row, one in enumerate(hidden)]
    at = torch.tensor(list(rows), device=hidden.device)
    return hidden.index_copy(0, at, torch.stack(list(rows.values())).to(hidden))


def _times_written(tensor: Tensor) -> int:
    """How often a tensor was written to; of one that was made in inference mode that is not known."""
    return 0 if tensor.is_inference() else tensor._version
