"""What a ControlNet adds to a denoiser, asked again for other latents than the pipeline's."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attnreg.attention.calls.call import Call, mapped

CONTROL = "attnreg_control"
"""Name under which a call carries what its ControlNet was given: it is reduced to rows as all else is."""
ADDED = ("down_block_additional_residuals", "mid_block_additional_residual")
"""Arguments of the denoiser that a ControlNet makes."""


class _Noted(NamedTuple):
    """A call of the ControlNet."""

    forward: Callable[..., Any]
    arguments: dict[str, Any]


class Controls:
    """A pipeline asks its ControlNet before the denoiser, about the same latents: here it is seen, and asked again.

    Where the denoiser is given other latents, what was made of the pipeline's would pull them towards these.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Back to before any step of a picture."""
        self.noted: _Noted | None = None

    def around(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Note what the ControlNet is given."""
        signature = inspect.signature(original)

        @wraps(original)
        def forward(*args: Any, **kwargs: Any) -> Any:
            self.noted = _Noted(original, signature.bind(*args, **kwargs).arguments)
            return original(*args, **kwargs)

        return forward

    def attached(self, call: Call) -> Call:
        """The same call of a denoiser for which the ControlNet is asked anew, in every pass."""
        if self.noted is None or ADDED[0] not in call.arguments:
            return call
        forward, given = self.noted
        alone, batch = len(given["sample"]), len(call.sample)
        rows = torch.arange(batch, device=call.sample.device)
        # In guess mode it sees the rows with a prompt alone, which come last; to the others nothing is added.
        control = mapped(given, lambda one: _twice(one, alone)) if alone < batch else given

        def denoise(**arguments: Any) -> Any:
            control = dict(arguments.pop(CONTROL))
            mine, width = control.pop("rows") >= batch - alone, given["sample"].shape[1]
            own = {"sample": arguments["sample"][:, :width], "timestep": arguments["timestep"], "return_dict": False}
            down, middle = forward(**control | own)
            down, middle = [_only(mine, one) for one in down], _only(mine, middle)
            return call.denoise(**arguments, **dict(zip(ADDED, (down, middle), strict=True)))

        plain = {name: value for name, value in call.arguments.items() if name not in ADDED}
        return replace(call, denoise=denoise, arguments=plain | {CONTROL: control | {"rows": rows}})


def _only(mine: Tensor, added: Tensor) -> Tensor:
    """Nothing where a row is not one that the ControlNet sees."""
    return added if bool(mine.all()) else added * mine.to(added).view(-1, *[1] * (added.ndim - 1))


def _twice(tensor: Tensor, rows: int) -> Tensor:
    """What has so many rows, once for the rows without a prompt and once for those with it."""
    return torch.cat([tensor] * 2) if tensor.ndim and len(tensor) == rows else tensor
