"""Every way to make a model heed its prompt, behind one interface: a name, a frozen config, an edit."""

from __future__ import annotations

from attnreg.methods.attention_scaling import AttentionScaling
from attnreg.methods.method import Method
from attnreg.regulation.config import AttentionRegulation
from attnreg.regulation.reference import ReferenceRegulation

METHODS: dict[str, Method] = {
    "none": Method(None, "the unmodified model", ""),
    "attention-regulation": Method(
        AttentionRegulation,
        "solves for a smooth edit of the targets' logits that gives each its share of the picture",
        "Zhang et al., ECCV 2024, arXiv:2403.06381",
    ),
    "attention-regulation:reference": Method(
        ReferenceRegulation,
        "the same as its authors' public code runs it, to the letter",
        "Zhang et al., ECCV 2024, arXiv:2403.06381",
    ),
    "attention-scaling": Method(
        AttentionScaling,
        "adds a constant to the targets' logits: the baseline that every optimisation must beat",
        "",
    ),
}
"""Name -> method. A new one is a file, a line here and a test."""
