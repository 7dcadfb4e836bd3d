"""What the app takes at most: it may be open to several people, and they share one machine."""

from __future__ import annotations

MOST_LETTERS = 2_000
"""Of a prompt and of a negative prompt: text encoders read some hundred tokens."""
MOST_TARGETS, MOST_LETTERS_OF_TARGET = 32, 200
MOST_SEEDS = 16
"""Of one drawing."""
MOST_STEPS = 200
LEAST_SIDE, MOST_SIDE = 32, 2048
"""Pixels of a picture's side."""
MOST_WAITING = 32
"""Drawings in the queue, of all people."""
MOST_WAITING_OF_ONE = 4
"""Of one page."""
MOST_REMEMBERED = 200
"""Drawings that pages may ask about when they are done; older ones are in the history."""
MOST_JSON = 64 << 10
"""Bytes of a request."""
MOST_PNG = 64 << 20
"""Bytes of a picture that is dropped in: one of 2048 x 2048 pixels has 13 million at the most."""
HISTORY_AT_ONCE = 24
"""Drawings that the history tells at a time."""
