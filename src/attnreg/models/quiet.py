"""What diffusers and transformers tell while they load is no part of our account."""

from __future__ import annotations

import os

from attnreg.models.collecting import without_collecting


def quiet_libraries() -> None:
    """Load both without their remarks and their bars. Called where one of them is needed, and no earlier."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    with without_collecting():
        import diffusers
        import transformers

        # Other names of diffusers are imported when they are asked for; with this one comes most of what it is made of.
        assert diffusers.DiffusionPipeline

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
