"""Values that layers hand on of something else than they attend to: structured diffusion's, a text for each phrase."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnreg.attention.calls.call import Call
from attnreg.attention.layers.catch import values_of
from attnreg.regulation.kinds import Embedded


class Values(NamedTuple):
    """Values to be handed on that are made of something else than the keys."""

    rows: Tensor
    embeddings: Tensor

    @staticmethod
    def of(call: Call, embedded: dict[int, Embedded]) -> Values | None:
        """Of the rows whose prompt became two things; `None` if there is none."""
        chosen = [
            (row, embedded[image].values)
            for row, image in call.pairs
            if image in embedded and embedded[image].values is not embedded[image].keys
        ]
        if not chosen:
            return None
        rows = torch.tensor([row for row, _ in chosen], device=call.hidden.device)
        return Values(rows, torch.stack([values for _, values in chosen]).to(call.hidden))

    def put(self, module: Any, value: Tensor) -> Tensor:
        """The module's values, with those of the rows made of the other embeddings, by the module's own projection."""
        return value.index_copy(0, self.rows, values_of(module, self.embeddings, value))


def with_values(
    module: nn.Module, valued: Values, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any
) -> Tensor:
    """An attention call as it is, but for the values of some rows."""
    return F.scaled_dot_product_attention(query, key, valued.put(module, value), *args, **kwargs)
