"""The libraries that take seconds to load, for the commands that draw: of an own process, no more than it needs."""

from __future__ import annotations

import click

OURS = "a process that runs one command and ends"
"""The object of click's context where `attnreg` was called as a command; elsewhere there is none."""


def load_libraries(model: str | None = None) -> None:
    """Load diffusers and transformers without their remarks.

    Args:
        model: the one that is drawn with and no other, where it is known.
    """
    context = click.get_current_context(silent=True)
    if context is not None and context.obj is OURS:
        from attnreg.models.starting import libraries_for

        libraries_for(model)
        return
    from attnreg.models.quiet import quiet_libraries

    quiet_libraries()
