"""What a method is to those who list, configure and run it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from attnreg.regulation.edit import LogitEdit


@dataclass(frozen=True)
class Method:
    """A row of `METHODS`."""

    config: Callable[..., LogitEdit] | None
    """The frozen dataclass of its settings, itself the edit; `None` for the unmodified model."""
    summary: str
    paper: str
