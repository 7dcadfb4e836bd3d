"""What a step of the denoiser can be asked about one image by an edit that looks with a gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attnreg.attention.calls.call import Call, contained, prediction_in
from attnreg.attention.lookahead.guidance import Guidance
from attnreg.attention.lookahead.hindrance import of_levels, of_pictures
from attnreg.attention.lookahead.map_recorder import MapRecorder
from attnreg.attention.lookahead.noise_schedule import mixture, parts_of
from attnreg.regulation.edit import Maps
from attnreg.regulation.sight import Sight
from attnreg.types import AttnregError, Embedding

Latents = Float[Tensor, "image *latent"]


def under(call: Call, texts: Mapping[int, Embedding]) -> Call:
    """A call with other embeddings in some rows."""
    hidden = call.hidden
    if isinstance(hidden, Tensor):
        made: Any = torch.stack([texts.get(row, own).to(hidden) for row, own in enumerate(hidden.clone())])
    else:
        made = [texts.get(row, own).to(own) for row, own in enumerate(hidden)]
    return call.given(**{call.family.text: made})


class StepSight(Sight):
    """`edit.Sight` of one image in one call of a pipeline."""

    def __init__(
        self,
        pipe: Any,
        look: MapRecorder,
        call: Call,
        row: int,
        scaled: Callable[[Latents], Latents],
        nothing: Embedding | None = None,
    ) -> None:
        self.pipe, self.look, self.call, self.row, self.scaled = pipe, look, call, row, scaled
        self.empty = nothing

    def __call__(self, latent: Float[Tensor, "*latent"]) -> Maps:
        """What the image's prompt attends to; see `sight.Sight`."""
        return self.look(self.call, self.row, self._sample(latent, [self.row]))

    @property
    def prompt(self) -> Embedding:
        """The row's embedding: a copy, for one that was made in inference mode is of no use to a backward pass."""
        own: Tensor = self.call.hidden[self.row]
        return own.clone()

    @property
    def nothing(self) -> Embedding:
        """The embedding of the prompt if it said nothing, where that was asked for."""
        assert self.empty is not None
        return self.empty.to(self.prompt)

    def under(self, text: Embedding, latent: Float[Tensor, "*latent"]) -> Maps:
        """What another embedding attends to; see `sight.Sight`."""
        return self.look(under(self.call, {self.row: text}), self.row, self._sample(latent, [self.row]))

    @property
    def channel_axis(self) -> int:
        """Of one image's latent."""
        return self.call.family.channel_axis - 1

    @property
    def level(self) -> tuple[float, float]:
        """`(A, S)` of the pipeline's own latents. Raises `AttnregError` for an unknown noise schedule."""
        if hindrance := of_levels(self.pipe):
            raise AttnregError(hindrance.error)
        signal, spread = mixture(self.pipe.scheduler, self._time)
        # The denoiser's latents are of variance 1 all the way; some schedulers keep others, and scale them for it.
        scale = float(self.scaled(torch.ones(1, dtype=torch.float32)))
        return signal / scale, spread / scale

    @torch.no_grad()
    def picture(self, latent: Float[Tensor, "*latent"]) -> Float[Tensor, "*latent"]:
        """What is predicted under guidance; see `sight.Sight`. Raises `AttnregError` where that is not known."""
        if hindrance := of_pictures(self.pipe, self.call):
            raise AttnregError(hindrance.error)
        call, family = self.call, self.call.family
        others = call.unconditional_rows()
        rows = [self.row] if others is None else [self.row, others[self.row % call.images]]
        without = call.of_negatives() if others is None else None
        with self.look.layers.acting({}):
            guided = predicted = self._predicted(call, rows, latent)
            plain = self._predicted(without, rows, latent) if without else predicted[1:]
        if len(plain):
            guided = Guidance(self.pipe, family)(predicted[:1], plain)
        clean, _ = parts_of(self.pipe.scheduler, guided, self.scaled(latent.unsqueeze(0)), self._time)
        return clean[0]

    @property
    def _time(self) -> Tensor:
        """The scheduler's time step of the call."""
        told = torch.as_tensor(self.call.arguments[self.call.family.time]).flatten()[0]
        return torch.as_tensor(self.call.family.untold_time(float(told)), dtype=torch.float64)

    def _sample(self, latent: Float[Tensor, "*latent"], rows: Sequence[int]) -> Tensor:
        """What the denoiser is given in some rows for this latent."""
        scaled = self.scaled(latent.unsqueeze(0)).to(self.call.sample)
        return self.call.beside(torch.cat([scaled] * len(rows)), rows)

    def _predicted(self, call: Call, rows: Sequence[int], latent: Float[Tensor, "*latent"]) -> Latents:
        """The part of a prediction that the scheduler is given."""
        arguments = call.of_rows(rows, **{call.family.sample: self._sample(latent, rows)})
        output = call.denoise(**contained(arguments))
        return call.family.own(prediction_in(output), latent.unsqueeze(0))
