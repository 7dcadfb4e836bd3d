"""Every family's tiny pipeline, and what it is drawn with: the one list that tests of families go through."""

from __future__ import annotations

from typing import Any

import tiny_cross
import tiny_transformers

FAMILIES = {**tiny_transformers.FAMILIES, **tiny_cross.FAMILIES}
"""Family -> a tiny pipeline of it; Stable Diffusion's own are in `tiny`."""

SMALL: dict[str, dict[str, Any]] = {
    "Stable Diffusion 3": {"height": 32, "width": 48, "max_sequence_length": 16},
    "FLUX": {"height": 32, "width": 48, "max_sequence_length": 16, "true_cfg_scale": 2.0, "negative_prompt": "a dog"},
    "PixArt": {"height": 64, "width": 96, "max_sequence_length": 16, "use_resolution_binning": False},
    "Sana": {"height": 32, "width": 64, "max_sequence_length": 48, "use_resolution_binning": False},
    "Qwen-Image": {"height": 32, "width": 48, "true_cfg_scale": 2.0, "negative_prompt": "a dog and a very red car"},
    "Z-Image": {"height": 32, "width": 48, "max_sequence_length": 64},
    **tiny_cross.SMALL,
}
"""Not square, and guided: with a negative prompt in the same call or in one of its own."""
