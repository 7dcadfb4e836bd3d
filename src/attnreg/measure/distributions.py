"""How far one set of pictures lies from another: Fréchet distance, kernel distance, CMMD, over features of each.

Numbers are comparable with published ones only on the same features: Inception's pool layer for FID and KID, CLIP
ViT-L/14 at 336 pixels for CMMD. `clip.picture_features` gives CLIP's.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from attnreg.types import AttnregError

Features = Float[np.ndarray, "image channel"]
Others = Float[np.ndarray, "other channel"]
Matrix = Float[np.ndarray, "_ _"]
Kernel = Float[np.ndarray, "image other"]
CMMD_DEVIATION = 10.0
CMMD_SCALE = 1000.0
KID_SUBSET = 1000


def frechet_distance(first: Matrix, second: Matrix) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of the sets' means and covariances (Heusel et al., NeurIPS 2017).

    On Inception features this is FID. The trace of the root is the sum of the singular values of A1 A2^T, where A are
    the centred features divided by the root of their number less one: C1 C2 and (A1 A2^T)(A1 A2^T)^T have the same
    eigenvalues but for zeros. Nothing is rounded to a real number, and few pictures are no trouble.

    Args:
        first: features of one set, picture by channel.
        second: of the other, with as many channels.

    Returns:
        The distance, in the squared units of the features.

    Raises:
        AttnregError: a set has fewer than two pictures, or the channels differ.
    """
    one, other = check_features(first, second)
    offset = one.mean(0) - other.mean(0)
    a, b = ((each - each.mean(0)) / np.sqrt(len(each) - 1) for each in (one, other))
    # Of the triangles of two QR decompositions the product is as small as it can be, and its singular values the same.
    product = np.linalg.qr(a).R @ np.linalg.qr(b).R.T
    root = np.linalg.svd(product, full_matrices=False).S.sum()
    return max(0.0, float(offset @ offset + (a**2).sum() + (b**2).sum() - 2 * root))


def kernel_distance(first: Matrix, second: Matrix) -> float:
    """The unbiased squared discrepancy under the kernel (x.y / channels + 1)^3 (Bińkowski et al., ICLR 2018).

    On Inception features this is KID, over all pictures at once; it may be slightly negative. Published code means it
    over random subsets: see `kernel_distance_of_subsets`.

    Args:
        first: features of one set, picture by channel.
        second: of the other, with as many channels.

    Returns:
        The squared discrepancy; it has no unit.

    Raises:
        AttnregError: a set has fewer than two pictures, or the channels differ.
    """
    one, other = check_features(first, second)
    return _unbiased(_cubic(one, one), _cubic(other, other), _cubic(one, other))


def kernel_distance_of_pairs(first: Matrix, second: Matrix) -> float:
    """The same where row i of both sets belongs together: the pairs' own terms are left out between the sets, too.

    Lemma 6 of Gretton et al. (JMLR 2012): the mean of k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) - k(x_j, y_i), i != j.
    Pictures of one prompt and seed are alike, and `kernel_distance`, which takes the sets for independent, would be far
    below 0 for that alone. Equal sets give 0.

    Raises `AttnregError` if the sets are not of one size.
    """
    one, other = check_features(first, second)
    if len(one) != len(other):
        raise AttnregError(f"expected pairs of pictures, got {len(one)} and {len(other)}; use kernel_distance")
    terms = _cubic(one, one) + _cubic(other, other) - 2 * _cubic(one, other)
    return float((terms.sum() - np.trace(terms)) / (len(one) * (len(one) - 1)))


def kernel_distance_of_subsets(
    first: Matrix, second: Matrix, subsets: int = 100, size: int = KID_SUBSET, seed: int = 0
) -> tuple[float, float]:
    """Mean and standard deviation of `kernel_distance` over random subsets of both sets, drawn without replacement.

    Raises `AttnregError` if a set has fewer pictures than a subset.
    """
    one, other = check_features(first, second)
    if not 2 <= size <= min(len(one), len(other)):
        raise AttnregError(
            f"expected subsets of 2 to {min(len(one), len(other))} pictures, got {size}; take smaller ones or more "
            "pictures"
        )
    draw = np.random.default_rng(seed)
    values = [
        kernel_distance(
            one[draw.choice(len(one), size, replace=False)], other[draw.choice(len(other), size, replace=False)]
        )
        for _ in range(subsets)
    ]
    return float(np.mean(values)), float(np.std(values))


def cmmd(first: Matrix, second: Matrix) -> float:
    """1000 times the squared discrepancy under a Gaussian kernel of deviation 10 (Jayasumana et al., CVPR 2024).

    The features are CLIP's, made unit vectors here. Like the published code, it is the biased estimate: an image meets
    itself in the sums, so equal sets give exactly 0.

    Args:
        first: features of one set, picture by channel.
        second: of the other, with as many channels.

    Returns:
        The discrepancy, times 1000; it has no unit.

    Raises:
        AttnregError: a set has fewer than two pictures, or the channels differ.
    """
    one, other = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in check_features(first, second))
    within = _gaussian(one, one).mean() + _gaussian(other, other).mean()
    return float(CMMD_SCALE * (within - 2 * _gaussian(one, other).mean()))


def check_features(first: Matrix, second: Matrix) -> tuple[Matrix, Matrix]:
    """Both in double precision. Raises `AttnregError` unless there are two pictures each and as many channels."""
    if first.shape[1] != second.shape[1] or min(len(first), len(second)) < 2:
        raise AttnregError(
            f"expected features of at least two pictures each with the same channels, got {first.shape[0]} of "
            f"{first.shape[1]} and {second.shape[0]} of {second.shape[1]}; compute both by one extractor"
        )
    return first.astype(np.float64), second.astype(np.float64)


def _cubic(one: Features, other: Others) -> Kernel:
    kernel: Kernel = (one @ other.T / one.shape[1] + 1) ** 3
    return kernel


def _gaussian(one: Features, other: Others) -> Kernel:
    squares = (one**2).sum(1)[:, None] + (other**2).sum(1)[None] - 2 * one @ other.T
    kernel: Kernel = np.exp(-squares.clip(min=0) / (2 * CMMD_DEVIATION**2))
    return kernel


def _unbiased(
    within_one: Float[np.ndarray, "image image"],
    within_other: Float[np.ndarray, "other other"],
    between: Kernel,
) -> float:
    terms = [(each.sum() - np.trace(each)) / (len(each) * (len(each) - 1)) for each in (within_one, within_other)]
    return float(sum(terms) - 2 * between.mean())
