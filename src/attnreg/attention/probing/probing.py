"""Probing beside a run: the text's columns when prompts are encoded, the layers in the first call of the denoiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from attnreg.attention.calls.call import Call, mapped
from attnreg.attention.calls.encodings import nothing_encoded
from attnreg.attention.calls.received import Received
from attnreg.attention.calls.rows import rows_if_there
from attnreg.attention.families.family import Embeddings, Texts
from attnreg.attention.families.probed import LayerFound, Probed
from attnreg.attention.probing.layers import CALLS, layers_found
from attnreg.attention.probing.words import shifts
from attnreg.regulation.edit import PromptWords
from attnreg.trace import Trace
from attnreg.types import AttnregError, ProbeRecord


class Probing:
    """What is known of a pipeline that is in no entry; kept as long as it is regulated.

    Args:
        pipe: the pipeline.
        family: what stands for its family; filled.
        denoiser: its denoiser.
        trace: told what was found, and what it cost.
        settle: called when the layers are known, with the family.
    """

    def __init__(
        self, pipe: Any, family: Probed, denoiser: nn.Module, trace: Trace, settle: Callable[[Probed], None]
    ) -> None:
        self.pipe, self.family, self.denoiser = pipe, family, denoiser
        self.trace, self.settle = trace, settle
        self.known: dict[tuple[Any, ...], dict[str, LayerFound]] = {}
        """By the shapes of what the denoiser is given."""
        self.readings = 0
        """How many times text encoders ran for it since the trace was told."""

    def encoders(
        self,
        received: Mapping[str, list[Received]],
        prompts: Sequence[str],
        before: Embeddings,
        encode: Callable[[], Texts],
    ) -> list[Probed]:
        """The family of each prompt, its text encoders those whose tokens fill columns, and which these are.

        Args:
            received: what each text encoder was given.
            prompts: that were encoded.
            before: what each became.
            encode: does the same again.
        """
        each = len(before) // len(prompts)
        found: list[list[Any]] = [[] for _ in prompts]

        def again() -> Embeddings:
            self.readings += 1
            return encode().prompts[::each]

        for encoder in self.family.encoders:
            if encoder.model not in received:
                continue
            moved = shifts(self.pipe, encoder, received[encoder.model], prompts, before[::each], again)
            for number, shift in enumerate(moved):
                if shift is not None:
                    found[number].append(replace(encoder, shift=shift))
        if not all(found):
            raise AttnregError(
                f"expected a text encoder of {type(self.pipe).__name__} whose tokens fill columns of what its "
                "encode_prompt returns, got none; this pipeline cannot be probed"
            )
        return [replace(self.family, encoders=tuple(one)) for one in found]

    def recognised(self, arguments: Mapping[str, Any], texts: Sequence[Texts]) -> Probed | None:
        """The family, with the names of the denoiser's arguments; `None` for a call of negative prompts alone.

        Raises `AttnregError` if it is not clear which argument holds the text, or if no text was encoded.
        """
        if not texts:
            raise nothing_encoded()
        holding = {name: value for name, value in arguments.items() if _holds_texts(value)}
        # What is encoded first is what is drawn; what is encoded after it is negative.
        names = [name for name, value in holding.items() if rows_if_there(value, *texts[0])]
        if not names and self.family.text and any(_holds(holding[self.family.text], one) for one in texts):
            return None
        if len(names) != 1:
            raise AttnregError(
                f"expected one argument of {type(self.denoiser).__name__} that holds what encode_prompt returned, got "
                f"{' and '.join(names) or 'none'}; this model cannot be probed, its family needs an entry of its own"
            )
        others = [name for name in holding if name != names[0] and any(_holds(holding[name], one) for one in texts)]
        if others:
            raise AttnregError(
                f"expected text in one argument of {type(self.denoiser).__name__}, got {names[0]} and "
                f"{' and '.join(others)}; this model cannot be probed, its family needs an entry of its own"
            )
        if self.family.text != names[0]:
            self.family = replace(self.family, text=names[0], sample=next(iter(arguments)))
        return self.family

    def look(self, call: Call, words: Sequence[PromptWords | None]) -> None:
        """Find the layers, unless they are known of calls of this size."""
        ends = {}
        for row, image in call.pairs:
            if (one := words[image]) is not None:
                columns = [column for target in one.columns.targets for column in target]
                ends[row] = min(columns), max(columns)
        size = _size(call.arguments)
        calls = 0 if size in self.known else CALLS
        if calls:
            self.known[size] = layers_found(call, self.denoiser, ends)
        self.family.found.layers = self.known[size]
        self.settle(replace(self.family, together=all(one.together for one in self.known[size].values())))
        if not self.trace.probes:
            layers = tuple(self.known[size])
            self.trace.probes.append(
                ProbeRecord(type(self.denoiser).__name__, self.family.text, layers, calls, self.readings)
            )
            self.readings = 0


def _holds(value: Any, texts: Texts) -> bool:
    """Whether an argument holds what was encoded, or its negative prompts alone."""
    return bool(rows_if_there(value, *texts)) or (
        texts.negative is not None and bool(rows_if_there(value, texts.negative, None))
    )


def _holds_texts(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.ndim == 3 and value.is_floating_point()
    return isinstance(value, list) and bool(value) and all(isinstance(one, Tensor) and one.ndim == 2 for one in value)


def _size(arguments: Mapping[str, Any]) -> tuple[Any, ...]:
    """The shapes of all tensors among the arguments, and what else decides a map."""
    shapes: list[Any] = []

    def note(tensor: Tensor) -> Tensor:
        shapes.append(tuple(tensor.shape))
        return tensor

    mapped(dict(arguments), note)
    return *shapes, *(repr(value) for name, value in sorted(arguments.items()) if isinstance(value, list | tuple | int)
                      and not _has_tensor(value))  # fmt: skip


def _has_tensor(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, list | tuple) and any(map(_has_tensor, value)))
