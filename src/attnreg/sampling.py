"""Draw one picture: a pipeline, a prompt, a method and a seed give a picture and the account of how it came about."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from attnreg.attention.calls.edits import Unedited, edits_of
from attnreg.attention.installation import Edit, Targets
from attnreg.attention.regulate import regulate
from attnreg.methods import METHODS
from attnreg.methods.setting import Setting
from attnreg.models.defaults import check_size, options_for, picture_of
from attnreg.regulation.kinds import Composed
from attnreg.trace import Sample, Trace
from attnreg.types import AttnregError
from attnreg.watching import Watch, watched


def configure(method: str, settings: dict[str, Any] | None = None) -> Edit | None:
    """The edit of a method, by name, with some settings of its own.

    Args:
        method: a name of `METHODS`, or several joined by "+": "prompt-weighting+attention-balance".
        settings: name -> value. Of several methods, each that has a setting gets it.

    Returns:
        What `regulate(pipe, config=...)` and `generate` take; `None` for "none".

    Raises:
        AttnregError: an unknown method, a setting that no method has, a value out of its range, or methods that change
            the same part of the model.
    """
    names = _names(method)
    # In a picture's recipe a tuple has become a list.
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in (settings or {}).items()}
    settings_of(method, given)
    edits = [
        config(**{one: value for one, value in given.items() if one in METHODS[name].settings()})
        for name in names
        if (config := METHODS[name].config)
    ]
    if len(edits) < 2:
        return edits[0] if edits else None
    composed = Composed(tuple(edits))
    edits_of(composed)  # says what does not go together, before a model is loaded
    return composed


def read_settings(method: str, written: Mapping[str, str]) -> dict[str, Any]:
    """Settings of a method as a command line has them: {"window": "0,0.5"} -> {"window": (0.0, 0.5)}.

    Raises `AttnregError` as `configure`, and for a text that is no value of the setting.
    """
    known = settings_of(method, written)
    return {name: known[name].read(text) for name, text in written.items()}


def settings_of(method: str, asked: Iterable[str] = ()) -> dict[str, Setting]:
    """The settings of a method, or of all that are joined by "+"; of two of one name the first.

    Raises `AttnregError` for an unknown method, and if one that is asked for is not among them.
    """
    known: dict[str, Setting] = {}
    for part in _names(method):
        known |= {name: one for name, one in METHODS[part].settings().items() if name not in known}
    if foreign := next((name for name in asked if name not in known), ""):
        close = difflib.get_close_matches(foreign, known, n=1)
        having = [name for name, one in METHODS.items() if foreign in one.settings()]
        advice = f"did you mean {close[0]}?" if close else "leave it out"
        if having and not close:
            advice += f", or choose a method that has it, such as {having[0]}"
        raise AttnregError(
            f"expected settings of {method} ({', '.join(known) or 'it has none'}), got {foreign}; {advice}"
        )
    return known


def _names(method: str) -> list[str]:
    names = method.split("+")
    if unknown := [name for name in names if name not in METHODS]:
        raise AttnregError(
            f"expected a method of {', '.join(METHODS)}, or several joined by +, got {unknown[0]!r}; choose one of them"
        )
    return names


def generate(
    pipe: Any,
    prompt: str,
    edit: Edit | None,
    *,
    seed: int = 0,
    targets: Targets = None,
    adjectives: bool = True,
    maps: bool = False,
    watch: Watch | None = None,
    family: str | None = None,
    **options: Any,
) -> Sample:
    """Draw one picture. The seed alone decides it: the same seed gives the same picture in any company.

    Args:
        pipe: a pipeline, from `load_pipeline` or of diffusers.
        prompt: what to draw.
        edit: what regulates it, from `configure` or a config such as `AttentionBalance()`. `None`: nothing.
        seed: of the initial noise, drawn on the CPU.
        targets: as in `regulate`.
        adjectives: as in `regulate`.
        maps: whether the trace keeps where in the picture each target's attention lay (`Trace.seen`), edited or not.
        watch: told how far the picture is, in place of the progress bar; what it raises ends the picture (`watching`).
        family: of the model, where its denoiser's class does not tell it, or "probe"; as in `regulate`.
        options: the pipeline's own: num_inference_steps, guidance_scale, negative_prompt, height and width in pixels,
            and so on. Those that are `None` are left to the pipeline. One side of the picture may be given: the other
            is the model's own.

    Returns:
        The picture, its trace, and the seconds that the pipeline's call took.

    Raises:
        AttnregError: as `regulate`; or the size is none that the model draws.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    given = options_for(pipe, options)
    with (
        watched(pipe, watch) if watch else nullcontext(),
        _watched(pipe, targets, edit, adjectives, maps, family) as trace,
    ):
        began = time.perf_counter()
        picture = picture_of(pipe(prompt=prompt, generator=generator, **given))
        seconds = time.perf_counter() - began
    check_size(pipe, picture, given)
    return Sample(prompt, seed, picture, trace, seconds)


@contextmanager
def _watched(
    pipe: Any, targets: Targets, edit: Edit | None, adjectives: bool, maps: bool, family: str | None
) -> Iterator[Trace]:
    if edit is None and not maps:
        yield Trace()
    else:
        with regulate(
            pipe, targets, Unedited() if edit is None else edit, adjectives=adjectives, maps=maps, family=family
        ) as trace:
            yield trace
