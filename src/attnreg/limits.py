"""What is too much: more is a slip of the finger."""

from __future__ import annotations

MOST_STEPS = 1000
"""Denoising steps of a picture: schedulers are trained on so many."""
