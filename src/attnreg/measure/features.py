"""Features of whole sets of pictures, by name: what the distances between sets are computed from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from attnreg.devices import check_device
from attnreg.measure.weights import find_weights
from attnreg.types import AttnregError

Features = Callable[[Sequence[Any]], Float[np.ndarray, "image channel"]]
"""PIL pictures -> one row each."""


def open_features(name: str, weights: str | None = None, device: str = "auto", download: bool = False) -> Features:
    """The extractor of that name, ready.

    weights: where its networks are, as `attnreg.measure.weights.Source` says. download: whether the hub may be asked.
    Raises `AttnregError` for a name that is not in `FEATURES`, and if weights are missing.
    """
    if name not in FEATURES:
        raise AttnregError(f"expected features of {', '.join(FEATURES)}, got {name!r}; choose one of them")
    return FEATURES[name](weights, device, download)


def _pocket(weights: str | None, device: str, download: bool) -> Features:
    from attnreg.measure.pocket import PocketJudge

    if weights is not None:
        raise AttnregError(f"expected no weights for the features pocket, got {weights!r}; they are in the package")
    return PocketJudge(device=check_device(device)).features


def _clip(weights: str | None, device: str, download: bool) -> Features:
    from attnreg.measure.clip import ClipEncoder, picture_features

    if weights is None:
        # CMMD is defined on ViT-L/14 at 336 pixels and FID-like numbers on others differ: no network is the usual one.
        raise AttnregError(
            "expected the weights of a CLIP model for the features clip, got none; give --weights DIRECTORY or a hub id"
        )
    encoder = ClipEncoder(find_weights(weights, {"clip": ""}, device, download))
    return lambda pictures: picture_features(encoder, pictures).numpy()


FEATURES: Mapping[str, Callable[[str | None, str, bool], Features]] = {"pocket": _pocket, "clip": _clip}
