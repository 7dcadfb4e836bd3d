"""No collections of garbage while a model is opened: half a second of a command's processor time before its first step.

The libraries that draw import some four thousand modules: hundreds of thousands of objects, all of which stay, and
would be looked through a thousand times for what may go.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collecting() -> Iterator[None]:
    """Collect nothing for a while; afterwards as before, also if several threads do so at once."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
