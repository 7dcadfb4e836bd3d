"""attnreg makes text-to-image diffusion models heed every word of a prompt, at inference time, without training."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnreg.attention.regulate import apply_attention_regulation, regulate, remove_attention_regulation
    from attnreg.methods import METHODS
    from attnreg.models.load import load_pipeline
    from attnreg.regulation.balance import AttentionBalance
    from attnreg.regulation.config import AttentionRegulation
    from attnreg.regulation.reference import ReferenceRegulation
    from attnreg.sampling import configure, generate
    from attnreg.types import AttnregError, Sample, Target, Trace

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
]

_HOME = {
    "METHODS": "methods",
    "AttentionBalance": "regulation.balance",
    "AttentionRegulation": "regulation.config",
    "AttnregError": "types",
    "ReferenceRegulation": "regulation.reference",
    "Sample": "types",
    "Target": "types",
    "Trace": "types",
    "apply_attention_regulation": "attention.regulate",
    "configure": "sampling",
    "generate": "sampling",
    "load_pipeline": "models.load",
    "regulate": "attention.regulate",
    "remove_attention_regulation": "attention.regulate",
}


def __getattr__(name: str) -> Any:
    # Imported when first asked for: the command line answers --help without loading diffusers.
    if name not in _HOME:
        raise AttributeError(f"module 'attnreg' has no attribute {name!r}")
    value = getattr(import_module(f"attnreg.{_HOME[name]}"), name)
    globals()[name] = value
    return value
