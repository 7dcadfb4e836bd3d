"""Distances to the unmodified picture, and between sets, against their formulas written out."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from scipy.ndimage import gaussian_filter
from torch import nn

from attnreg.errors import AttnregError
from attnreg.measure.asked import Prompt
from attnreg.measure.distributions import cmmd, frechet_distance, kernel_distance, kernel_distance_of_subsets
from attnreg.measure.judges import JUDGES
from attnreg.measure.lpips import Lpips

PROMPT = [Prompt("a cat")]


def noise(seed: int, size: tuple[int, int] = (40, 44)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


def test_pixel_distance() -> None:
    judge = JUDGES["pixels"].open(device="cpu")
    assert judge.needs_unmodified
    judge.check(PROMPT)
    black, white, grey = (Image.new("RGB", (8, 8), (value,) * 3) for value in (0, 255, 51))
    assert judge([white, black, grey], PROMPT * 3, [black, black, black]) == [
        {"distance": 1.0},
        {"distance": 0.0},
        {"distance": pytest.approx(0.2)},
    ]
    with pytest.raises(AttnregError, match="an unmodified picture for each of 1, got none"):
        judge([black], PROMPT)
    with pytest.raises(AttnregError, match=r"one size, got 8x8 and 4x8"):
        judge([black], PROMPT, [black.resize((4, 8))])


def slow_ssim(one: np.ndarray, other: np.ndarray) -> float:
    """Wang et al., equation 13, in windows of 11 pixels, without the border that they do not fit."""
    values = []
    for channel in range(3):
        x, y = one[..., channel].astype(float), other[..., channel].astype(float)
        blur = lambda image: gaussian_filter(image, 1.5, truncate=3.5)  # noqa: E731
        mx, my = blur(x), blur(y)
        vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        similarity = ((2 * mx * my + c1) * (2 * cov + c2)) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
        values.append(similarity[5:-5, 5:-5].mean())
    return float(np.mean(values))


def test_ssim() -> None:
    judge = JUDGES["ssim"].open(device="cpu")
    assert judge.needs_unmodified
    one = noise(0)
    near = Image.blend(one, noise(1), 0.3)
    same, moved = judge([one, near], PROMPT * 2, [one, one])
    assert same == {"ssim": 1.0}
    assert moved["ssim"] == pytest.approx(slow_ssim(np.asarray(near), np.asarray(one)), abs=1e-6)
    assert moved["ssim"] < 0.95
    with pytest.raises(AttnregError, match="at least 11x11 pixels for SSIM, got 44x10"):
        judge([noise(0, (10, 44))], PROMPT, [noise(1, (10, 44))])


def alexnet() -> nn.Sequential:
    """torchvision's `alexnet().features`."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
    )  # fmt: skip


def vgg16() -> nn.Sequential:
    """torchvision's `vgg16().features`."""
    layers: list[nn.Module] = []
    channels = 3
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()] if width else [nn.MaxPool2d(2, 2)]
        channels = width or channels
    return nn.Sequential(*layers)


STAGE_ENDS = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29)}
WIDTHS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}


def state_of(features: nn.Sequential, name: str) -> dict[str, torch.Tensor]:
    """The names that `lpips.LPIPS(net=name).state_dict()` has."""
    state = {}
    for key, weight in features.state_dict().items():
        stage = next(i for i, end in enumerate(STAGE_ENDS[name]) if int(key.split(".")[0]) <= end)
        state[f"net.slice{stage + 1}.{key}"] = weight
    for i, width in enumerate(WIDTHS[name]):
        state[f"lin{i}.model.1.weight"] = torch.rand(1, width, 1, 1)
    return state


@pytest.mark.parametrize(("name", "build"), [("alex", alexnet), ("vgg", vgg16)])
@torch.no_grad()
def test_lpips(name: str, build: type, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        features = build()
        state = state_of(features, name)
    save_file({key: weight.contiguous() for key, weight in state.items()}, tmp_path / "lpips.safetensors")
    judge = JUDGES["lpips"].open(tmp_path, "cpu")  # the directory or the file itself
    assert judge.needs_unmodified
    one, other = noise(2), noise(3)
    (moved, same) = judge([one, one], PROMPT * 2, [other, one])
    assert same == {"distance": 0.0}
    expected = 0.0
    values = []
    for picture in (one, other):
        x = torch.from_numpy(np.array(picture, dtype=np.float32)).permute(2, 0, 1)[None] / 255 * 2 - 1
        x = (x - torch.tensor([-0.030, -0.088, -0.188])[:, None, None]) / torch.tensor([0.458, 0.448, 0.450])[
            :, None, None
        ]
        stages = []
        for place, layer in enumerate(features[:-1]):  # what the last pooling leaves is not compared
            x = layer(x)
            if place in STAGE_ENDS[name]:
                stages.append(x / x.norm(dim=1, keepdim=True))
        values.append(stages)
    for i, (a, b) in enumerate(zip(*values, strict=True)):
        expected += float(((a - b) ** 2 * state[f"lin{i}.model.1.weight"][0]).sum(1).mean())
    assert moved["distance"] == pytest.approx(expected, rel=1e-4)
    with pytest.raises(AttnregError, match="at least 35x35 pixels for LPIPS, got 30x34"):
        judge([noise(0, (34, 30))], PROMPT, [noise(1, (34, 30))])


def test_lpips_refuses_what_is_not_its_own(tmp_path: Path) -> None:
    with pytest.raises(AttnregError, match=r"'lpips.safetensors' \(nothing there\); make the file as docs/judges.md"):
        JUDGES["lpips"].open(device="cpu")
    (tmp_path / "lpips.safetensors").write_bytes(b"pickle")
    with pytest.raises(AttnregError, match="expected a safetensors file, got"):
        JUDGES["lpips"].open(tmp_path, "cpu")
    with pytest.raises(AttnregError, match="got other names or shapes"):
        Lpips({"net.slice1.0.weight": torch.zeros(64, 3, 3, 3)})


def features(seed: int, pictures: int, channels: int, shift: float = 0.0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return draw.standard_normal((pictures, channels)) @ draw.standard_normal((channels, channels)) + shift


@pytest.mark.parametrize("pictures", [60, 9])
def test_frechet_distance_is_the_formula(pictures: int) -> None:
    one, other = features(0, pictures, 8), features(1, 50, 8, 0.5)
    c1, c2 = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    root = scipy.linalg.sqrtm(c1 @ c2)
    expected = ((one.mean(0) - other.mean(0)) ** 2).sum() + np.trace(c1 + c2 - 2 * root.real)
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(other, one) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_of_fewer_pictures_than_channels() -> None:
    """The root in the n-dimensional space of the pictures, where scipy's of the singular product would fail."""
    one, other = features(0, 5, 12), features(1, 6, 12)
    a, b = (each - each.mean(0) for each in (one, other))
    small = (a @ b.T) @ (b @ a.T) / (4 * 5)
    # The smallest eigenvalue is zero, as one's pictures are centred; what rounding leaves of it, its root makes large.
    root = np.sqrt(np.linalg.eigvalsh(small)[1:]).sum()
    traces = np.trace(np.cov(one, rowvar=False)) + np.trace(np.cov(other, rowvar=False))
    expected = ((one.mean(0) - other.mean(0)) ** 2).sum() + traces - 2 * root
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-9)


@given(st.integers(0, 99), st.integers(2, 12), st.integers(2, 12), st.integers(1, 6))
def test_distances_of_sets_behave(seed: int, first: int, second: int, channels: int) -> None:
    one, other = features(seed, first, channels), features(seed + 1, second, channels, 0.3)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-6 * max(1.0, float((one**2).sum())))
    assert cmmd(one, one) == pytest.approx(0, abs=1e-9)
    assert cmmd(one, other) >= -1e-9
    offset = np.full(channels, 2.0)
    moved = frechet_distance(one, one + offset)  # only the means differ
    assert moved == pytest.approx(4 * channels, rel=1e-6, abs=1e-6 * float((one**2).sum()))
    for distance in (frechet_distance, kernel_distance, cmmd):
        assert distance(one, other) == pytest.approx(distance(other, one), rel=1e-6, abs=1e-6)


def test_kernel_distance_is_the_formula() -> None:
    one, other = features(0, 7, 5), features(1, 6, 5)

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / 5 + 1) ** 3)

    within = [
        np.mean([kernel(each[i], each[j]) for i, j in itertools.permutations(range(len(each)), 2)])
        for each in (one, other)
    ]
    between = np.mean([kernel(x, y) for x in one for y in other])
    assert kernel_distance(one, other) == pytest.approx(sum(within) - 2 * between)
    mean, deviation = kernel_distance_of_subsets(one, other, subsets=4, size=6)
    again = kernel_distance_of_subsets(one, other, subsets=4, size=6)
    assert (mean, deviation) == again
    # All of the second set and all but one of the first are in each subset.
    leave_one_out = [kernel_distance(np.delete(one, i, 0), other) for i in range(7)]
    assert min(leave_one_out) <= mean <= max(leave_one_out)
    assert deviation > 0
    with pytest.raises(AttnregError, match="subsets of 2 to 6 pictures, got 7"):
        kernel_distance_of_subsets(one, other, size=7)


def test_cmmd_is_the_formula() -> None:
    one, other = features(0, 7, 5), features(1, 6, 5)
    x, y = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (one, other))

    def mean(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.mean([np.exp(-((p - q) ** 2).sum() / 200) for p in a for q in b]))

    assert cmmd(one, other) == pytest.approx(1000 * (mean(x, x) + mean(y, y) - 2 * mean(x, y)), rel=1e-6)


def test_sets_must_fit() -> None:
    for distance in (frechet_distance, kernel_distance, cmmd):
        with pytest.raises(AttnregError, match="got 3 of 4 and 3 of 5"):
            distance(np.zeros((3, 4)), np.zeros((3, 5)))
        with pytest.raises(AttnregError, match="got 1 of 4 and 3 of 4"):
            distance(np.zeros((1, 4)), np.zeros((3, 4)))
