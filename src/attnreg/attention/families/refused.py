"""Denoisers that cannot be regulated, and why: what diffusers has beside the families."""

from __future__ import annotations

REFUSED = {
    "GlmImageTransformer2DModel": "the words of the prompt go to another model; "
    "its attention is given those in quotes alone",
    "BriaFibo2Transformer2DModel": "beside the picture a summary of the prompt attends to the words; no adapter tells "
    "them apart yet",
    "OmniGenTransformer2DModel": "it reads the prompt itself, and its pipeline has no encode_prompt to read it by",
}
"""A denoiser's class -> half a sentence."""
