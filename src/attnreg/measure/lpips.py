"""Perceptual distance from the unmodified picture: LPIPS 0.1 (Zhang et al., CVPR 2018) on AlexNet or VGG-16."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from attnreg.measure.asked import Prompt
from attnreg.measure.judge import Scores
from attnreg.measure.likeness import pairs
from attnreg.measure.weights import Weights
from attnreg.reading import path_of
from attnreg.types import AttnregError

SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
"""ImageNet's mean and deviation of RGB in [-1, 1], as LPIPS rounds them."""


class Convolution(NamedTuple):
    """One convolution of a backbone, by its place in torchvision's `features`; a ReLU follows each."""

    place: int
    into: int
    out: int
    kernel: int = 3
    stride: int = 1
    pools: bool = False
    """Whether the largest of each window is taken before it."""


class Backbone(NamedTuple):
    """The convolutional part of a network, in five stages, after each of which the features are compared."""

    stages: tuple[tuple[Convolution, ...], ...]
    pool: int
    """Side of a pooling window; its stride is 2."""


ALEXNET = Backbone(
    (
        (Convolution(0, 3, 64, 11, 4),),
        (Convolution(3, 64, 192, 5, pools=True),),
        (Convolution(6, 192, 384, pools=True),),
        (Convolution(8, 384, 256),),
        (Convolution(10, 256, 256),),
    ),
    pool=3,
)
VGG16 = Backbone(
    (
        (Convolution(0, 3, 64), Convolution(2, 64, 64)),
        (Convolution(5, 64, 128, pools=True), Convolution(7, 128, 128)),
        (Convolution(10, 128, 256, pools=True), Convolution(12, 256, 256), Convolution(14, 256, 256)),
        (Convolution(17, 256, 512, pools=True), Convolution(19, 512, 512), Convolution(21, 512, 512)),
        (Convolution(24, 512, 512, pools=True), Convolution(26, 512, 512), Convolution(28, 512, 512)),
    ),
    pool=2,
)
BACKBONES = {"alex": ALEXNET, "vgg": VGG16}


class Lpips(nn.Module):
    """The distance as the `lpips` package computes it, from a state dictionary with that package's names."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.name = next((name for name, each in BACKBONES.items() if _fits(each, weights)), None)
        if self.name is None:
            raise AttnregError(
                "expected the state dictionary of lpips.LPIPS(net='alex') or net='vgg', got other names or shapes; "
                "make the file as docs/judges.md says"
            )
        self.backbone = BACKBONES[self.name]
        self.weights = nn.ParameterDict(
            {name.replace(".", "/"): nn.Parameter(weights[name].float()) for name in _names(self.backbone)}
        ).requires_grad_(False)

    def forward(
        self, first: Float[Tensor, "image 3 height width"], second: Float[Tensor, "image 3 height width"]
    ) -> Float[Tensor, " image"]:
        """The distances of pictures with values in [-1, 1]."""
        distance = torch.zeros(len(first), device=first.device)
        shift, scale = (torch.tensor(each, device=first.device).view(3, 1, 1) for each in (SHIFT, SCALE))
        a, b = (first - shift) / scale, (second - shift) / scale
        for stage, convolutions in enumerate(self.backbone.stages):
            a, b = (self._stage(x, stage, convolutions) for x in (a, b))
            # As in the package: the norm is not guarded inside the root, only against division by zero.
            one, other = (x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10) for x in (a, b))
            weight = self.weights[f"lin{stage}/model/1/weight"]
            distance = distance + nn.functional.conv2d((one - other).square(), weight).mean((1, 2, 3))
        return distance

    def _stage(self, x: Tensor, stage: int, convolutions: Sequence[Convolution]) -> Tensor:
        for each in convolutions:
            if each.pools:
                x = nn.functional.max_pool2d(x, self.backbone.pool, 2)
            name = f"net/slice{stage + 1}/{each.place}"
            # AlexNet's first layer pads by 2, every other one by half its kernel.
            padding = 2 if each.kernel == 11 else each.kernel // 2
            weight, bias = self.weights[f"{name}/weight"], self.weights[f"{name}/bias"]
            x = nn.functional.conv2d(x, weight, bias, each.stride, padding).relu()
        return x


def _names(backbone: Backbone) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight."""
    names: dict[str, tuple[int, ...]] = {}
    for stage, convolutions in enumerate(backbone.stages):
        for each in convolutions:
            name = f"net.slice{stage + 1}.{each.place}"
            names |= {f"{name}.weight": (each.out, each.into, each.kernel, each.kernel), f"{name}.bias": (each.out,)}
        names[f"lin{stage}.model.1.weight"] = (1, convolutions[-1].out, 1, 1)
    return names


def _fits(backbone: Backbone, weights: Mapping[str, Tensor]) -> bool:
    return all(name in weights and tuple(weights[name].shape) == shape for name, shape in _names(backbone).items())


class PerceptualDistance:
    """ "distance": LPIPS between the picture and the unmodified one; larger is farther."""

    needs_unmodified = True

    def __init__(self, weights: Weights) -> None:
        place = weights.places["lpips"]
        file = path_of(place)
        if file.is_dir():
            file = file / "lpips.safetensors"
        if not file.is_file():
            raise AttnregError(
                f"expected LPIPS's weights as a safetensors file, got {place!r} (nothing there); make the file as "
                "docs/judges.md says and give its path"
            )
        from safetensors.torch import load_file

        try:
            state = load_file(file)
        except Exception as error:  # safetensors raises its own kind and OSError
            raise AttnregError(
                f"expected a safetensors file, got {file}: {str(error).splitlines()[0]}; make it again"
            ) from error
        self.network = Lpips(state).to(weights.device).eval()
        self.device = weights.device

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Any prompt will do."""

    @torch.no_grad()
    def __call__(
        self, pictures: Sequence[Any], prompts: Sequence[Prompt], unmodified: Sequence[Any] | None = None
    ) -> list[Scores]:
        """The distance of each picture from the unmodified one. Raises `AttnregError` below 35 pixels of a side."""
        scores = []
        for both in pairs(pictures, unmodified):
            if min(both[0].shape[:2]) < 35:  # AlexNet's last feature map would be empty
                raise AttnregError(
                    f"expected pictures of at least 35x35 pixels for LPIPS, got {both[0].shape[1]}x{both[0].shape[0]}; "
                    "draw larger ones"
                )
            one, other = (
                torch.from_numpy(np.array(each, dtype=np.float32)).permute(2, 0, 1)[None].to(self.device) / 127.5 - 1
                for each in both
            )
            scores.append({"distance": self.network(one, other).item()})
        return scores
