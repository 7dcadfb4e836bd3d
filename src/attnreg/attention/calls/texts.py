"""Encode texts other than the prompt, by the pipeline's own text encoders and in its own way."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch

from attnreg.attention.calls.received import part_of
from attnreg.attention.families import tokenizer_of
from attnreg.attention.families.family import Family
from attnreg.attention.layers.catch import Patch, own_signature
from attnreg.regulation.kinds import EncodedText
from attnreg.targets import end_of_text

KEPT = (
    "device", "dtype", "lora_scale", "clip_skip", "max_sequence_length", "clean_caption", "complex_human_instruction",
    "system_prompt", "text_encoder_out_layers", "tokenizer_max_length", "skip_text_cleaning", "return_index",
    "mask_feature", "_cut_context",
)  # fmt: skip
"""The arguments of `encode_prompt` that say how to encode, and not what."""


class TokenChange(NamedTuple):
    """What becomes of some tokens before a text encoder reads them."""

    tokens: Sequence[int]
    """Their numbers among those that it is given."""
    other: int | None = None
    """The token in the place of each; `None`: they stay, hidden from all others."""


class TextEncoder:
    """Encodes texts for one call of a pipeline: each is read as the pipeline read its prompt."""

    def __init__(self, pipe: Any, family: Family, encode_prompt: Callable[..., Any], given: dict[str, Any]) -> None:
        self.pipe, self.family, self.encode_prompt = pipe, family, encode_prompt
        self.tokenizer = tokenizer_of(pipe, family)
        self.takes = inspect.signature(type(pipe).encode_prompt).parameters
        self.kept = {name: given[name] for name in KEPT if name in given}

    def has_placeholders(self, prompt: str) -> bool:
        """Whether textual inversion would write the prompt once more: it has been written so."""
        convert = getattr(self.pipe, "maybe_convert_prompt", None)
        return bool(convert and convert(prompt, self.tokenizer) != prompt)

    def __call__(self, text: str, changes: Mapping[str, TokenChange] | None = None) -> EncodedText:
        """The embedding of a text as the prompt's words are.

        Placeholders of textual inversion have been written out in those words, and are not once more.

        Args:
            text: any.
            changes: what becomes of its tokens, by the pipeline's attribute that holds the text encoder.
        """
        # Which columns are the text's own is asked where one encoder makes all of them.
        own = () if self.family.encoders else tuple(range(1, end_of_text(text, self.tokenizer)))
        alone = {"num_images_per_prompt": 1, "batch_size": 1, "do_classifier_free_guidance": False}
        given = {name: value for name, value in alone.items() if name in self.takes} | self.others(text) | self.kept
        with self._changed(changes or {}), self._as_it_is():
            parts = [self.encode_prompt(prompt=text, **{**given, **part}) for part in self.family.parts]
        result = parts[0] if len(parts) == 1 else tuple(value for part in parts for value in part)
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
    def _changed(self, changes: Mapping[str, TokenChange]) -> Iterator[None]:
        """Give the text encoders other tokens, or a mask that hides some."""
        with ExitStack() as patches:
            for name, change in changes.items():
                if (encoder := part_of(self.pipe, name)) is not None:
                    names = list(own_signature(encoder, "forward").parameters)
                    patches.callback(Patch(encoder, "forward", partial(_changing, change, names)).undo)
            yield


def _changing(change: TokenChange, names: Sequence[str], forward: Callable[..., Any]) -> Callable[..., Any]:
    def changed(*args: Any, **kwargs: Any) -> Any:
        given = dict(zip(names, args, strict=False)) | kwargs
        ids, mask = given["input_ids"], given.get("attention_mask")
        tokens = [token for token in change.tokens if token < ids.shape[1]]
        if change.other is None:
            mask = torch.ones_like(ids) if mask is None else mask.clone()
            mask[:, tokens] = 0
            return forward(**(given | {"attention_mask": mask}))
        ids = ids.clone()
        ids[:, tokens] = change.other
        return forward(**(given | {"input_ids": ids}))

    return changed
