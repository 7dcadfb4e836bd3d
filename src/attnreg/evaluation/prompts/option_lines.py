"""Lines of a prompt file that hold options, as Stable Diffusion web UIs read them: --prompt "a cat" --steps 20."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Iterable, Iterator

from attnreg.evaluation.prompts.reading import Place

MARK = "--"
"""What such a line begins with."""
OF_A_RUN = {
    "negative_prompt": "--negative-prompt",
    "steps": "--steps",
    "cfg_scale": "--guidance-scale",
    "height": "--height",
    "width": "--width",
    "seed": "--seeds",
    "sampler_name": "--scheduler",
    "sampler": "--scheduler",
    "sd_model": "--models",
}
"""Options of the web UI (AUTOMATIC1111, scripts/prompts_from_file.py) -> how they are given to a run, for all of its
prompts."""
NOT_OURS = (
    "batch_size", "n_iter", "styles", "subseed", "subseed_strength", "seed_resize_from_h", "seed_resize_from_w",
    "sampler_index", "restore_faces", "tiling", "do_not_save_samples", "do_not_save_grid", "outpath_samples",
    "outpath_grids", "prompt_for_display",
)  # fmt: skip
"""Its other options."""
SEVERAL_WORDS = ("prompt", "negative_prompt")
"""Those whose text may stand without quotes: it goes on until the next option."""


def texts_of(lines: Iterable[tuple[Place, str]]) -> Iterator[str]:
    """The prompt of each line, whether it stands alone or among options.

    A run draws all prompts alike, so that nothing but the prompt is taken from a line. One warning for the whole file
    names the options that were left out, and how to give them to the run.

    Args:
        lines: the lines of a file, not blank, each with its place.

    Raises:
        AttnregError: a line begins with an option and is no list of options, or has no prompt among them.
    """
    left_out: dict[str, None] = {}
    at: Place | None = None
    for place, line in lines:
        if not line.startswith(MARK):
            yield line
            continue
        options = _options(place, line)
        yield place.text(options, "prompt").strip()
        at = at or place
        left_out |= dict.fromkeys(name for name in options if name != "prompt")
    if at and left_out:
        ours = ", ".join(dict.fromkeys(OF_A_RUN[name] for name in left_out if name in OF_A_RUN))
        warnings.warn(
            f"attnreg: {at.path}: only the prompts are taken, not {', '.join(left_out)}; a run draws all of its "
            f"prompts alike" + (f": give it {ours}" if ours else ""),
            stacklevel=2,
        )


def _options(place: Place, line: str) -> dict[str, str]:
    """Name -> text of every option of a line."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise place.fault("options with their quotes closed", f"{error}: {line}") from error
    found: dict[str, str] = {}
    while words:
        name = words.pop(0).removeprefix(MARK)
        if name not in ("prompt", *OF_A_RUN, *NOT_OURS):
            raise place.fault('a prompt, or --prompt "..." and options of a web UI', f"{MARK}{name}")
        place.wants(name not in found, f"{MARK}{name} once", line)
        place.wants(bool(words), f"a value after {MARK}{name}", line)
        value = [words.pop(0)]
        while words and not words[0].startswith(MARK):
            if name not in SEVERAL_WORDS:
                raise place.fault(f"one value after {MARK}{name}", f"{value[0]} {words[0]}")
            value.append(words.pop(0))
        found[name] = " ".join(value)
    return found
