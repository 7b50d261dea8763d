"""The networks around the fusion: background net, source net, target net, and what they share."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def instance_norm(x: Tensor) -> Tensor:
    """(N, C, H, W) -> the same, mean 0 and variance 1 in each channel of each picture.

    Without weights; biased variance, epsilon 1e-5, the same in training and evaluation.
    """
    return F.instance_norm(x, eps=1e-5)


def halving(in_channels: int, out_channels: int, *, bias: bool = True) -> nn.Conv2d:
    """3x3, stride 2: half the size."""
    return nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, bias=bias)


def doubling(in_channels: int, out_channels: int, *, bias: bool = True) -> nn.ConvTranspose2d:
    """4x4 transposed, stride 2: twice the size."""
    return nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1, bias=bias)


def same(in_channels: int, out_channels: int, kernel: int = 3, *, bias: bool = True) -> nn.Conv2d:
    """Stride 1, zeros outside: the same size."""
    return nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=bias)


def relu(x: Tensor) -> Tensor:
    """ReLU in place; for the fresh result of a convolution only."""
    return F.relu(x, inplace=True)


class ResidualBlock(nn.Module):
    """``x + conv(relu(conv(x)))``, nothing after the sum; each convolution normalised if asked."""

    def __init__(self, channels: int, *, normalised: bool = False) -> None:
        super().__init__()
        self.first = same(channels, channels)
        self.second = same(channels, channels)
        self.normalised = normalised

    def forward(self, x: Tensor) -> Tensor:
        if self.normalised:
            return x + instance_norm(self.second(relu(instance_norm(self.first(x)))))
        return x + self.second(relu(self.first(x)))


class InstanceNorm(nn.Module):
    """`instance_norm` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return instance_norm(x)


class BackgroundNet(nn.Module):
    """Paints what the person hides (BGNet): an auto-encoder with instance norm.

    (N, 4, H, W) -> (N, 3, H, W) in [-1, 1]; the known pixels are drawn anew as well.
    """

    def __init__(self, channels: Sequence[int], num_blocks: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [same(4, channels[0], 7), InstanceNorm(), nn.ReLU(True)]
        for wide, narrow in pairwise(channels):
            layers += [halving(wide, narrow), InstanceNorm(), nn.ReLU(True)]
        layers += [ResidualBlock(channels[-1], normalised=True) for _ in range(num_blocks)]
        for narrow, wide in pairwise(channels[::-1]):
            layers += [doubling(narrow, wide, bias=False), InstanceNorm(), nn.ReLU(True)]
        layers += [same(channels[0], 3, 7, bias=False), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        drawn: Tensor = self.layers(x)
        return drawn


class SourceNet(nn.Module):
    """Auto-encoder of pictures (SIDNet), whose features are warped; without norm, without skips.

    The baselines use it as their one network.
    """

    def __init__(self, in_channels: int, channels: Sequence[int], num_blocks: int) -> None:
        super().__init__()
        deepest = channels[-1]
        inwards = (in_channels, *channels)
        outwards = (deepest, *channels[::-1])
        self.encoder = nn.ModuleList(map(halving, inwards, inwards[1:]))
        self.residual = nn.ModuleList(ResidualBlock(deepest) for _ in range(num_blocks))
        self.decoder = nn.ModuleList(map(doubling, outwards, outwards[1:]))
        self.image_head = same(channels[0], 3, 5, bias=False)
        self.mask_head = same(channels[0], 1, 5, bias=False)

    def encode(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """(N, C, H, W) -> features after each halving, and after each residual block."""
        encoder, residual = [], []
        for convolution in self.encoder:
            x = relu(convolution(x))
            encoder.append(x)
        for block in self.residual:
            x = block(x)
            residual.append(x)
        return encoder, residual

    def decode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The last residual block's features -> (N, 3, H, W) in [-1, 1], (N, 1, H, W) in [0, 1]."""
        for convolution in self.decoder:
            x = relu(convolution(x))
        return torch.tanh(self.image_head(x)), torch.sigmoid(self.mask_head(x))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.decode(self.encode(x)[1][-1])


class TargetNet(nn.Module):
    """The layers that draw a frame (TSFNet); what stands between them is the fusion's.

    `up` and `skip` widths: 256 -> 256, 256 -> 128, 128 -> 64 at the default widths.
    """

    def __init__(self, channels: Sequence[int], num_blocks: int) -> None:
        super().__init__()
        deepest = channels[-1]
        inwards = (6, *channels)
        outwards = (deepest, *channels[::-1])
        # Without bias, unlike the source net's.
        self.encoder = nn.ModuleList(
            halving(wide, narrow, bias=False) for wide, narrow in pairwise(inwards)
        )
        self.residual = nn.ModuleList(ResidualBlock(deepest) for _ in range(num_blocks))
        self.up = nn.ModuleList(map(doubling, outwards, outwards[1:]))
        self.skip = nn.ModuleList(
            same(skipped + width, width)
            for skipped, width in zip(channels[-2::-1], outwards[1:], strict=False)
        )
        self.image_head = same(channels[0], 3, 5, bias=False)
        self.mask_head = same(channels[0], 1, 5, bias=False)

    def decode(self, x: Tensor, fused: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Draw from the last fused features, helped by those of the encoder at their sizes.

        Args:
            x: (N, C, H/8, W/8).
            fused: the encoder's features after fusion; the deepest is not used a second time.

        Returns:
            image (N, 3, H, W) in [-1, 1], mask (N, 1, H, W) in [0, 1].
        """
        for up, skip, skipped in zip(self.up, self.skip, fused[-2::-1], strict=False):
            x = relu(up(x))
            x = relu(skip(torch.cat((skipped, x), dim=1)))
        x = relu(self.up[-1](x))
        return torch.tanh(self.image_head(x)), torch.sigmoid(self.mask_head(x))
