"""Judges of our own, small enough to ship, trained on drawn people: see docs/judges.md.

They take RGB in [0, 1] and normalise it themselves. No published number compares with what they say.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.networks.crops import IMAGENET_MEAN, IMAGENET_STD
from benchmarks.networks.osnet import OSNet
from benchmarks.networks.pcb import PARTS, join_parts


def _normalised(pictures: Tensor) -> Tensor:
    mean, std = (pictures.new_tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    return (pictures - mean) / std


class OSNetMini(nn.Module):
    """OSNet x0.25: (N, 3, 128, 64) -> (N, 512)."""

    SIZE: ClassVar[tuple[int, int]] = (128, 64)

    def __init__(self) -> None:
        super().__init__()
        self.network = OSNet(width=0.25)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.network(_normalised(pictures))


class PCBMini(nn.Module):
    """The trunk of OSNet x0.25 with PCB's head: six parts of 64 features, (N, 3, 128, 64) -> (N, 384) of unit length."""

    SIZE: ClassVar[tuple[int, int]] = (128, 64)
    PART_FEATURES: ClassVar[int] = 64
    FEATURES: ClassVar[int] = PART_FEATURES * PARTS

    def __init__(self) -> None:
        super().__init__()
        trunk = OSNet(width=0.25)
        channels = trunk.conv5.conv.in_channels
        for unused in ("conv5", "fc"):
            setattr(trunk, unused, nn.Identity())
        self.trunk = trunk
        self.embed = nn.Conv2d(channels, self.PART_FEATURES, 1)

    def parts(self, pictures: Tensor) -> Tensor:
        """(N, 64, 6), from the head down."""
        seen = self.trunk.feature_map(_normalised(pictures))
        return self.embed(functional.adaptive_avg_pool2d(seen, (PARTS, 1)))[..., 0]

    def forward(self, pictures: Tensor) -> Tensor:
        return join_parts(self.parts(pictures))


class LPIPSMini(nn.Module):
    """Five levels of features and the weights of their channels, for `metrics.perceptual.lpips_from_layers`.

    Resolution is halved by a blur (Zhang 2019), so that a shift by a pixel moves features and does not change them.
    """

    CHANNELS: ClassVar[tuple[int, ...]] = (16, 32, 64, 96, 96)

    def __init__(self) -> None:
        super().__init__()
        levels, heads = [], []
        before = 3
        for channels in self.CHANNELS:
            levels.append(
                nn.Sequential(
                    nn.Conv2d(before, channels, 3, padding=1), nn.ReLU(),
                    nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(),
                )
            )  # fmt: skip
            heads.append(nn.Parameter(torch.ones(channels)))
            before = channels
        self.levels = nn.ModuleList(levels)
        self.weights = nn.ParameterList(heads)

    @property
    def heads(self) -> list[Tensor]:
        """The weight of each channel of each level, not below 0."""
        return [head.clamp(min=0) for head in self.weights]

    def layers(self, pictures: Tensor) -> list[Tensor]:
        """(N, 3, H, W) RGB in [0, 1] -> (N, C, h, w) of each level, not yet of unit length."""
        x = _normalised(pictures)
        found = []
        for number, level in enumerate(self.levels):
            x = level(x if number == 0 else _halved(x))
            found.append(x)
        return found


def _halved(x: Tensor) -> Tensor:
    """Every other place of a blurred map (binomial 1 4 6 4 1)."""
    line = x.new_tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    kernel = (line[:, None] * line).expand(x.shape[1], 1, 5, 5)
    padded = functional.pad(x, (2, 2, 2, 2), mode="replicate")
    return functional.conv2d(padded, kernel, stride=2, groups=x.shape[1])
