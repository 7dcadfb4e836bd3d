"""One call of a regulated pipeline: which rows, which step, which words; what the stand-ins share."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from functools import wraps
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from attnreg.attention.intercept import CatchAttention, attend_with, map_of, processor_name
from attnreg.attention.rows import rows_of_images
from attnreg.regulation.edit import LogitEdit, PromptColumns
from attnreg.targets import TargetSpec, end_of_text, find_targets
from attnreg.types import AttnregError, Grid, Logits, Measured, Probabilities, Target, Trace

Found = tuple[tuple[Target, ...], PromptColumns]
"""What was found in one prompt: its targets, and where they and the special tokens lie."""


class Run:
    """Follows the calls of one pipeline: `encode_prompt` begins a picture, each call of the denoiser is a step."""

    def __init__(self, pipe: Any, edit: LogitEdit, targets: Any, adjectives: bool, trace: Trace) -> None:
        self.pipe, self.edit, self.trace = pipe, edit, trace
        self.targets, self.adjectives = targets, adjectives
        self.live = False
        """Whether the stand-ins act. One that someone has wrapped cannot be taken away; it then only passes on."""
        self.found: list[Found] = []
        self.embeddings: Tensor | None = None
        self.forget()

    def forget(self) -> None:
        """Back to before any step of a picture. What the last prompt became is kept, for a call that hands it back."""
        self.step = -1
        self.regulated_steps = 0
        self.images: list[Found] = []
        self.negative: Tensor | None = None
        self.memory: dict[tuple[str, int], dict[str, Any]] = {}
        self.active = False
        self.caught: set[str] = set()
        self.latent: Grid | None = None
        self.seen: Tensor | None = None
        self.groups: list[tuple[Tensor, list[int], list[PromptColumns]]] = []

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
            found = self._find(signature.bind(*args, **kwargs).arguments)
            result = original(*args, **kwargs)
            embeddings, negative = result[:2] if isinstance(result, tuple) else (result, None)
            each = len(embeddings) // len(found)
            self.images = [one for one in found for _ in range(each)]
            self.found, self.embeddings, self.negative = self.images, embeddings, negative
            self.trace.begin([targets for targets, _ in found], images_per_prompt=each)
            return result

        return encode_prompt

    def around_denoiser(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Count the step, find the rows of the batch that belong to the prompts, see that every layer was regulated."""
        signature = inspect.signature(original)

        def begin(*args: Any, **kwargs: Any) -> None:
            if self._next_step_is_regulated():
                given = signature.bind(*args, **kwargs).arguments
                self.latent = Grid(*given["sample"].shape[-2:])
                self._group_rows(given["encoder_hidden_states"])
                self.active, self.caught = True, set()

        def end() -> None:
            if self.active:
                self._check_nothing_escaped()

        # Bookkeeping is nothing that a compiler can trace; the denoiser's own forward may be compiled.
        begin_eagerly, end_eagerly = torch.compiler.disable(begin), torch.compiler.disable(end)

        @wraps(original)
        def forward(*args: Any, **kwargs: Any) -> Any:
            if not self.live:
                return original(*args, **kwargs)
            try:
                begin_eagerly(*args, **kwargs)
                output = original(*args, **kwargs)
                end_eagerly()
            except BaseException:
                self.forget()
                raise
            finally:
                self.active = False
            return output

        return torch.compiler.disable(forward, recursive=False)  # type: ignore[no-any-return]

    def around_layer(self, name: str, module: nn.Module, original: Callable[..., Any]) -> Callable[..., Any]:
        """Run the module's own forward; during regulated steps, catch its attention over the text."""

        @wraps(original)
        def forward(*args: Any, **kwargs: Any) -> Any:
            if not self.live or not self.active:
                return original(*args, **kwargs)
            assert self.embeddings is not None
            catch = CatchAttention(self.embeddings.shape[-2], lambda *a, **k: self._attend(name, *a, **k))
            with catch:
                output = original(*args, **kwargs)
            if not catch.caught:
                raise AttnregError(
                    f"expected {name} to call scaled_dot_product_attention over the {catch.tokens} text tokens, got "
                    f"{processor_name(module)}, which does not; turn attention slicing and xFormers off: "
                    "pipe.unet.set_attn_processor(diffusers.models.attention_processor.AttnProcessor2_0())"
                )
            self.caught.add(name)
            return output

        return torch.compiler.disable(forward)  # type: ignore[no-any-return]

    # --- how they know what to do ---------------------------------------------------------------------------------

    def _find(self, given: dict[str, Any]) -> list[Found]:
        """The targets of each prompt that `encode_prompt` is given."""
        prompts, embeddings = given.get("prompt"), given.get("prompt_embeds")
        if prompts is None:
            if self.embeddings is not None and embeddings is not None and _same(embeddings, self.embeddings):
                return self.found  # what encode_prompt returned before, handed back
            raise AttnregError(
                "expected a prompt in words, got prompt_embeds, in which no word can be found; "
                "pass prompt as text, or what pipe.encode_prompt returned while regulated"
            )
        if given.get("prompt_2") not in (None, prompts):
            raise AttnregError(
                "expected one prompt for both text encoders, got a prompt_2 that differs from prompt; "
                "leave prompt_2 out, or put every word that must be heeded into prompt"
            )
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        if self.targets is None or not any(_is_list(entry) for entry in self.targets):
            wanted: Sequence[Sequence[TargetSpec] | None] = [self.targets] * len(prompts)
        elif len(self.targets) != len(prompts):
            raise AttnregError(
                f"expected one list of targets for each of the {len(prompts)} prompts, got {len(self.targets)}; "
                "give one list for all prompts or one a prompt"
            )
        else:
            wanted = self.targets
        return [self._find_in(prompt, targets) for prompt, targets in zip(prompts, wanted, strict=True)]

    def _find_in(self, prompt: str, wanted: Sequence[TargetSpec] | None) -> Found:
        tokenizer = self.pipe.tokenizer
        if hasattr(self.pipe, "maybe_convert_prompt"):
            converted = self.pipe.maybe_convert_prompt(prompt, tokenizer)
            if converted != prompt and (not wanted or any(isinstance(spec, str) for spec in wanted)):
                raise AttnregError(
                    f"expected words of one token sequence each, got {prompt!r}, in which textual inversion writes "
                    f"{converted!r}; name the targets by their token columns: targets=[2, 3]"
                )
            prompt = converted
        targets = find_targets(prompt, tokenizer, wanted, adjectives=self.adjectives)
        columns = tuple(target.tokens for target in targets)
        return targets, PromptColumns(columns, start_of_text=0, end_of_text=end_of_text(prompt, tokenizer))

    def _next_step_is_regulated(self) -> bool:
        """Count a call of the denoiser; whether it lies in the window."""
        self.step += 1
        total = int(getattr(self.pipe, "num_timesteps", None) or len(self.pipe.scheduler.timesteps))
        start, end = self.edit.window
        inside = [start <= step / total < end for step in range(total)]
        if self.step >= total:
            raise AttnregError(
                f"expected {total} calls of the denoiser, one a step, got one more; it is used by another pipeline or "
                "several times a step: remove the regulation there first, or draw through the regulated pipeline"
            )
        if self.edit.strength and start < end and not any(inside):
            raise AttnregError(
                f"window: expected one that holds a step, got {self.edit.window}, between two of {total} steps; "
                f"widen it to at least 1/{total}"
            )
        regulated = bool(self.edit.strength) and inside[self.step]
        self.regulated_steps += regulated
        self.trace.steps, self.trace.regulated_steps = self.step + 1, self.regulated_steps
        return regulated

    def _group_rows(self, hidden: Tensor) -> None:
        """Group the rows of the batch that belong to prompts by their number of targets."""
        if self.embeddings is None or not self.images:
            raise AttnregError(
                "expected the pipeline to encode a prompt before it denoises, got a call of the denoiser alone; "
                "call the pipeline inside the regulated block"
            )
        if hidden is self.seen:  # pipelines hand the same tensor to every step
            return
        self.seen = hidden
        by_count: dict[int, list[tuple[int, int]]] = {}
        for row, image in rows_of_images(hidden, self.embeddings, self.negative):
            by_count.setdefault(len(self.images[image][0]), []).append((row, image))
        self.groups = [
            (
                torch.tensor([row for row, _ in pairs], device=hidden.device),
                [image for _, image in pairs],
                [self.images[image][1] for _, image in pairs],
            )
            for pairs in by_count.values()
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

        return attend_with(edited, torch.cat([rows for rows, _, _ in self.groups]), query, *args, **kwargs)

    def _check_nothing_escaped(self) -> None:
        if missed := [name for name in self.trace.layers if name not in self.caught]:
            raise AttnregError(
                f"expected {len(self.trace.layers)} regulated layers to run in step {self.step}, got none of "
                f"{', '.join(missed)}; something skips them (cached features? a compilation older than the "
                "regulation? then call torch.compiler.reset())"
            )

    def warn_if_nothing_ran(self) -> None:
        """For the end of a block that raised nothing: a prompt that was encoded should have been drawn."""
        if self.images and self.step < 0:
            warnings.warn(
                "attnreg: the prompt was encoded but the regulated denoiser never ran: the picture, if there is one, "
                "was not regulated",
                stacklevel=3,
            )


def _same(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.equal(first, second.to(first))


def _is_list(entry: Any) -> bool:
    """Whether an entry of `targets` is a prompt's own list (or None for "find them"), not one target."""
    return (
        entry is None
        or isinstance(entry, list)
        or (isinstance(entry, tuple) and any(not isinstance(part, Integral) for part in entry))
    )
