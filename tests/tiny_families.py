"""Every transformer family with a tiny pipeline, from the modules that build them: what tests are parametrised by."""

from __future__ import annotations

import tiny_flux_like
import tiny_transformers

FAMILIES = tiny_transformers.FAMILIES | tiny_flux_like.FAMILIES
"""Family, or family and variant -> a tiny pipeline of it."""
VARIANTS = tiny_flux_like.VARIANTS
"""Those that share their family with another -> the family."""
