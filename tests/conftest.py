"""Checks every shape annotation of the package while its tests run, and makes the property tests repeatable."""

import os

# Before anything imports Triton: the kernels for CUDA are run by its interpreter, which needs no GPU.
os.environ.setdefault("TRITON_INTERPRET", "1")

from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

# Before the first import of attnreg, for only modules imported later are checked. As everywhere in Python's typing, an
# int will do where a float is expected.
install_import_hook("attnreg", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

settings.register_profile(
    "repeatable", deadline=None, derandomize=True, max_examples=25, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")
