"""OSNet: omni-scale features for re-identifying people (Zhou et al., ICCV 2019), and its instance-normalised forms.

The state dict has torchreid's keys, so that files of its model zoo load by name.
"""

from typing import Literal

import torch
from torch import Tensor, nn

Variant = Literal["plain", "ibn", "ain"]

FEATURES = 512
_CHANNELS = (64, 256, 384, 512)
# Which blocks of the three stages hold an instance norm inside (OSNet-AIN, Zhou et al. 2021, found by search).
_AIN_STAGES = ((True, True), (False, True), (True, False))


class _Convolution(nn.Module):
    """Convolution without bias, norm, and ReLU where wanted."""

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: int = 1,
        stride: int = 1,
        padding: int = 0,
        *,
        instance_norm: bool = False,
        relu: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, padding, bias=False)
        self.bn = nn.InstanceNorm2d(out, affine=True) if instance_norm else nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True) if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn(self.conv(x)))


class _LightConvolution(nn.Module):
    """A 1x1 convolution and a 3x3 one of each channel by itself (their Lite 3x3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn(self.conv2(self.conv1(x))))


class _Gate(nn.Module):
    """Weighs each channel of a stream by what the stream holds as a whole; the four streams share one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 16, 1)
        self.fc2 = nn.Conv2d(channels // 16, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.fc2(torch.relu(self.fc1(pooled))))


class _Block(nn.Module):
    """Four streams that see 3, 5, 7 and 9 pixels, gated and summed; a residual."""

    def __init__(self, channels: int, out: int, *, norm_after: bool, norm_inside: bool) -> None:
        super().__init__()
        middle = out // 4
        self.conv1 = _Convolution(channels, middle)
        self.conv2a = _LightConvolution(middle)
        self.conv2b = nn.Sequential(*(_LightConvolution(middle) for _ in range(2)))
        self.conv2c = nn.Sequential(*(_LightConvolution(middle) for _ in range(3)))
        self.conv2d = nn.Sequential(*(_LightConvolution(middle) for _ in range(4)))
        self.gate = _Gate(middle)
        self.conv3 = _Convolution(middle, out, relu=False)
        self.downsample = _Convolution(channels, out, relu=False) if channels != out else None
        self.IN = nn.InstanceNorm2d(out, affine=True) if norm_after or norm_inside else None
        self.norm_inside = norm_inside

    def forward(self, x: Tensor) -> Tensor:
        start = self.conv1(x)
        streams = (self.conv2a, self.conv2b, self.conv2c, self.conv2d)
        found = self.conv3(sum(self.gate(stream(start)) for stream in streams))
        if self.IN is not None and self.norm_inside:
            found = self.IN(found)
        found = found + (x if self.downsample is None else self.downsample(x))
        if self.IN is not None and not self.norm_inside:
            found = self.IN(found)
        return torch.relu(found)


class OSNet(nn.Module):
    """OSNet with the plain, the IBN or the AIN norms.

    Args:
        variant: "plain" (osnet_x1_0), "ibn" (osnet_ibn_x1_0), "ain" (osnet_ain_x1_0; built from the paper, not yet
            held against a released file).
        width: of all channels but the features: 1, .75, .5, .25.
        num_classes: identities of the classifier, which only training and loading use; 0: none.
    """

    def __init__(
        self, variant: Variant = "plain", *, width: float = 1.0, num_classes: int = 0
    ) -> None:
        super().__init__()
        stem, *stages = (int(channels * width) for channels in _CHANNELS)
        self.conv1 = _Convolution(3, stem, 7, 2, 3, instance_norm=variant != "plain")
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = stem
        for number, out in enumerate(stages):
            blocks: list[nn.Module] = []
            for position in range(2):
                blocks.append(
                    _Block(
                        channels,
                        out,
                        norm_after=variant == "ibn" and number == 0,
                        norm_inside=variant == "ain" and _AIN_STAGES[number][position],
                    )
                )
                channels = out
            is_last = number == len(stages) - 1
            if not is_last and variant != "ain":
                blocks.append(nn.Sequential(_Convolution(out, out), nn.AvgPool2d(2, 2)))
            setattr(self, f"conv{number + 2}", nn.Sequential(*blocks))
            if not is_last and variant == "ain":
                pool = nn.Sequential(_Convolution(out, out), nn.AvgPool2d(2, 2))
                setattr(self, f"pool{number + 2}", pool)
        self.conv5 = _Convolution(channels, channels)
        self.fc = nn.Sequential(
            nn.Linear(channels, FEATURES), nn.BatchNorm1d(FEATURES), nn.ReLU(inplace=True)
        )
        self.classifier = nn.Linear(FEATURES, num_classes) if num_classes else None

    def feature_map(self, pictures: Tensor) -> Tensor:
        """(N, 3, H, W) normalised pictures -> (N, C, H / 16, W / 16), what is averaged into the features."""
        x = self.maxpool(self.conv1(pictures))
        for number in (2, 3, 4):
            x = getattr(self, f"conv{number}")(x)
            pool = getattr(self, f"pool{number}", None)
            x = x if pool is None else pool(x)
        return self.conv5(x)

    def forward(self, pictures: Tensor) -> Tensor:
        """(N, 3, H, W) normalised pictures -> (N, 512) features, not below 0."""
        return self.fc(self.feature_map(pictures).mean((2, 3)))
