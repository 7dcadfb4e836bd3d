"""Regulate an unmodified diffusers pipeline: as a context manager, or by an apply / remove pair."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from attnreg.attention.calls.edits import Unedited
from attnreg.attention.installation import Edit, Installation, Targets, carried, installed_on
from attnreg.trace import Trace


def apply_attention_regulation(
    pipe: Any,
    config: Edit | None = None,
    *,
    targets: Targets = None,
    adjectives: bool = True,
    maps: bool = False,
    family: str | None = None,
    prompt: str | Sequence[str] | None = None,
) -> Trace:
    """Regulate a pipeline until `remove_attention_regulation`; a second call takes the place of the first.

    Args:
        pipe: an unmodified diffusers pipeline of a family in `attnreg.attention.families.FAMILIES`.
        config: as in `regulate`.
        targets: as in `regulate`.
        adjectives: as in `regulate`.
        maps: as in `regulate`.
        family: as in `regulate`.
        prompt: as in `regulate`.

    Returns:
        The trace that each call of the pipeline fills anew.

    Raises:
        AttnregError: the pipeline, a layer or a target cannot be regulated. Nothing was touched then.
    """
    installation = Installation(pipe, config, targets, adjectives, maps, family, prompt)
    if previous := installed_on(pipe, family):
        previous.remove()
    installation.install()
    return installation.trace


def remove_attention_regulation(pipe: Any) -> None:
    """Undo `apply_attention_regulation`: the pipeline holds the very objects that it held before.

    Args:
        pipe: the pipeline. Without a regulation, nothing happens.

    Raises:
        AttnregError: its denoiser is regulated through another pipeline.
    """
    # One whose family was named carries what was installed: there is no need to be told again.
    if installation := carried(pipe) or installed_on(pipe):
        installation.remove()


@contextmanager
def regulate(
    pipe: Any,
    targets: Targets = None,
    config: Edit | None = None,
    *,
    adjectives: bool = True,
    maps: bool = False,
    family: str | None = None,
    prompt: str | Sequence[str] | None = None,
) -> Iterator[Trace]:
    """Regulate a pipeline inside a block: `with regulate(pipe) as trace: pipe("a cat and a dog")`.

    Afterwards, and after any exception, the pipeline is as it was, including a regulation applied before the block.

    Args:
        pipe: an unmodified diffusers pipeline of a family in `attnreg.attention.families.FAMILIES`.
        targets: what the picture must show: words or phrases of the prompt ("apple", "blue umbrella", "dog#2" for the
            second dog), or token columns; one list for all prompts, or a list of lists, one a prompt. `None`: the noun
            phrases of each prompt.
        config: the edit, or several that were `Composed`. `None`: `Auto()`, the best that works in this run.
        adjectives: whether the adjectives of noun phrases found automatically belong to their target.
        maps: whether the trace is to tell where in the picture each target's attention lay (`trace.seen`, `trace.plot`,
            `trace.neglected`). The picture is the same.
        family: a name of `FAMILIES`, for a denoiser whose class is in none; "probe" finds out what it looks at, for
            three more calls of the denoiser for pictures of a size and some of the text encoders (docs/models.md).
        prompt: the words, one text an image, of `prompt_embeds` that the pipeline is given in the place of words.
            `None`: such embeddings need targets that are token columns.

    Yields:
        The trace of the pipeline's last call, filled while it samples.

    Raises:
        AttnregError: the pipeline, a layer or a target cannot be regulated; or, in the midst of a picture, a layer that
            should have been regulated was not.
    """
    installation = Installation(pipe, config, targets, adjectives, maps, family, prompt)
    installation.block = True
    previous = installed_on(pipe, family)
    if previous:
        previous.remove()
    try:
        installation.install()
        yield installation.trace
        if installation.run.drew_nothing:  # a prompt that was encoded should have been drawn
            warnings.warn(
                "attnreg: the prompt was encoded but the regulated denoiser never ran: the picture, if there is one, "
                "was not regulated",
                stacklevel=3,
            )
    finally:
        installation.closed = True
        if (now := carried(pipe)) and now is not installation and not now.block:  # applied inside, in its place
            now.remove()
        installation.remove()
        if previous and not previous.closed and carried(pipe) is None:
            previous.install()


@contextmanager
def watch(
    pipe: Any,
    targets: Targets = None,
    *,
    adjectives: bool = True,
    layers: Sequence[str] = ("auto",),
    family: str | None = None,
) -> Iterator[Trace]:
    """`with watch(pipe) as trace: pipe("a cat and a dog")`: what the model attends to; nothing is changed.

    Args:
        pipe: an unmodified diffusers pipeline of a family in `attnreg.attention.families.FAMILIES`.
        targets: which words or phrases of the prompt are looked for; as of `regulate`.
        adjectives: whether the adjectives of phrases found automatically belong to their target.
        layers: which layers are looked at: their names, "auto" or "all".
        family: as of `regulate`.

    Returns:
        The trace that the last call of the pipeline fills: `trace.seen()`, `trace.plot()`, `trace.neglected()`.

    Raises:
        AttnregError: as `regulate`.
    """
    with regulate(pipe, targets, Unedited(tuple(layers)), adjectives=adjectives, maps=True, family=family) as trace:
        yield trace
