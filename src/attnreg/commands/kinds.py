"""What kinds of values options take, with their bounds: numbers, and names of files that a file can have."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from attnreg.errors import AttnregError
from attnreg.limits import LARGEST, MOST_AT_ONCE, MOST_GUIDANCE, MOST_RESAMPLES, MOST_SIDE, MOST_STEPS
from attnreg.reading import path_of


class NumberRange(click.FloatRange):
    """As `click.FloatRange`, of which "nan" is no member."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """The number."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


COUNT = click.IntRange(1, MOST_AT_ONCE)
COUNT_OR_NONE = click.IntRange(0, MOST_AT_ONCE)
PROMPTS = click.IntRange(1, LARGEST)
"""Of a set, which may be large."""
SEED = click.IntRange(0, LARGEST)
STEPS = click.IntRange(1, MOST_STEPS)
SIDE = click.IntRange(8, MOST_SIDE)
RESAMPLES = click.IntRange(100, MOST_RESAMPLES)
FEW_RESAMPLES = click.IntRange(20, MOST_RESAMPLES)
"""Where each of them takes long."""
GUIDANCE = NumberRange(0, MOST_GUIDANCE)


class PathName(click.Path):
    """As `click.Path`, with `~` for the home folder; a name that no file can have is a usage error."""

    def __init__(self, **options: Any) -> None:
        super().__init__(path_type=Path, **options)

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """The path."""
        try:
            path = path_of(value)
            return super().convert(path, param, ctx)
        except (AttnregError, OSError) as error:
            self.fail(str(error), param, ctx)


FILE = PathName(dir_okay=False)
FOLDER = PathName(file_okay=False)
