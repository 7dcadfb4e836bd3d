"""Denoisers whose attention no word reaches: why each cannot be regulated."""

from __future__ import annotations

VECTOR = "what a prior made of the prompt is one vector, and no word has a place there"

WORDLESS: dict[str, str] = {
    "PriorTransformer": "it draws no picture but a vector, and has no map for a word to be looked at from",
    "DiTTransformer2DModel": "it draws one of a list of classes and reads no prompt",
    "UNet2DModel": "it has no attention over a text",
    "UNetSpatioTemporalConditionModel": "it looks at a picture instead of words",
}
"""Class of the denoiser -> what the prompt is to it."""
