"""PCB: a person in six horizontal parts (Sun et al., ECCV 2018), on torchvision's ResNet-50.

The state dict has the keys of the released Market-1501 network, classifiers included.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

PARTS = 6
CHANNELS = 2048
IDENTITIES = 751  # of Market-1501


class _Classifier(nn.Module):
    """A part's classifier: only training uses it, but files hold it."""

    def __init__(self) -> None:
        super().__init__()
        self.add_block = nn.Sequential(nn.Linear(CHANNELS, 256), nn.BatchNorm1d(256))
        self.classifier = nn.Sequential(nn.Linear(256, IDENTITIES))


class PCB(nn.Module):
    """Pooled parts of the last feature map, each of unit length.

    Args:
        ignore_head: leave the uppermost part out.
    """

    def __init__(self, *, ignore_head: bool = False) -> None:
        super().__init__()
        from torchvision.models import resnet50

        self.model = resnet50(weights=None)
        # The last stage keeps the resolution: 24 x 12 places of a 384 x 192 picture.
        for layer in (self.model.layer4[0].conv2, self.model.layer4[0].downsample[0]):
            layer.stride = (1, 1)
        for part in range(PARTS):
            setattr(self, f"classifier{part}", _Classifier())
        self.ignore_head = ignore_head

    def parts(self, pictures: Tensor) -> Tensor:
        """(N, 3, 384, 192) normalised pictures -> (N, 2048, parts) averages, from the head down."""
        model = self.model
        x = model.maxpool(model.relu(model.bn1(model.conv1(pictures))))
        x = model.layer4(model.layer3(model.layer2(model.layer1(x))))
        pooled = functional.adaptive_avg_pool2d(x, (PARTS, 1))[..., 0]
        return pooled[:, :, 1:] if self.ignore_head else pooled

    def forward(self, pictures: Tensor) -> Tensor:
        """(N, 3, 384, 192) normalised pictures -> (N, 12288) of unit length; feature c of part p is at 6 c + p."""
        return join_parts(self.parts(pictures))


def join_parts(parts: Tensor) -> Tensor:
    """(N, C, P) -> (N, C P): every part of unit length, and so the whole."""
    lengths = torch.linalg.vector_norm(parts, dim=1, keepdim=True)
    return (parts / (lengths * parts.shape[2] ** 0.5)).flatten(1)
