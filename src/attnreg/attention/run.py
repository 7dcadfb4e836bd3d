"""One call of a regulated pipeline: which images, which step, which edits act; what the stand-ins share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

from torch import nn

from attnreg.attention.attending import Attending, Time, Words
from attnreg.attention.calls.beside import TextsBeside
from attnreg.attention.calls.call import Call, positional
from attnreg.attention.calls.edits import IN_LAYERS, Edits
from attnreg.attention.calls.encodings import Encoding, Encodings, check_caller, nothing_encoded
from attnreg.attention.calls.prepared import Prepared
from attnreg.attention.calls.rewriting import Rewriting
from attnreg.attention.calls.rows import Pairs, rows_if_there, rows_of_images
from attnreg.attention.families.family import Family
from attnreg.attention.layers.acting import Layers
from attnreg.attention.layers.catch import own_signature
from attnreg.attention.layers.stand_in import check_compiled, eagerly
from attnreg.attention.lookahead.latents import MovedLatents
from attnreg.attention.lookahead.predictions import CombinedPredictions
from attnreg.attention.probing.probing import Probing
from attnreg.regulation.kinds import Embedded
from attnreg.trace import Trace
from attnreg.types import AttnregError


class RegulatedRun:
    """Follows the calls of one pipeline: `encode_prompt` begins a picture, each call of the denoiser is a step."""

    def __init__(
        self,
        pipe: Any,
        family: Family,
        denoiser: nn.Module,
        edits: Edits,
        targets: Any,
        adjectives: bool,
        trace: Trace,
        layers: Layers,
        attending: Attending,
        latents: MovedLatents | None,
        beside: TextsBeside | None = None,
    ) -> None:
        self.pipe, self.family, self.denoiser = pipe, family, denoiser
        self.edits, self.trace = edits, trace
        self.layers, self.attending, self.latents = layers, attending, latents
        self.live = False
        """Whether the stand-ins act. One that someone has wrapped cannot be taken away; it then only passes on."""
        self.probing: Probing | None = None
        """Where no entry tells what the pipeline is like."""
        self.inside = False
        """Whether the denoiser's stand-in runs. Beneath one that someone has wrapped lies the first: it passes on."""
        self.encodings = Encodings(pipe, family, edits, targets, adjectives, beside)
        self.forget()

    def forget(self) -> None:
        """Back to before any step of a picture. What the last prompt became is kept, for a call that hands it back."""
        self.step = -1
        self.regulated_steps = 0
        self.waiting: list[Encoding] = []
        """What was encoded since the last picture began."""
        self.told: Encoding | None = None
        """Whose account the trace has begun."""
        self.current: Encoding | None = None
        """What the picture is drawn from; known from the first call of the denoiser on."""
        self.seen: list[tuple[Any, Pairs]] = []
        self.rewriting = Rewriting()
        self.predictions = CombinedPredictions(self.edits.prediction, self.pipe, self.denoiser)
        self.layers.acts = {}
        self.layers.forget()
        self.attending.forget()
        if self.latents:
            self.latents.forget()

    def around_encode_prompt(self, original: Callable[..., Any], refresh: Callable[[], None]) -> Callable[..., Any]:
        """Note the prompts and the embeddings they became; `refresh` sees that the other stand-ins are in place."""
        signature = own_signature(self.pipe, "encode_prompt")

        @wraps(original)
        def encode_prompt(*args: Any, **kwargs: Any) -> Any:
            if not self.live or self.encodings.busy:
                return original(*args, **kwargs)
            check_caller(self.pipe, self.family, sys._getframe(1))
            waiting = self.waiting if self.step < 0 else []
            self.forget()
            self.waiting = waiting
            refresh()
            given = signature.bind(*args, **kwargs).arguments
            may_be_negative = self.family.negative is None and bool(self.waiting)
            result, encoding = self.encodings.encoded(
                original, given, lambda: original(*args, **kwargs), may_be_negative
            )
            if encoding is None:  # the next call makes the rest of it
                return result
            self.waiting.append(encoding)
            if len(self.waiting) == 1 or self.family.negative is not None:
                self._tell(encoding)
            return result

        return encode_prompt

    def _tell(self, encoding: Encoding) -> None:
        """Begin the account of a picture."""
        self.told = encoding
        words = encoding.prepared.words[:: encoding.each]
        self.trace.begin([one.targets if one else () for one in words], images_per_prompt=encoding.each)

    def around_denoiser(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Count the step, and let act in it what is to act."""
        signature = own_signature(self.denoiser, "forward")
        names = list(signature.parameters)

        def begin(*args: Any, **kwargs: Any) -> Call | None:
            given, denoise = signature.bind(*args, **kwargs).arguments, positional(original, names[: len(args)])
            if self.probing and not self._recognised(self.probing, given):
                return None
            if self.family.is_aside(given):
                return self._further(denoise, given)
            hidden = self.family.embeddings(given)
            # The first call tells what is drawn. One for the negative prompt alone is no step of its own.
            if (self.current is None or self.family.has_negative_calls) and not self._pairs(hidden):
                return self._further(denoise, given)
            scalings = self.latents.begin_call() if self.latents else []
            acting, time = self._next_step()
            if not acting and self.attending.watch is None:
                return None
            try:
                pairs = self._pairs(hidden)
            except AttnregError:
                if acting:
                    raise
                return None  # a callback may write to the embeddings once no edit needs them: nothing is seen then
            negative = self.current and self.current.negatives(self.family, self.waiting)
            call = Call(denoise, self.family, given, pairs, len(self.prepared.words), negative)
            if self.probing:
                self.probing.look(call, self.prepared.words)
            if "attention" in acting:
                time = time._replace(noise=call.noise(self.pipe.scheduler))

            def rewritten(call: Call) -> Call:
                assert self.current is not None
                return self.rewriting(call, self._embedded(acting), self.current.texts.prompts)

            if self.latents:
                call = self.latents.exchange(call, self.prepared, scalings, time, acting, rewritten)
            else:
                call = rewritten(call)
            words, embedded = self.prepared.words, self._embedded(acting)
            self.layers.acts = self.attending.acts(call, words, self._heeded(), embedded, acting, time)
            return call

        def end(call: Call | None, output: Any) -> Any:
            self.layers.end_call(self.step, last=IN_LAYERS.isdisjoint(self._acting(self.step + 1)))
            self.layers.acts = {}
            if call is None or call.further:
                return output
            if "prediction" in self._acting(self.step):
                return self.predictions(call, output, self.prepared, self._spared)
            return output

        def recall(call: Call | None, *args: Any, **kwargs: Any) -> Any:
            """What the denoiser is known to return, if no layer is to change anything; else `None`."""
            given = call.arguments if call else signature.bind(*args, **kwargs).arguments
            if (not call or call.further) and (known := self.predictions.recall(given)) is not None:
                return known
            if not self.latents or not self.latents.starts or (call and not call.further and self.attending.edits_now):
                return None
            output = self.latents.starts.recall(given, self.step)
            if output is not None:
                self.layers.acts = {}  # no layer runs: what it attended to was seen when the output was computed
            return output

        # Bookkeeping is nothing that a compiler can trace; the denoiser's own forward may be compiled.
        begin_eagerly, recall_eagerly, end_eagerly = map(eagerly, (begin, recall, end))

        @wraps(original)
        def forward(*args: Any, **kwargs: Any) -> Any:
            if not self.live or self.inside:
                return original(*args, **kwargs)
            try:
                self.inside = True
                call = begin_eagerly(*args, **kwargs)
                output = recall_eagerly(call, *args, **kwargs)
                if output is None:
                    self.layers.begin_call()
                    output = end_eagerly(call, call.run() if call else original(*args, **kwargs))
                return output
            except BaseException as error:
                self.forget()
                check_compiled(error)
                raise
            finally:
                self.inside = False
                self.layers.acts = {}

        return eagerly(forward, within=False)

    def _further(self, denoise: Callable[..., Any], given: dict[str, Any]) -> Call | None:
        """A call of the same step that is no step of its own: it is given the latents that the first one was given."""
        if not self.latents:
            return None
        moves = self.current is not None and "latent" in self._acting(self.step + 1)
        return self.latents.beside(Call(denoise, self.family, given, (), 0, further=True), moves)

    def _recognised(self, probing: Probing, given: dict[str, Any]) -> bool:
        """Whether a call of the denoiser is for a prompt; the family then knows the names of its arguments."""
        if family := probing.recognised(given, [one.texts for one in self.waiting]):
            self.family = self.encodings.family = self.attending.family = family
        return family is not None

    @property
    def prepared(self) -> Prepared:
        """Of every image that is drawn."""
        assert self.current is not None
        return self.current.prepared

    @property
    def _spared(self) -> set[int]:
        """Images that are left to the model, because their start needs no help."""
        return self.latents.spared if self.latents else set()

    def _heeded(self) -> Words:
        """The words of every image that is not spared."""
        return [None if image in self._spared else one for image, one in enumerate(self.prepared.words)]

    def _embedded(self, acting: list[str]) -> dict[int, Embedded]:
        """What prompts became, of the images in which that is to act."""
        embedded = enumerate(self.prepared.embedded) if "embedding" in acting else ()
        return {image: made for image, made in embedded if made is not None and image not in self._spared}

    def _acting(self, step: int) -> list[str]:
        """The edits that act in a step, by the part of the model that they change; none if nothing is to be heeded."""
        total = self._total()
        if step >= total or all(one is None for one in self._heeded()):
            return []
        edits = self.edits.acting.items()
        return [name for name, one in edits if one.strength and one.window[0] <= step / total < one.window[1]]

    def _total(self) -> int:
        return int(getattr(self.pipe, "num_timesteps", None) or len(self.pipe.scheduler.timesteps))

    def _next_step(self) -> tuple[list[str], Time]:
        """Count a call of the denoiser; which edits act in it."""
        self.step += 1
        total = self._total()
        if self.step >= total:
            raise AttnregError(
                f"expected {total} calls of the denoiser, one a step, got one more; it is used by another pipeline or "
                "several times a step: remove the regulation there first, or draw through the regulated pipeline"
            )
        self.edits.check_windows(total)
        acting = self._acting(self.step)
        self.regulated_steps += bool(acting)
        self.trace.steps, self.trace.regulated_steps = self.step + 1, self.regulated_steps
        return acting, Time(self.step, total, 0.0)

    def _pairs(self, hidden: Any) -> Pairs:
        """`(row, image)` for the rows of the batch that hold prompts; none if all are negative prompts'."""
        if not self.waiting:
            raise nothing_encoded()
        for seen, pairs in self.seen:  # pipelines hand the same tensors to every step
            if hidden is seen:
                return pairs
        pairs = self._found(hidden)
        self.seen = [*self.seen[-3:], (hidden, pairs)]
        return pairs

    def _found(self, hidden: Any) -> Pairs:
        if self.current is not None:
            try:
                return tuple(rows_of_images(hidden, *self.current.texts))
            except AttnregError:
                if self.current.is_for_negatives(hidden, self.family, self.waiting):
                    return ()
                raise
        # The first call is for its prompts: what was encoded last of all that fits, if not on its own as negative ones.
        for encoding in self.waiting[:: 1 if self.family.negative is None else -1]:
            if (pairs := rows_if_there(hidden, *encoding.texts)) is not None:
                if encoding.error:
                    raise encoding.error
                self.current = encoding
                encoding.warn_unheeded()
                if encoding is not self.told:
                    self._tell(encoding)
                if self.edits.auto and not self.edits.start:
                    why = f"what a start of {self.family.name} leads to cannot be foreseen yet"
                    for image in (number for number, one in enumerate(self.prepared.words) if one is not None):
                        self.trace.decisions.append(self.edits.auto.decision(image, why))
                return pairs
        return tuple(rows_of_images(hidden, *self.waiting[-1].texts))

    @property
    def drew_nothing(self) -> bool:
        """Whether a prompt was encoded, and no step was taken."""
        return bool(self.waiting) and self.step < 0
