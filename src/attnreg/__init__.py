"""attnreg makes text-to-image diffusion models heed every word of a prompt, at inference time, without training."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnreg.attention.regulate import apply_attention_regulation, regulate, remove_attention_regulation, watch
    from attnreg.methods import METHODS
    from attnreg.models.load import load_pipeline
    from attnreg.regulation.balance import AttentionBalance
    from attnreg.regulation.config import AttentionRegulation
    from attnreg.regulation.reference import ReferenceRegulation
    from attnreg.sampling import configure, generate
    from attnreg.trace import Sample, Trace
    from attnreg.types import AttnregError, Target

__all__ = [
    "METHODS",
    "AttentionBalance",
    "AttentionRegulation",
    "AttnregError",
    "ReferenceRegulation",
    "Sample",
    "Target",
    "Trace",
    "apply_attention_regulation",
    "configure",
    "generate",
    "load_pipeline",
    "regulate",
    "remove_attention_regulation",
    "watch",
]

_HOME = {
    "METHODS": "methods",
    "AttentionBalance": "regulation.balance",
    "AttentionRegulation": "regulation.config",
    "AttnregError": "types",
    "ReferenceRegulation": "regulation.reference",
    "Sample": "trace",
    "Target": "types",
    "Trace": "trace",
    "apply_attention_regulation": "attention.regulate",
    "configure": "sampling",
    "generate": "sampling",
    "load_pipeline": "models.load",
    "regulate": "attention.regulate",
    "remove_attention_regulation": "attention.regulate",
    "watch": "attention.regulate",
}


def __getattr__(name: str) -> Any:
    # Imported when first asked for: the command line answers --help without loading diffusers.
    if name not in _HOME:
        raise AttributeError(f"module 'attnreg' has no attribute {name!r}")
    value = getattr(import_module(f"attnreg.{_HOME[name]}"), name)
    globals()[name] = value
    return value
