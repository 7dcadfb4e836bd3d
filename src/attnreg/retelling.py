"""A recipe as others would run it: as a command of the shell, and as a few lines of Python."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from attnreg.errors import AttnregError
from attnreg.methods.setting import written
from attnreg.recipe import Recipe
from attnreg.seeds import seeds_text
from attnreg.shown import told

_OPTIONS = ("steps", "guidance_scale", "negative_prompt", "height", "width", "scheduler")
_CALL = {"steps": "num_inference_steps"} | {name: name for name in _OPTIONS[1:-1]}
"""Fields of a recipe -> arguments of a pipeline's call."""


def as_command(recipe: Recipe, seeds: Sequence[int]) -> str:
    """The `attnreg generate` that draws a recipe's pictures, quoted for a POSIX shell.

    Args:
        recipe: what is drawn; its own seed counts for nothing.
        seeds: one picture each.

    Raises:
        AttnregError: a target is told by its token columns, for which the command has no word.
    """
    words = ["attnreg", "generate", *_named("--targets", recipe.targets)]
    if not recipe.adjectives:
        words.append("--no-adjectives")
    words += ["--model", recipe.model, "--method", recipe.method]
    for name, value in recipe.settings.items():
        words += ["--set", f"{name}={written(value)}"]
    words += ["--seeds", seeds_text(seeds)]
    for name in _OPTIONS:
        if (value := getattr(recipe, name)) is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    if recipe.dtype != "auto":
        words += ["--dtype", recipe.dtype]
    return shlex.join([*words, "--", recipe.prompt])


def as_python(recipe: Recipe, seeds: Sequence[int]) -> str:
    """The Python that draws a recipe's pictures and saves them; arguments as of `as_command`."""
    scheduler = [f"set_scheduler(pipe, {recipe.scheduler!r})"] if recipe.scheduler else []
    given: list[str] = [f"{recipe.prompt!r}", "edit", "seed=seed"]
    if recipe.targets is not None:
        given.append(f"targets={recipe.targets!r}")
    if not recipe.adjectives:
        given.append("adjectives=False")
    given += [f"{name}={value!r}" for field, name in _CALL.items() if (value := getattr(recipe, field)) is not None]
    settings = f", {recipe.settings!r}" if recipe.settings else ""
    call = "".join(f"        {one},\n" for one in given)
    lines = [
        "from attnreg import configure, generate, load_pipeline",
        *(["from attnreg.models.load import set_scheduler"] if scheduler else []),
        "",
        f"pipe = load_pipeline({recipe.model!r}, dtype={recipe.dtype!r})",
        *scheduler,
        f"edit = configure({recipe.method!r}{settings})",
        f"for seed in {list(seeds)!r}:",
        f"    sample = generate(\n        pipe,\n{call}    )",
        '    sample.picture.save(f"seed{seed}.png")',
    ]
    return "\n".join(lines) + "\n"


def _named(option: str, targets: list[Any] | None) -> list[str]:
    words: list[str] = []
    for target in targets or ():
        if not isinstance(target, str):
            raise AttnregError(
                f"expected targets as words of the prompt, got {told(target)}; the command takes no token columns, "
                "Python does"
            )
        words += [option, target]
    return words
