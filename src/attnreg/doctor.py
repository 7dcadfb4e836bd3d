"""What is installed, which devices there are, whether the bundled models and their judge are whole."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.util import find_spec

import torch

from attnreg.measure.pocket_weights import damage
from attnreg.models.about import BUNDLED, damaged
from attnreg.phrases.taggers import in_use
from attnreg.recipe import LIBRARIES, installed_version
from attnreg.types import AttnregError

OPTIONAL = {
    "spacy": "another tagger for noun phrases (pip install 'attnreg[spacy]' and an English model)",
    "peft": "LoRA adapters in pipelines (pip install peft)",
}


def examine() -> Iterator[tuple[bool, str]]:
    """Lines of a report, each with whether it is well."""
    yield True, f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    for name in LIBRARIES:
        installed = installed_version(name)
        yield installed is not None, f"{name} {installed or 'is not installed'}"
    yield True, f"cpu: {torch.get_num_threads()} threads"
    for i in range(torch.cuda.device_count()):
        yield True, f"cuda:{i}: {torch.cuda.get_device_name(i)}"
    if torch.backends.mps.is_available():
        yield True, "mps: available"
    for name, use in OPTIONAL.items():
        yield True, f"{name}: {'installed' if find_spec(name) else 'not installed: ' + use}"
    fault = damage()
    yield not fault, f"judge pocket: {f'{fault}; install attnreg again' if fault else 'checksum right'}"
    yield True, f"noun phrases: by {in_use()}"
    for name, folder in BUNDLED.items():
        try:
            broken = damaged(folder)
        except (OSError, AttnregError) as error:
            yield False, f"model {name}: cannot be read ({error}); install attnreg again"
        else:
            yield (
                not broken,
                f"model {name}: "
                + (f"damaged ({', '.join(broken)}); install attnreg again" if broken else "all checksums right"),
            )
