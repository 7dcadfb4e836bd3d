"""How a choice among starts reaches a pipeline: each is followed beside it, and looked at on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attnreg.attention.attending import Words
from attnreg.attention.calls.call import Call, denoised_under
from attnreg.attention.calls.prepared import Prepared
from attnreg.attention.lookahead.controls import CONTROL
from attnreg.attention.lookahead.hindrance import Hindrance
from attnreg.attention.lookahead.map_recorder import MapRecorder
from attnreg.attention.lookahead.noise_schedule import mixture, parts_of, time_of
from attnreg.attention.lookahead.trajectory import (
    Asked,
    CachedPredictions,
    Followed,
    Latents,
    LookAhead,
    Trajectory,
)
from attnreg.attention.watching import Watch
from attnreg.regulation.auto import Auto
from attnreg.regulation.edit import PromptWords
from attnreg.regulation.kinds import Chosen, EncodedText, Guess, StartEdit
from attnreg.trace import Trace
from attnreg.types import AttnregError, StartRecord

AT_ONCE = 8
"""With so many texts a picture is read in one pass of the denoiser."""

Latent = Float[Tensor, "*latent"]


class InitialNoises:
    """Chooses the starts of a pipeline's pictures among those that an edit tries.

    The given starts of all images are followed together, in every step and by the scheduler's own rule, as the pipeline
    would go on with them; if all are kept it does, and what was predicted then is not computed again. Others are
    followed in the steps that the edit names, large ones where the pipeline takes many.

    The picture that a start leads to is then read: noise is laid over it, and the denoiser restores it, once under the
    prompt and once under each other text. Where another text restores it as well, the prompt's words are not all in it:
    so diffusion models tell classes apart (Li et al., 2023, arXiv:2303.16203).
    """

    def __init__(
        self,
        pipe: Any,
        edit: StartEdit,
        look: MapRecorder,
        trace: Trace,
        auto: Auto | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.pipe, self.edit, self.look, self.trace, self.auto, self.watch = pipe, edit, look, trace, auto, watch
        self.forget()

    def forget(self) -> None:
        """Back to before any step of a picture."""
        self.foreseen: CachedPredictions | None = None

    def recall(self, arguments: Mapping[str, Any], step: int) -> Any | None:
        """What the denoiser returns for these arguments, where that is known to the bit; see `CachedPredictions`.

        What its layers attended to then is told to the trace as that of this step.
        """
        known = self.foreseen.recall(arguments) if self.foreseen else None
        if known is None:
            return None
        for layer, images, grid, maps in known.looked:
            self.trace.note_maps(step, layer, images, grid, maps)
        return known.output

    def followed(self, prepared: Prepared, hindrance: Hindrance | None) -> Words:
        """The words of every image whose start is to be followed; `None` for those on which another edit acts instead.

        Raises `AttnregError` if something is in the way of all, and no other edit acts instead.
        """
        if self.auto is None:
            if hindrance:
                raise AttnregError(hindrance.error)
            return prepared.words
        kept: list[PromptWords | None] = []
        for image, (one, unread) in enumerate(zip(prepared.words, prepared.unread, strict=True)):
            why = hindrance.why if hindrance else unread
            if one is not None:
                self.trace.decisions.append(self.auto.decision(image, why))
            kept.append(None if why else one)
        return kept

    @torch.no_grad()
    def chosen(
        self,
        call: Call,
        words: Words,
        prepared: Prepared,
        latents: Latents,
        scaled: Callable[[Latents], Latents],
    ) -> tuple[Latents, set[int]]:
        """The latents to begin with, the given ones where none is better, and the images that other edits leave alone.

        words: of every image whose start is followed.
        prepared: what was made of every image's prompt.
        """
        ahead, readings = LookAhead(self.pipe, self.look, call, scaled, self.watch, prepared.words), prepared.readings
        # What a ControlNet adds is the pipeline's to compute, in each step anew: there is nothing to be handed back.
        closely = CONTROL not in call.arguments
        rows = dict(sorted((row % call.images, row) for row in call.first_rows.values()))
        given = ahead.follow(list(rows.values()), latents, self.edit.stops(len(ahead.times)), closely).to()
        after, spared, known = latents.clone(), set[int](), given.asked
        for image, row in sorted(call.first_rows.items()):
            place, one = row % call.images, words[image]
            if one is None:
                continue
            own = self._guess(call, row, readings[image], given, place)
            chosen, asked = self._best(ahead, row, readings[image], one, latents[place], own)
            after[place] = chosen.latent
            self.trace.starts.append(
                StartRecord(
                    image,
                    chosen.scores,
                    chosen.number,
                    spared=chosen.spared,
                    doubted=chosen.doubted,
                    given_up=chosen.given_up,
                    given_up_after=chosen.given_up_after,
                )
            )
            if chosen.spared or self.auto:
                spared.add(image)
            if chosen.number:
                known = asked
        self.foreseen = CachedPredictions(self.look.denoiser, known) if closely else None
        return after, spared

    def _best(
        self, ahead: LookAhead, row: int, texts: Sequence[EncodedText], words: PromptWords, latent: Latent, own: Guess
    ) -> tuple[Chosen, list[Asked]]:
        """What is chosen for one image, and what was asked when that was followed, unless it is the given start."""
        every = self.edit.stops(len(ahead.times))
        tried: list[tuple[Latent, Followed]] = []

        def followed(start: Latent) -> Followed | None:
            return next((followed for one, followed in tried if one is start), None)

        def follow(start: Latent, stops: int | None = None) -> Guess:
            if start is latent:
                return own
            on_its_way = followed(start)
            if on_its_way is None:
                on_its_way = ahead.follow([row], start.unsqueeze(0), every)
                tried.append((start, on_its_way))
            return self._guess(ahead.call, row, texts, on_its_way.to(stops), 0)

        chosen = self.edit.choose(latent, follow, words)
        # A picture of fewer steps has fewer stops than the edit counts on.
        chosen = chosen._replace(given_up_after=min(chosen.given_up_after, len(every)))
        taken = followed(chosen.latent)
        return chosen, taken.to_here.asked if taken else []

    def _guess(self, call: Call, row: int, texts: Sequence[EncodedText], followed: Trajectory, place: int) -> Guess:
        """What a start leads to, seen; and read once it is asked for. place: among those followed together."""
        clean = followed.clean[place : place + 1]
        return Guess(followed.maps[place], lambda: self._errors(call, row, clean, texts))

    def _errors(self, call: Call, row: int, clean: Latents, texts: Sequence[EncodedText]) -> tuple[float, ...]:
        """How far from the picture it is restored under each text, from the same noise: sums of squares."""
        scheduler = self.pipe.scheduler
        time = time_of(scheduler, self.edit.noise)
        signal, spread = mixture(scheduler, time)
        noise = torch.randn(clean.shape, generator=torch.Generator("cpu").manual_seed(0)).to(clean)
        noisy = signal * clean + spread * noise
        sample = call.beside(noisy.to(call.sample), [row])
        given = call.at(time)
        errors: list[float] = []
        for some in _at_once(texts):
            count = len(some)
            predicted = denoised_under(given, [row] * count, some, torch.cat([sample] * count))
            restored, _ = parts_of(scheduler, call.family.own(predicted, clean), torch.cat([noisy] * count), time)
            errors += (restored - clean).square().flatten(1).sum(1).tolist()
        return tuple(errors)


def _at_once(texts: Sequence[EncodedText]) -> Iterator[Sequence[EncodedText]]:
    """Texts that can be read in one pass, in their order: not too many, and equally long."""
    for _, alike in groupby(texts, lambda text: len(text.embedding)):
        some = list(alike)
        yield from (some[first : first + AT_ONCE] for first in range(0, len(some), AT_ONCE))
