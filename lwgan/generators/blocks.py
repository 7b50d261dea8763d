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
    if x.device.type == "cpu":
        # torch's own loses two bits of bfloat16 here and copies channels_last; one group a channel
        # does neither and is ten times as fast. But there, in channels_last, the variance comes
        # from a sum of squares, which cancels unless the mean is near 0: so centre first.
        centred = x - x.mean((-2, -1), keepdim=True)
        return F.group_norm(centred, x.shape[1], eps=1e-5)
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


def with_weights(layer: nn.Conv2d, weight: Tensor, bias: Tensor | None = None) -> nn.Conv2d:
    """The layer, with these weights in place of its own."""
    layer.weight = nn.Parameter(weight, requires_grad=weight.requires_grad)
    layer.bias = None if bias is None else nn.Parameter(bias, requires_grad=bias.requires_grad)
    return layer


def pictures_for(network: nn.Module, pictures: Tensor) -> Tensor:
    """(B, N, C, H, W) -> (B * N, C, H, W) with the dtype and memory format of the weights."""
    weight = next(network.parameters())
    channels_last = weight.is_contiguous(memory_format=torch.channels_last)
    memory_format = torch.channels_last if channels_last else torch.preserve_format
    return pictures.flatten(0, 1).to(dtype=weight.dtype, memory_format=memory_format)


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


class Painter(nn.Module):
    """What ends a network that draws: one head for the image, one for its background mask."""

    merged: "MergedHeads | None"

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.image_head = same(channels, 3, 5, bias=False)
        self.mask_head = same(channels, 1, 5, bias=False)
        self.merged = None

    def paint(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) -> image (N, 3, H, W) in [-1, 1], mask (N, 1, H, W) in [0, 1].

        At least float32: near -1 and 1 a step of bfloat16 is half a grey level.
        """
        if self.merged is None:
            image, mask = self.image_head(x), self.mask_head(x)
        else:
            image, mask = self.merged(x).split((3, 1), dim=1)
        precise = torch.promote_types(image.dtype, torch.float32)
        return torch.tanh(image.to(precise)), torch.sigmoid(mask.to(precise))

    def merge_heads(self) -> None:
        """Draw both at once from now on; for inference, the names of the weights change."""
        if self.merged is None:
            self.merged = MergedHeads(self.image_head, self.mask_head)
            del self.image_head, self.mask_head


class MergedHeads(nn.Module):
    """Heads as one convolution that draws 2x2 pixels at once: the same sums, a third of the time.

    A convolution is computed for 16 channels at least, so drawing 3 and then 1 wastes most of it;
    four pixels of four channels are 16. They share a 6x6 window, of which each uses 5x5.
    """

    def __init__(self, *heads: nn.Conv2d) -> None:
        super().__init__()
        weight = torch.cat([head.weight.detach() for head in heads])
        num_drawn, channels, height, width = weight.shape
        window = weight.new_zeros(num_drawn, 2, 2, channels, height + 1, width + 1)
        for row in range(2):
            for column in range(2):
                window[:, row, column, :, row : row + height, column : column + width] = weight
        self.convolution = with_weights(
            nn.Conv2d(channels, 4 * num_drawn, height + 1, 2, height // 2, bias=False),
            window.flatten(0, 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.convolution(x), 2)


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


class SourceNet(Painter):
    """Auto-encoder of pictures (SIDNet), whose features are warped; without norm, without skips.

    The baselines use it as their one network.
    """

    def __init__(self, in_channels: int, channels: Sequence[int], num_blocks: int) -> None:
        super().__init__(channels[0])
        deepest = channels[-1]
        inwards = (in_channels, *channels)
        outwards = (deepest, *channels[::-1])
        self.encoder = nn.ModuleList(map(halving, inwards, inwards[1:]))
        self.residual = nn.ModuleList(ResidualBlock(deepest) for _ in range(num_blocks))
        self.decoder: nn.ModuleList | None = nn.ModuleList(map(doubling, outwards, outwards[1:]))

    def leave_out_decoder(self) -> None:
        """Keep what `encode` needs: features are all that drawing a clip takes from a source."""
        if self.decoder is not None:
            self.decoder = None
            del self.image_head, self.mask_head

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
        """The last residual block's features -> image and mask, as `paint` gives them."""
        if self.decoder is None:
            raise ValueError(
                "This net only encodes: for_inference(folded=True) left its decoder out. Ask for "
                "only_target, or use the generator itself."
            )
        for convolution in self.decoder:
            x = relu(convolution(x))
        return self.paint(x)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.decode(self.encode(x)[1][-1])


class TargetNet(Painter):
    """The layers that draw a frame (TSFNet); what stands between them is the fusion's.

    `up` and `skip` widths: 256 -> 256, 256 -> 128, 128 -> 64 at the default widths.
    """

    def __init__(self, channels: Sequence[int], num_blocks: int) -> None:
        super().__init__(channels[0])
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

    def decode(self, x: Tensor, fused: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Draw from the last fused features, helped by those of the encoder at their sizes.

        Args:
            x: (N, C, H/8, W/8).
            fused: the encoder's features after fusion; the deepest is not used a second time.

        Returns:
            image (N, 3, H, W) and mask (N, 1, H, W), as `paint` gives them.
        """
        for up, skip, skipped in zip(self.up, self.skip, fused[-2::-1], strict=False):
            x = relu(up(x))
            x = relu(skip(torch.cat((skipped, x), dim=1)))
        x = relu(self.up[-1](x))
        return self.paint(x)
