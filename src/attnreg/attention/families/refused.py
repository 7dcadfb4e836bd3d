"""Denoisers that cannot be regulated, and why: what diffusers has beside the families."""

from __future__ import annotations

VECTOR = "what a prior made of the prompt is one vector, and no word has a place there"

REFUSED = {
    "GlmImageTransformer2DModel": "the words of the prompt go to another model; "
    "its attention is given those in quotes alone",
    "BriaFibo2Transformer2DModel": "beside the picture a summary of the prompt attends to the words; no adapter tells "
    "them apart yet",
    "OmniGenTransformer2DModel": "it reads the prompt itself, and its pipeline has no encode_prompt to read it by",
    "PriorTransformer": "it draws no picture but a vector, and has no map for a word to be looked at from",
    "DiTTransformer2DModel": "it draws one of a list of classes and reads no prompt",
    "UNet2DModel": "it has no attention over a text",
    "UNetSpatioTemporalConditionModel": "it looks at a picture instead of words",
}
"""A denoiser's class -> half a sentence."""
