"""What diffusers and transformers tell while they load is no part of our account."""

from __future__ import annotations

import os


def quiet_libraries() -> None:
    """Load both without their remarks and their bars. Called where one of them is needed, and no earlier."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
