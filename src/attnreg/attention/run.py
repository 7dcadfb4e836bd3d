"""One call of a regulated pipeline: which images, which step, which edits act; what the stand-ins share."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from attnreg.attention.attending import Attending, Time, Words
from attnreg.attention.call import Call
from attnreg.attention.edits import Edits
from attnreg.attention.latents import MovedLatents
from attnreg.attention.layers import Layers
from attnreg.attention.predictions import combined
from attnreg.attention.prepared import Prepared, prepare
from attnreg.attention.prompts import words_of_prompts
from attnreg.attention.rows import rows_of_images
from attnreg.attention.texts import Texts
from attnreg.regulation.kinds import Embedded
from attnreg.types import AttnregError, Trace


class Run:
    """Follows the calls of one pipeline: `encode_prompt` begins a picture, each call of the denoiser is a step."""

    def __init__(
        self,
        pipe: Any,
        edits: Edits,
        targets: Any,
        adjectives: bool,
        trace: Trace,
        layers: Layers,
        attending: Attending,
        latents: MovedLatents | None,
    ) -> None:
        self.pipe, self.edits, self.trace = pipe, edits, trace
        self.targets, self.adjectives = targets, adjectives
        self.layers, self.attending, self.latents = layers, attending, latents
        self.live = False
        """Whether the stand-ins act. One that someone has wrapped cannot be taken away; it then only passes on."""
        self.embeddings: Tensor | None = None
        self.prepared = Prepared()
        """Of every image of this call."""
        self.encoded: tuple[Tensor | None, Prepared] = None, self.prepared
        """What words last became: this may be handed back several times, for more images each."""
        self.forget()

    def forget(self) -> None:
        """Back to before any step of a picture. What the last prompt became is kept, for a call that hands it back."""
        self.step = -1
        self.regulated_steps = 0
        self.begun = False
        self.negative: Tensor | None = None
        self.seen: tuple[Tensor | None, tuple[tuple[int, int], ...]] = (None, ())
        self.rewritten: tuple[Tensor | None, int, Tensor | None] = (None, 0, None)
        self.layers.acts = {}
        self.attending.forget()
        if self.latents:
            self.latents.forget()

    # --- what the stand-ins do ------------------------------------------------------------------------------------

    def around_encode_prompt(self, original: Callable[..., Any], refresh: Callable[[], None]) -> Callable[..., Any]:
        """Note the prompts and the embeddings they became; `refresh` sees that the other stand-ins are in place."""
        signature = inspect.signature(original)

        @wraps(original)
        def encode_prompt(*args: Any, **kwargs: Any) -> Any:
            if not self.live:
                return original(*args, **kwargs)
            self.forget()
            refresh()
            # The words are looked up first: a target that is not there costs no time in the text encoder.
            given = signature.bind(*args, **kwargs).arguments
            handed_back = self._handed_back(given)
            words = handed_back.words if handed_back else self._words(given)
            result = original(*args, **kwargs)
            embeddings, negative = result[:2] if isinstance(result, tuple) else (result, None)
            each = len(embeddings) // len(words)
            made = handed_back or prepare(self.edits, embeddings[::each], words, Texts(self.pipe, original, given))
            self.prepared = made.repeated(each)
            if not handed_back:
                self.encoded = embeddings, self.prepared
            self.embeddings, self.negative, self.begun = embeddings, negative, True
            self.trace.begin([one.targets if one else () for one in words], images_per_prompt=each)
            return result

        return encode_prompt

    def around_denoiser(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Count the step, and let act in it what is to act."""
        signature = inspect.signature(original)

        def begin(*args: Any, **kwargs: Any) -> Call | None:
            scalings = self.latents.begin_call() if self.latents else []
            acting, time = self._next_step()
            if not acting:
                return None
            given = signature.bind(*args, **kwargs).arguments
            call = Call(original, given, self._pairs(given["encoder_hidden_states"]), len(self.prepared.words))
            if "attention" in acting:
                trained = self.pipe.scheduler.config.num_train_timesteps
                time = time._replace(noise=float(torch.as_tensor(given["timestep"]).flatten()[0]) / trained)

            def rewritten(call: Call) -> Call:
                return self._rewritten(call, self._embedded(acting))

            if self.latents:
                call = self.latents.exchange(
                    call, self.prepared.words, self.prepared.readings, scalings, time, acting, rewritten
                )
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

    def _handed_back(self, given: dict[str, Any]) -> Prepared | None:
        """What the embeddings that `encode_prompt` is given were made of, if it returned them before."""
        embeddings = given.get("prompt_embeds")
        if given.get("prompt") is not None or embeddings is None:
            return None
        known = (self.embeddings, self.prepared), self.encoded
        return next((made for one, made in known if one is not None and _same(embeddings, one)), None)

    def _words(self, given: dict[str, Any]) -> Words:
        """The words of each prompt that `encode_prompt` is given."""
        if given.get("prompt") is not None:
            return words_of_prompts(self.pipe, given, self.targets, self.adjectives)
        raise AttnregError(
            "expected a prompt in words, got prompt_embeds, in which no word can be found; "
            "pass prompt as text, or what pipe.encode_prompt returned while regulated"
        )

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
        if all(one is None for one in self._heeded()):
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

    def _pairs(self, hidden: Tensor) -> tuple[tuple[int, int], ...]:
        """`(row, image)` for the rows of the batch that hold prompts."""
        if self.embeddings is None or not self.begun:
            raise AttnregError(
                "expected the pipeline to encode a prompt before it denoises, got a call of the denoiser alone; "
                "call the pipeline inside the regulated block"
            )
        if hidden is not self.seen[0]:  # pipelines hand the same tensor to every step
            self.seen = hidden, tuple(rows_of_images(hidden, self.embeddings, self.negative))
        return self.seen[1]

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
            assert self.embeddings is not None
            if any(not _same(self.embeddings[image], hidden[row]) for row, image in call.pairs if image in embedded):
                raise AttnregError(
                    "expected the embeddings that encode_prompt returned, got others in the midst of a picture; a "
                    "callback writes to them: leave it out, or choose a method that changes no embedding"
                )
            rows = torch.tensor([row for row, _ in changed], device=hidden.device)
            made = torch.stack([keys for _, keys in changed]).to(hidden)
            self.rewritten = hidden, times, hidden.index_copy(0, rows, made)
        return call.given(encoder_hidden_states=self.rewritten[2])

    def warn_if_nothing_ran(self) -> None:
        """For the end of a block that raised nothing: a prompt that was encoded should have been drawn."""
        if self.begun and self.step < 0:
            warnings.warn(
                "attnreg: the prompt was encoded but the regulated denoiser never ran: the picture, if there is one, "
                "was not regulated",
                stacklevel=3,
            )


def _times_written(tensor: Tensor) -> int:
    """How often a tensor was written to; of one that was made in inference mode that is not known."""
    return 0 if tensor.is_inference() else tensor._version


def _same(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.equal(first, second.to(first))
