"""One call of a regulated pipeline: which rows, which step, which words; what the stand-ins share."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from attnreg.attention.intercept import CatchAttention, attend_with, map_of, processor_name
from attnreg.regulation.edit import LogitEdit, PromptColumns
from attnreg.targets import TargetSpec, end_of_text, find_targets
from attnreg.types import AttnregError, Grid, Logits, Measured, Probabilities, Target, Trace


class Run:
    """Follows the calls of one pipeline: `encode_prompt` begins a picture, each call of the denoiser is a step."""

    def __init__(self, pipe: Any, edit: LogitEdit, targets: Any, adjectives: bool, trace: Trace) -> None:
        self.pipe, self.edit, self.trace = pipe, edit, trace
        self.targets, self.adjectives = targets, adjectives
        self.forget()

    def forget(self) -> None:
        """Back to before any call of the pipeline."""
        self.embeddings: Tensor | None = None
        self.columns: list[PromptColumns] = []
        self.memory: dict[tuple[str, int], dict[str, Any]] = {}
        self.step = -1
        self.expected = self.caught = 0
        self.active = False
        self.latent: Grid | None = None
        self.seen: Tensor | None = None
        self.groups: list[tuple[Tensor, list[int], list[PromptColumns]]] = []

    # --- what the stand-ins do ------------------------------------------------------------------------------------

    def around_encode_prompt(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Note the prompts and the embeddings they became."""

        @wraps(original)
        def encode_prompt(*args: Any, **kwargs: Any) -> Any:
            self.finish()
            given = inspect.signature(original).bind(*args, **kwargs).arguments
            prompts = given.get("prompt")
            prompts = [prompts] if prompts is None or isinstance(prompts, str) else list(prompts)
            if given.get("prompt_2") not in (None, given.get("prompt")):
                raise AttnregError(
                    "expected one prompt for both text encoders, got a prompt_2 that differs from prompt; "
                    "leave prompt_2 out, or put every word that must be heeded into prompt"
                )
            # The words are looked up first: a target that is not there costs no time in the text encoder.
            per_prompt = self._targets_per_prompt(prompts)
            result = original(*args, **kwargs)
            self.embeddings = result[0] if isinstance(result, tuple) else result
            each = len(self.embeddings) // len(prompts)
            self.columns = [columns for _, columns in per_prompt for _ in range(each)]
            self.trace.begin([targets for targets, _ in per_prompt], images_per_prompt=each)
            return result

        return encode_prompt

    def around_denoiser(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Count the step and find the rows of the batch that belong to the prompts."""
        signature = inspect.signature(original)

        @wraps(original)
        def forward(*args: Any, **kwargs: Any) -> Any:
            self.step += 1
            self.trace.steps = self.step + 1
            start, end = self.edit.window
            share = self.step / self._total_steps()
            if not (self.edit.strength and start <= share < end):
                return original(*args, **kwargs)
            given = signature.bind(*args, **kwargs).arguments
            sample = given["sample"]
            self.latent = Grid(*sample.shape[-2:])
            self._match_rows(given["encoder_hidden_states"])
            self.expected += 1
            self.trace.regulated_steps = self.expected
            with self._active():
                return original(*args, **kwargs)

        # The stand-in itself is bookkeeping that a compiler cannot trace; what it calls may be compiled.
        return torch.compiler.disable(forward, recursive=False)  # type: ignore[no-any-return]

    def around_layer(self, name: str, module: nn.Module, original: Callable[..., Any]) -> Callable[..., Any]:
        """Run the module's own forward; during regulated steps, catch its attention over the text."""

        @wraps(original)
        def forward(*args: Any, **kwargs: Any) -> Any:
            if not self.active:
                return original(*args, **kwargs)
            assert self.embeddings is not None
            catch = CatchAttention(self.embeddings.shape[-2], lambda *a, **k: self._attend(name, *a, **k))
            with catch:
                output = original(*args, **kwargs)
            if not catch.caught:
                raise AttnregError(
                    f"expected {name} to call scaled_dot_product_attention over the {catch.tokens} text tokens, got "
                    f"{processor_name(module)}, which does not; use pipe.unet.set_default_attn_processor() "
                    "(attention slicing and xFormers off)"
                )
            self.caught += 1
            return output

        return torch.compiler.disable(forward)  # type: ignore[no-any-return]

    @contextmanager
    def _active(self) -> Iterator[None]:
        self.active = True
        try:
            yield
        finally:
            self.active = False

    # --- how they know what to do ---------------------------------------------------------------------------------

    def _targets_per_prompt(self, prompts: list[Any]) -> list[tuple[tuple[Target, ...], PromptColumns]]:
        if self.targets is None or not any(_is_list(entry) for entry in self.targets):
            per_prompt: Sequence[Sequence[TargetSpec] | None] = [self.targets] * len(prompts)
        elif len(self.targets) != len(prompts):
            raise AttnregError(
                f"expected one list of targets for each of the {len(prompts)} prompts, got {len(self.targets)}; "
                "give one list for all prompts or one a prompt"
            )
        else:
            per_prompt = self.targets
        found = []
        for prompt, wanted in zip(prompts, per_prompt, strict=True):
            if prompt is None:
                raise AttnregError(
                    "expected a prompt in words, got prompt_embeds alone, in which no word can be found; "
                    "pass prompt as text"
                )
            if hasattr(self.pipe, "maybe_convert_prompt"):  # textual inversion: one word may stand for several tokens
                prompt = self.pipe.maybe_convert_prompt(prompt, self.pipe.tokenizer)
            targets = find_targets(prompt, self.pipe.tokenizer, wanted, adjectives=self.adjectives)
            columns = PromptColumns(
                tuple(target.tokens for target in targets),
                start_of_text=0,
                end_of_text=end_of_text(prompt, self.pipe.tokenizer),
            )
            found.append((targets, columns))
        return found

    def _total_steps(self) -> int:
        total = getattr(self.pipe, "num_timesteps", None) or len(self.pipe.scheduler.timesteps)
        return max(1, int(total))

    def _match_rows(self, hidden: Tensor) -> None:
        """Find the batch row of each image by its embedding: no assumption about halves or about guidance."""
        if self.embeddings is None:
            raise AttnregError(
                "expected the pipeline to encode a prompt before it denoises, got a call of the denoiser alone; "
                "call the pipeline, or its encode_prompt, inside the regulated block"
            )
        if hidden is self.seen:  # pipelines hand the same tensor to every step
            return
        wanted = self.embeddings.to(hidden)
        rows: list[int] = [-1] * len(wanted)
        free = list(range(len(hidden)))
        # From the end: should the negative prompt read like the prompt, the prompt's rows are the later ones.
        for image in reversed(range(len(wanted))):
            for row in reversed(free):
                if hidden.shape[1:] == wanted.shape[1:] and torch.equal(hidden[row], wanted[image]):
                    rows[image] = row
                    free.remove(row)
                    break
            else:
                raise AttnregError(
                    f"expected the prompt's embedding {tuple(wanted[image].shape)} among the {len(hidden)} rows "
                    f"{tuple(hidden.shape[1:])} that the denoiser was given, found none for image {image}; "
                    "something changes the embeddings after encode_prompt: leave it out, or regulate without it"
                )
        self.seen = hidden
        by_count: dict[int, list[int]] = {}
        for image, columns in enumerate(self.columns):
            by_count.setdefault(len(columns.targets), []).append(image)
        self.groups = [
            (
                torch.tensor([rows[image] for image in images], device=hidden.device),
                images,
                [self.columns[image] for image in images],
            )
            for images in by_count.values()
        ]

    def _attend(self, layer: str, query: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The attention call of one layer, with the rows of each group of images edited."""
        assert self.latent is not None
        grid = map_of(query.shape[-2], self.latent)
        if grid is None:
            raise AttnregError(
                f"expected the map of {layer} to be the {self.latent.height} x {self.latent.width} latent halved some "
                f"times, got {query.shape[-2]} positions; leave the layer out with layers=..."
            )
        order = torch.cat([rows for rows, _, _ in self.groups])

        def edited(logits: Logits) -> Probabilities:
            parts, start = [], 0
            for index, (rows, images, prompts) in enumerate(self.groups):
                memory = self.memory.setdefault((layer, index), {})
                part = self.edit(logits[start : start + len(rows)], prompts, grid, self.step, layer, memory)
                measured = Measured(part.mass_before, part.mass_after, part.loss_before, part.loss_after)
                self.trace.note(self.step, layer, images, grid, measured)
                parts.append(part.probabilities)
                start += len(rows)
            return torch.cat(parts)

        return attend_with(edited, order, query, *args, **kwargs)

    def finish(self) -> None:
        """End a call of the pipeline; raises `AttnregError` if steps that should have been regulated were not."""
        encoded, expected, caught, steps = self.embeddings is not None, self.expected, self.caught, self.step + 1
        self.forget()
        if expected and not caught:
            raise AttnregError(
                f"expected {expected} regulated steps, got none: the regulated layers were never run; "
                "regulate before torch.compile, or call torch.compiler.reset()"
            )
        if encoded and not steps:
            warnings.warn(
                "attnreg: the prompt was encoded but the regulated denoiser never ran: the picture, if there is one, "
                "was not regulated (a denoiser compiled or exported before? then regulate first)",
                stacklevel=3,
            )


def _is_list(entry: Any) -> bool:
    """Whether an entry of `targets` is a prompt's own list (or None for "find them"), not one target."""
    return entry is None or isinstance(entry, list)
