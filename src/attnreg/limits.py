"""What is too much: more is a slip of the finger."""

from __future__ import annotations

MOST_STEPS = 1000
"""Denoising steps of a picture: schedulers are trained on so many."""
MOST_SIDE = 8192
"""Pixels of a picture's side: more fills the memory of any device."""
MOST_GUIDANCE = 10_000.0
"""Classifier-free guidance."""
MOST_SEEDS = 10_000
"""Seeds at once."""
MOST_RESAMPLES = 100_000
"""Of a bootstrap: the ends of an interval move by less than its last digit."""
MOST_AT_ONCE = 10_000
"""Workers, pictures that a judge sees at a time, prompts and rows of a page."""
MOST_NAMES = 1_000
"""Of each list: methods, models, judges."""
LARGEST = 2**63 - 1
"""Of whole numbers: generators and databases take no larger ones."""
