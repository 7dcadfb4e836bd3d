"""Encode texts other than the prompt, by the pipeline's own text encoders and in its own way."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from attnreg.attention.families import tokenizer_of
from attnreg.attention.families.family import Family
from attnreg.attention.layers.catch import Patch
from attnreg.regulation.kinds import EncodedText
from attnreg.targets import end_of_text
from attnreg.types import AttnregError

KEPT = (
    "device", "dtype", "lora_scale", "clip_skip", "max_sequence_length", "clean_caption", "complex_human_instruction",
    "system_prompt", "text_encoder_out_layers", "tokenizer_max_length", "skip_text_cleaning", "return_index",
)  # fmt: skip
"""The arguments of `encode_prompt` that say how to encode, and not what."""


class TextEncoder:
    """`kinds.Encode` for one call of a pipeline: what it encodes is read as the pipeline read its prompt."""

    def __init__(self, pipe: Any, family: Family, encode_prompt: Callable[..., Any], given: dict[str, Any]) -> None:
        self.pipe, self.family, self.encode_prompt = pipe, family, encode_prompt
        self.tokenizer = tokenizer_of(pipe, family)
        self.takes = inspect.signature(type(pipe).encode_prompt).parameters
        self.kept = {name: given[name] for name in KEPT if name in given}

    def has_placeholders(self, prompt: str) -> bool:
        """Whether textual inversion would write the prompt once more: it has been written so."""
        convert = getattr(self.pipe, "maybe_convert_prompt", None)
        return bool(convert and convert(prompt, self.tokenizer) != prompt)

    def __call__(self, text: str, masked: Sequence[int] = ()) -> EncodedText:
        """The embedding of a text as the prompt's words are; `masked` columns are hidden from its other tokens.

        Placeholders of textual inversion have been written out in those words, and are not once more.
        """
        if masked and self.family.encoders:
            raise AttnregError(
                f"weight: expected 1 or more on {self.family.name}, got less, for which its text encoders would "
                "have to read the prompt without a word; raise the other targets instead"
            )
        # Which columns are the text's own is asked where one encoder makes all of them.
        own = () if self.family.encoders else tuple(range(1, end_of_text(text, self.tokenizer)))
        alone = {"num_images_per_prompt": 1, "do_classifier_free_guidance": False}
        given = {name: value for name, value in alone.items() if name in self.takes} | self.others(text) | self.kept
        with self._hidden(masked), self._as_it_is():
            result = self.encode_prompt(prompt=text, **given)
        at = self.family.pooled_result
        pooled = result[at] if at is not None and isinstance(result, tuple) and len(result) > at else None
        embedding = self.family.texts(result).prompts[0]
        return EncodedText(embedding, own, None if pooled is None else pooled[0], self.family.conditions_in(result))

    def others(self, text: str) -> dict[str, str]:
        """The same text for further encoders, of pipelines that ask for it."""
        return {name: text for name in ("prompt_2", "prompt_3", "prompt_4") if name in self.takes}

    @contextmanager
    def _as_it_is(self) -> Iterator[None]:
        """Let the pipeline read a text without writing out its placeholders."""
        with ExitStack() as patches:
            if hasattr(self.pipe, "maybe_convert_prompt"):
                patches.callback(Patch(self.pipe, "maybe_convert_prompt", lambda _: lambda prompt, _: prompt).undo)
            yield

    @contextmanager
    def _hidden(self, columns: Sequence[int]) -> Iterator[None]:
        """Give every text encoder a mask with zeros in some columns."""
        with ExitStack() as patches:
            for name in ("text_encoder", "text_encoder_2") if columns else ():
                encoder = getattr(self.pipe, name, None)
                if encoder is not None:
                    patches.callback(Patch(encoder, "forward", lambda forward: _masking(forward, columns)).undo)
            yield


def _masking(forward: Callable[..., Any], columns: Sequence[int]) -> Callable[..., Any]:
    def masked(input_ids: Any, *args: Any, **kwargs: Any) -> Any:
        given = kwargs.get("attention_mask")
        mask = torch.ones_like(input_ids) if given is None else given.clone()
        mask[:, list(columns)] = 0
        return forward(input_ids, *args, **(kwargs | {"attention_mask": mask}))

    return masked
