"""Diffusers' modular pipelines, seen as ordinary ones: blocks that hand on a state, and a guider that asks each time.

Such a pipeline has no `encode_prompt`: one of its blocks makes the embeddings. While a regulation is installed, a
stand-in takes that block's place in the tree of blocks, and tells what the block received and what it made.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import wraps
from typing import Any

from torch import Tensor

from attnreg.attention.families.family import Embeddings, Family
from attnreg.attention.layers.stand_in import eagerly
from attnreg.types import AttnregError

FAMILIES = ("Stable Diffusion", "Stable Diffusion 3", "FLUX", "Qwen-Image", "Z-Image")
"""Those whose modular pipelines are tested; of Stable Diffusion's there are SDXL's alone."""
KINDS = frozenset({"logits", "probabilities", "attention"})
"""What can be edited there: the other kinds encode texts of their own, or need the whole of a guided step at once."""


def as_ordinary(pipe: Any) -> Any:
    """A modular pipeline as the ordinary one that all else expects; any other pipeline as it is.

    Args:
        pipe: a pipeline of diffusers.

    Returns:
        The pipeline, or an `OrdinaryPipeline`: of a regulated one the very one that it is regulated through.
    """
    if not any(base.__name__ == "ModularPipeline" for base in type(pipe).__mro__):
        return pipe
    for _, _, block in _encoding(pipe._blocks):
        while isinstance(block, EncodingBlock):
            if block.ordinary.pipe is pipe:
                return block.ordinary
            block = block.block
    # Messages name a pipeline by its class.
    return type(type(pipe).__name__, (OrdinaryPipeline,), {})(pipe)


class OrdinaryPipeline:
    """Has what the pipeline has, and `encode_prompt`."""

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe
        """The modular pipeline."""
        self.denoiser = ""
        """The attribute that holds its denoiser."""
        self.block: Any = None
        """The block that has encoded the prompt."""
        self.state: Any = None
        """What the blocks hand on while a picture is drawn."""
        self.places: list[tuple[dict[str, Any], str, EncodingBlock]] = []
        """Where a stand-in has taken a block's place, and which."""

    def __getattr__(self, name: str) -> Any:
        """Of the pipeline; or of the block that has encoded, which may hold what an ordinary pipeline would."""
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.pipe, name) if hasattr(self.pipe, name) else getattr(self.block, name)

    def family(self, family: Family, beside: Any) -> Family:
        """The pipeline's family as its modular pipelines are: guided in calls of their own.

        Args:
            family: as it is in ordinary pipelines.
            beside: the words of embeddings that were made elsewhere, if the caller tells them.

        Raises:
            AttnregError: it has not been tried, no block of the pipeline encodes a prompt, or embeddings are to be
                given in its place.
        """
        name = type(self.pipe).__name__
        if beside is not None:
            raise AttnregError(
                f"prompt: expected none, got {beside!r} for {name}, whose own block encodes the prompt that it is "
                "given; leave prompt out"
            )
        if family.name not in FAMILIES:
            raise AttnregError(
                f"expected a modular pipeline of {', '.join(FAMILIES)}, got {name} of {family.name}, whose blocks have "
                "not been tried; make the family's ordinary pipeline of the same components, and regulate that"
            )
        if not list(_encoding(self.pipe._blocks)):
            raise AttnregError(
                f"expected a modular pipeline with a block that encodes the prompt, got {name} without: where a word "
                "stands is read from what the text encoders receive; draw with a pipeline that has this block too"
            )
        self.denoiser = family.denoiser
        return replace(
            family, name=f"{family.name} in a modular pipeline", negative=1, apart=True, kinds=family.kinds & KINDS
        )

    @property
    def num_timesteps(self) -> int | None:
        """How many times the picture is denoised, if the blocks have said so: fewer where it begins from a picture."""
        times = None if self.state is None else self.state.get("timesteps")
        return None if times is None else len(times)

    def encode_prompt(self, prompt: Any, prompt_2: Any, prompt_3: Any, block: Any, state: Any) -> tuple[Any, ...]:
        """What the block that encodes makes of the state, which holds the prompts.

        Args:
            prompt: the prompts, as the block finds them in the state.
            prompt_2: those for a further text encoder.
            prompt_3: those for a third one.
            block: the pipeline's own.
            state: what the blocks hand on; what the block makes is put there, too.

        Returns:
            The embeddings of the prompts, and those of the negative ones or `None`, one an image.
        """
        self.block, self.state = block, state
        block(self.pipe, state)
        each = int(state.get("num_images_per_prompt") or 1)
        negative = state.get("negative_prompt_embeds")
        return _repeated(state.get("prompt_embeds"), each), None if negative is None else _repeated(negative, each)

    def enter(self) -> None:
        """Let stand-ins take the place of the blocks that encode."""
        if self.places:
            return
        for blocks, name, block in list(_encoding(self.pipe._blocks)):
            stand_in = EncodingBlock(self, block)
            blocks[name] = stand_in
            self.places.append((blocks, name, stand_in))

    def leave(self) -> None:
        """Put the very blocks back. A stand-in of another pipeline that shares them keeps its place."""
        while self.places:
            blocks, name, stand_in = self.places.pop()
            on_top = blocks.get(name)
            if on_top is stand_in:
                blocks[name] = stand_in.block
            while isinstance(on_top, EncodingBlock):
                if on_top.block is stand_in:
                    on_top.block = stand_in.block
                on_top = on_top.block
        self.state = None

    def around_denoiser(self, replaced: Callable[..., Any]) -> Callable[..., Any]:
        """What replaces the denoiser's forward, but for what a guider asks beside the prompt's own prediction.

        A guider asks for one prediction after the other, the prompt's own first: then without the prompt, with layers
        left out, with attention perturbed. These are left alone and are no steps.
        """

        def replace_forward(original: Callable[..., Any]) -> Callable[..., Any]:
            stand_in = replaced(original)

            @wraps(original)
            def forward(*args: Any, **kwargs: Any) -> Any:
                return (original if self._is_aside() else stand_in)(*args, **kwargs)

            return eagerly(forward, within=False)

        return replace_forward

    def _is_aside(self) -> bool:
        guider = getattr(self.pipe, "guider", None)
        return guider is not None and guider.get_state()["count_prepared"] > 1


class EncodingBlock:
    """Stands for a block that encodes, where the pipeline's other blocks are; a copy of the blocks comes without it."""

    def __init__(self, ordinary: OrdinaryPipeline, block: Any) -> None:
        self.ordinary, self.block = ordinary, block

    def __getattr__(self, name: str) -> Any:
        """Of the block."""
        if name.startswith("__") or name == "block":
            raise AttributeError(name)
        return getattr(self.block, name)

    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        """As the block, and told of."""
        ordinary = self.ordinary
        if components is not ordinary.pipe:
            # Pipelines of one class may share their blocks.
            own = getattr(ordinary.pipe, ordinary.denoiser)
            if getattr(components, ordinary.denoiser, None) is own:
                raise AttnregError(
                    f"expected the {type(ordinary.pipe).__name__} that was regulated to draw, got a copy, whose steps "
                    "are not its; apply the regulation to the copy, or copy the pipeline before"
                )
            result: tuple[Any, Any] = self.block(components, state)
            return result
        ordinary.encode_prompt(state.get("prompt"), state.get("prompt_2"), state.get("prompt_3"), self.block, state)
        return components, state

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(self.block, memo)


def _encoding(block: Any) -> Iterator[tuple[dict[str, Any], str, Any]]:
    """The blocks under a block that make the prompt's embeddings of its words: in which blocks, by which name."""
    for name, inner in (getattr(block, "sub_blocks", None) or {}).items():
        if getattr(inner, "sub_blocks", None):
            yield from _encoding(inner)
        elif "prompt" in inner.input_names and "prompt_embeds" in inner.intermediate_output_names:
            yield block.sub_blocks, name, inner


def _repeated(embeddings: Embeddings, each: int) -> Embeddings:
    """One an image, where a prompt is drawn so many times."""
    if isinstance(embeddings, Tensor):
        return embeddings.repeat_interleave(each, 0)
    return [one for one in embeddings for _ in range(each)]
