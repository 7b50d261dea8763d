"""InceptionResnetV1, whose VGGFace2 weights know faces (Szegedy et al. 2017; Schroff et al. 2015).

The state dict has the keys of the released network, logits included.
"""

import torch
from torch import Tensor, nn

FEATURES = 512
IDENTITIES = 8631  # of VGGFace2


class _Unit(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: int | tuple[int, int] = 1,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(x)))


class _Residual(nn.Module):
    """``relu(x + scale * conv(branches of x))``; the last block of all has no ReLU."""

    def __init__(
        self,
        branches: list[nn.Module],
        joined: int,
        channels: int,
        scale: float,
        *,
        relu: bool = True,
    ) -> None:
        super().__init__()
        self.num_branches = len(branches)
        for number, branch in enumerate(branches):
            setattr(self, f"branch{number}", branch)
        self.conv2d = nn.Conv2d(joined, channels, 1)
        self.scale, self.relu = scale, relu

    def forward(self, x: Tensor) -> Tensor:
        found = [getattr(self, f"branch{number}")(x) for number in range(self.num_branches)]
        x = x + self.scale * self.conv2d(torch.cat(found, 1))
        return torch.relu(x) if self.relu else x


class _Reduction(nn.Module):
    """Branches that halve the resolution, and a maximum pool beside them."""

    def __init__(self, branches: list[nn.Module]) -> None:
        super().__init__()
        self.num_branches = len(branches)
        for number, branch in enumerate(branches):
            setattr(self, f"branch{number}", branch)
        self.pool = nn.MaxPool2d(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        found = [getattr(self, f"branch{number}")(x) for number in range(self.num_branches)]
        return torch.cat([*found, self.pool(x)], 1)


def _block35() -> _Residual:
    branches: list[nn.Module] = [
        _Unit(256, 32),
        nn.Sequential(_Unit(256, 32), _Unit(32, 32, 3, padding=1)),
        nn.Sequential(_Unit(256, 32), _Unit(32, 32, 3, padding=1), _Unit(32, 32, 3, padding=1)),
    ]
    return _Residual(branches, 96, 256, 0.17)


def _block17() -> _Residual:
    tall = nn.Sequential(
        _Unit(896, 128),
        _Unit(128, 128, (1, 7), padding=(0, 3)),
        _Unit(128, 128, (7, 1), padding=(3, 0)),
    )
    return _Residual([_Unit(896, 128), tall], 256, 896, 0.10)


def _block8(scale: float, *, relu: bool = True) -> _Residual:
    tall = nn.Sequential(
        _Unit(1792, 192),
        _Unit(192, 192, (1, 3), padding=(0, 1)),
        _Unit(192, 192, (3, 1), padding=(1, 0)),
    )
    return _Residual([_Unit(1792, 192), tall], 384, 1792, scale, relu=relu)


class InceptionResnetV1(nn.Module):
    """(N, 3, 160, 160) faces in [-1, 1) -> (N, 512) embeddings, not of unit length.

    Args:
        num_classes: of the classifier, which files hold and features do not need; 0: none.
    """

    def __init__(self, num_classes: int = 0) -> None:
        super().__init__()
        self.conv2d_1a = _Unit(3, 32, 3, 2)
        self.conv2d_2a = _Unit(32, 32, 3)
        self.conv2d_2b = _Unit(32, 64, 3, padding=1)
        self.maxpool_3a = nn.MaxPool2d(3, 2)
        self.conv2d_3b = _Unit(64, 80)
        self.conv2d_4a = _Unit(80, 192, 3)
        self.conv2d_4b = _Unit(192, 256, 3, 2)
        self.repeat_1 = nn.Sequential(*(_block35() for _ in range(5)))
        self.mixed_6a = _Reduction(
            [
                _Unit(256, 384, 3, 2),
                nn.Sequential(
                    _Unit(256, 192), _Unit(192, 192, 3, padding=1), _Unit(192, 256, 3, 2)
                ),
            ]
        )
        self.repeat_2 = nn.Sequential(*(_block17() for _ in range(10)))
        self.mixed_7a = _Reduction(
            [
                nn.Sequential(_Unit(896, 256), _Unit(256, 384, 3, 2)),
                nn.Sequential(_Unit(896, 256), _Unit(256, 256, 3, 2)),
                nn.Sequential(
                    _Unit(896, 256), _Unit(256, 256, 3, padding=1), _Unit(256, 256, 3, 2)
                ),
            ]
        )
        self.repeat_3 = nn.Sequential(*(_block8(0.20) for _ in range(5)))
        self.block8 = _block8(1.0, relu=False)
        self.last_linear = nn.Linear(1792, FEATURES, bias=False)
        self.last_bn = nn.BatchNorm1d(FEATURES, eps=1e-3)
        self.logits = nn.Linear(FEATURES, num_classes) if num_classes else None

    def forward(self, faces: Tensor) -> Tensor:
        x = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(faces)))
        x = self.conv2d_4b(self.conv2d_4a(self.conv2d_3b(self.maxpool_3a(x))))
        x = self.repeat_2(self.mixed_6a(self.repeat_1(x)))
        x = self.block8(self.repeat_3(self.mixed_7a(x)))
        return self.last_bn(self.last_linear(x.mean((2, 3))))
