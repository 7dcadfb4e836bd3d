"""One call of a regulated pipeline: which images, which step, which edits act; what the stand-ins share."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections import deque
from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from attnreg.attention.attending import Attending, Time, Words
from attnreg.attention.call import Call
from attnreg.attention.edits import Edits
from attnreg.attention.families.family import Family, Texts
from attnreg.attention.latents import MovedLatents
from attnreg.attention.layers import Layers
from attnreg.attention.predictions import combined
from attnreg.attention.prepared import Prepared, prepare
from attnreg.attention.prompts import prompts_in, words_of_prompts, words_received
from attnreg.attention.received import read, receiving
from attnreg.attention.rows import rows_of_images
from attnreg.attention.texts import TextEncoder
from attnreg.regulation.kinds import Embedded
from attnreg.types import AttnregError, Trace

REMEMBERED = 16
"""So many results of `encode_prompt` are known again when they are handed back."""
Pairs = tuple[tuple[int, int], ...]


class Encoding(NamedTuple):
    """What one call of `encode_prompt` returned, and what the edits made of it."""

    texts: Texts
    """One embedding an image."""
    prepared: Prepared
    each: int
    """Images a prompt."""
    error: AttnregError | None = None
    """What is wrong with it, if it is drawn."""


class Run:
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
    ) -> None:
        self.pipe, self.family, self.denoiser = pipe, family, denoiser
        self.edits, self.trace = edits, trace
        self.targets, self.adjectives = targets, adjectives
        self.layers, self.attending, self.latents = layers, attending, latents
        self.live = False
        """Whether the stand-ins act. One that someone has wrapped cannot be taken away; it then only passes on."""
        self.encodings: deque[Encoding] = deque(maxlen=REMEMBERED)
        """What prompts became: it may be handed back later, all of it or some rows, several times."""
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
        self.rewritten: tuple[Tensor | None, int, Tensor | None] = (None, 0, None)
        self.layers.acts = {}
        self.attending.forget()
        if self.latents:
            self.latents.forget()

    # --- what the stand-ins do ------------------------------------------------------------------------------------

    def around_encode_prompt(self, original: Callable[..., Any], refresh: Callable[[], None]) -> Callable[..., Any]:
        """Note the prompts and the embeddings they became; `refresh` sees that the other stand-ins are in place."""
        signature = own_signature(self.pipe, "encode_prompt")

        @wraps(original)
        def encode_prompt(*args: Any, **kwargs: Any) -> Any:
            if not self.live:
                return original(*args, **kwargs)
            self._check_caller(sys._getframe(1))
            waiting = self.waiting if self.step < 0 else []
            self.forget()
            self.waiting = waiting
            refresh()
            given = signature.bind(*args, **kwargs).arguments
            result, encoding = self._encoded(original, given, args, kwargs)
            self.encodings.append(encoding)
            self.waiting.append(encoding)
            if len(self.waiting) == 1 or self.family.negative is not None:
                self._tell(encoding)
            return result

        return encode_prompt

    def _encoded(
        self, original: Callable[..., Any], given: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, Encoding]:
        """What `encode_prompt` returns, and what the edits make of it.

        Where negative prompts are encoded on their own, what is wrong with a text counts only once it is drawn.
        """
        handed_back = self._handed_back(given)
        prompts = prompts_in(given)
        may_be_negative = self.family.negative is None and bool(self.waiting)
        words: Words = []
        error = None
        try:
            if handed_back:
                pass
            elif prompts is None:
                raise AttnregError(
                    "expected a prompt in words, got prompt_embeds, in which no word can be found; "
                    "pass prompt as text, or what pipe.encode_prompt returned while regulated"
                )
            elif not self.family.encoders:
                # The words are looked up first: a target that is not there costs no time in the text encoder.
                words = words_of_prompts(self.pipe, prompts, self.targets, self.adjectives, self.edits.optional)
        except AttnregError as wrong:
            if not may_be_negative:
                raise
            error = wrong
        with receiving(self.pipe, self.family) as received:
            result = original(*args, **kwargs)
        texts = self.family.texts(result)
        if error:
            return result, Encoding(texts, Prepared(), 1, error)
        if handed_back:
            each = len(texts.prompts) // len(handed_back.words)
            return result, Encoding(texts, handed_back.repeated(each), each)
        assert prompts is not None
        each = len(texts.prompts) // len(prompts)
        embeddings = texts.prompts[::each]
        try:
            if self.family.encoders:
                read_prompts = [
                    read(self.pipe, self.family, received, prompt, number, len(embeddings[number]))
                    for number, prompt in enumerate(prompts)
                ]
                words = words_received(read_prompts, self.targets, self.adjectives, self.edits.optional)
        except AttnregError as wrong:
            if not may_be_negative:
                raise
            return result, Encoding(texts, Prepared(), 1, wrong)
        made = prepare(self.edits, embeddings, words, TextEncoder(self.pipe, self.family, original, given))
        return result, Encoding(texts, made.repeated(each), each)

    def _tell(self, encoding: Encoding) -> None:
        """Begin the account of a picture."""
        self.told = encoding
        words = encoding.prepared.words[:: encoding.each]
        self.trace.begin([one.targets if one else () for one in words], images_per_prompt=encoding.each)

    def _check_caller(self, frame: Any) -> None:
        """Raises `AttnregError` if a copy of the pipeline calls what it has copied with all else."""
        caller = frame.f_locals.get("self")
        if caller is self.pipe or getattr(caller, self.family.denoiser, None) is None:
            return
        if vars(caller).get("encode_prompt") is vars(self.pipe).get("encode_prompt"):
            raise AttnregError(
                f"expected the {type(self.pipe).__name__} that was regulated to draw, got a copy, whose steps are "
                "not its; apply the regulation to the copy, or copy the pipeline before"
            )

    def around_denoiser(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Count the step, and let act in it what is to act."""
        signature = own_signature(self.denoiser, "forward")

        def begin(*args: Any, **kwargs: Any) -> Call | None:
            scalings = self.latents.begin_call() if self.latents else []
            given = signature.bind(*args, **kwargs).arguments
            if self.family.is_aside(given):
                return None
            # A call for the negative prompt alone is no step of its own.
            if self.family.negative is None and not self._pairs(given[self.family.text]):
                return None
            acting, time = self._next_step()
            if not acting:
                return None
            pairs = self._pairs(given[self.family.text])
            call = Call(original, self.family, given, pairs, len(self.prepared.words))
            if "attention" in acting:
                trained = self.pipe.scheduler.config.num_train_timesteps
                time = time._replace(noise=float(torch.as_tensor(given[self.family.time]).flatten()[0]) / trained)

            def rewritten(call: Call) -> Call:
                return self._rewritten(call, self._embedded(acting))

            if self.latents:
                call = self.latents.exchange(call, self.prepared, scalings, time, acting, rewritten)
            else:
                call = rewritten(call)
            self.layers.acts = self.attending.acts(call, self._heeded(), self._embedded(acting), acting, time)
            self.layers.caught = set()
            return call

        def end(call: Call, output: Any) -> Any:
            self.layers.check_nothing_escaped(self.step)
            self.layers.acts = {}
            if self.edits.prediction is not None and "prediction" in self._acting(self.step):
                assert self.prepared.nothing is not None
                phrases = [[] if image in self._spared else texts for image, texts in enumerate(self.prepared.phrases)]
                return combined(self.edits.prediction, self.pipe, call, output, phrases, self.prepared.nothing)
            return output

        def recall(call: Call | None, *args: Any, **kwargs: Any) -> Any:
            """What the denoiser is known to return, if no layer is to act; else `None`."""
            if not self.latents or not self.latents.starts or self.layers.acts:
                return None
            return self.latents.starts.recall(call.arguments if call else signature.bind(*args, **kwargs).arguments)

        # Bookkeeping is nothing that a compiler can trace; the denoiser's own forward may be compiled.
        begin_eagerly, recall_eagerly, end_eagerly = map(torch.compiler.disable, (begin, recall, end))

        @wraps(original)
        def forward(*args: Any, **kwargs: Any) -> Any:
            if not self.live:
                return original(*args, **kwargs)
            try:
                call = begin_eagerly(*args, **kwargs)
                output = recall_eagerly(call, *args, **kwargs)
                if output is None:
                    output = call.run() if call else original(*args, **kwargs)
                return end_eagerly(call, output) if call else output
            except BaseException:
                self.forget()
                raise
            finally:
                self.layers.acts = {}

        return torch.compiler.disable(forward, recursive=False)  # type: ignore[no-any-return]

    # --- how they know what to do ---------------------------------------------------------------------------------

    @property
    def prepared(self) -> Prepared:
        """Of every image that is drawn."""
        assert self.current is not None
        return self.current.prepared

    def _handed_back(self, given: dict[str, Any]) -> Prepared | None:
        """What the embeddings that `encode_prompt` is given were made of, if it returned them before, row by row."""
        embeddings = given.get("prompt_embeds")
        if given.get("prompt") is not None or embeddings is None:
            return None
        rows = [self._known(row) for row in embeddings]
        return None if None in rows else Prepared.of([row for row in rows if row is not None])

    def _known(self, row: Tensor) -> tuple[Prepared, int] | None:
        """What a text's embedding was made of: something that was encoded, and which of its images."""
        for encoding in reversed(self.encodings):
            for image, one in enumerate(encoding.texts.prompts):
                if encoding.error is None and _same(row, one):
                    return encoding.prepared, image
        return None

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
        """The edits that act in a step, by the part of the model that they change; none if all images are spared."""
        if self._spared and all(one is None for one in self._heeded()):
            return []
        total = self._total()
        return [
            name
            for name, edit in self.edits.acting.items()
            if edit.strength and edit.window[0] <= step / total < edit.window[1]
        ]

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
        for edit in self.edits.acting.values():
            start, end = edit.window
            if edit.strength and start < end and not any(start <= step / total < end for step in range(total)):
                raise AttnregError(
                    f"window: expected one that holds a step, got {edit.window}, between two of {total} steps; "
                    f"widen it to at least 1/{total}"
                )
        acting = self._acting(self.step)
        self.regulated_steps += bool(acting)
        self.trace.steps, self.trace.regulated_steps = self.step + 1, self.regulated_steps
        return acting, Time(self.step, total, 0.0)

    def _pairs(self, hidden: Any) -> Pairs:
        """`(row, image)` for the rows of the batch that hold prompts; none if all are negative prompts'."""
        if not self.waiting:
            raise AttnregError(
                "expected the pipeline to encode a prompt before it denoises, got a call of the denoiser alone; "
                "call the pipeline inside the regulated block"
            )
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
                others = [one for one in self.waiting if one is not self.current]
                if self.family.negative is None and any(_rows_in(hidden, one) for one in others):
                    return ()
                raise
        # The first call of a picture is for its prompts: what was encoded last of all that fits.
        for encoding in reversed(self.waiting):
            if (pairs := _rows_in(hidden, encoding)) is not None:
                if encoding.error:
                    raise encoding.error
                self.current = encoding
                if encoding is not self.told:
                    self._tell(encoding)
                if self.edits.auto and not self.edits.start:
                    why = f"what a start of {self.family.name} leads to cannot be foreseen yet"
                    heeded = [image for image, one in enumerate(self.prepared.words) if one is not None]
                    self.trace.decisions += [self.edits.auto.decision(image, why) for image in heeded]
                return pairs
        return tuple(rows_of_images(hidden, *self.waiting[-1].texts))

    def _rewritten(self, call: Call, embedded: dict[int, Embedded]) -> Call:
        """The call with what the edit made of the prompts in their rows."""
        changed = [
            (row, embedded[image].keys)
            for row, image in call.pairs
            if image in embedded and not _same(embedded[image].keys, call.hidden[row])
        ]
        if not changed:
            return call
        hidden, times = call.hidden, _times_written(call.hidden)
        if self.rewritten[0] is not hidden or self.rewritten[1] != times:
            assert self.current is not None
            prompts = self.current.texts.prompts
            if any(not _same(prompts[image], hidden[row]) for row, image in call.pairs if image in embedded):
                raise AttnregError(
                    "expected the embeddings that encode_prompt returned, got others in the midst of a picture; a "
                    "callback writes to them: leave it out, or choose a method that changes no embedding"
                )
            rows = torch.tensor([row for row, _ in changed], device=hidden.device)
            made = torch.stack([keys for _, keys in changed]).to(hidden)
            self.rewritten = hidden, times, hidden.index_copy(0, rows, made)
        return call.given(**{self.family.text: self.rewritten[2]})

    def warn_if_nothing_ran(self) -> None:
        """For the end of a block that raised nothing: a prompt that was encoded should have been drawn."""
        if self.waiting and self.step < 0:
            warnings.warn(
                "attnreg: the prompt was encoded but the regulated denoiser never ran: the picture, if there is one, "
                "was not regulated",
                stacklevel=3,
            )


def own_signature(owner: Any, method: str) -> inspect.Signature:
    """What a method of an object's class takes: someone may have put a wrapper that does not say so over it."""
    signature = inspect.signature(getattr(type(owner), method))
    return signature.replace(parameters=[*signature.parameters.values()][1:])


def _rows_in(hidden: Any, encoding: Encoding) -> Pairs | None:
    """`(row, image)` for the rows that hold what was encoded; `None` if it is not all there."""
    try:
        return tuple(rows_of_images(hidden, *encoding.texts))
    except AttnregError:
        return None


def _times_written(tensor: Tensor) -> int:
    """How often a tensor was written to; of one that was made in inference mode that is not known."""
    return 0 if tensor.is_inference() else tensor._version


def _same(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.equal(first, second.to(first))
