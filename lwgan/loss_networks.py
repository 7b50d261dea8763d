"""Frozen networks that losses look through: VGG-19, SphereFace-20a, and a small one of our own.

The first two are others' and come with nobody's product; their files are assets. Names of weights are those of the
files. Ours has seen drawn people only, and never judges a score.
"""

from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iper_toolkit.assets import find_asset
from iper_toolkit.weight_files import load_strictly, read_state

FeatureName = Literal["vgg19", "sphereface", "perceptual-small"]


class FeatureNetwork(Protocol):
    """(N, 3, H, W) in [-1, 1] -> features of five levels, shallow to deep."""

    def __call__(self, pictures: Tensor) -> list[Tensor]: ...


class VGG19(nn.Module):
    """Features after relu1_1, relu2_1, relu3_1, relu4_1 and relu5_1 (Simonyan & Zisserman 2015)."""

    _WIDTHS = (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512)
    _TAPS = (1, 6, 11, 20, 29)

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in self._WIDTHS:
            if isinstance(width, str):
                layers.append(nn.MaxPool2d(2, 2))
            else:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
        self.features = nn.ModuleList(layers)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        found, x = [], pictures
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in self._TAPS:
                found.append(x)
        return found


class SphereFace(nn.Module):
    """SphereFace-20a (Liu et al. 2017): the four stages' features and the embedding, of 112 x 96 faces."""

    _STAGES = ((64, 1), (128, 2), (256, 4), (512, 1))  # width, residual pairs

    def __init__(self) -> None:
        super().__init__()
        channels = 3
        for stage, (width, pairs) in enumerate(self._STAGES, 1):
            for layer in range(1, 2 * pairs + 2):
                stride = 2 if layer == 1 else 1
                self.add_module(
                    f"conv{stage}_{layer}", nn.Conv2d(channels, width, 3, stride, padding=1)
                )
                self.add_module(f"relu{stage}_{layer}", nn.PReLU(width))
                channels = width
        self.fc5 = nn.Linear(512 * 7 * 6, 512)

    def forward(self, faces: Tensor) -> list[Tensor]:
        found, x = [], faces
        for stage, (_, pairs) in enumerate(self._STAGES, 1):
            x = self._layer(stage, 1, x)
            for pair in range(pairs):
                x = x + self._layer(stage, 2 * pair + 3, self._layer(stage, 2 * pair + 2, x))
            found.append(x)
        found.append(self.fc5(x.flatten(1)))
        return found

    def _layer(self, stage: int, layer: int, x: Tensor) -> Tensor:
        convolved = getattr(self, f"conv{stage}_{layer}")(x)
        activated: Tensor = getattr(self, f"relu{stage}_{layer}")(convolved)
        return activated


class PerceptualSmall(nn.Module):
    """Five levels of a small residual network of our own, trained to tell garments and bodies' parts apart.

    No judge: other layers, other data and another task than `lpips-mini`.
    """

    WIDTHS = (16, 32, 48, 64, 96)

    def __init__(self) -> None:
        super().__init__()
        channels = 3
        self.down, self.same = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(self.WIDTHS):
            self.down.append(nn.Conv2d(channels, width, 3, 1 if level == 0 else 2, padding=1))
            self.same.append(nn.Conv2d(width, width, 3, padding=1))
            channels = width

    def forward(self, pictures: Tensor) -> list[Tensor]:
        found, x = [], pictures
        for down, same in zip(self.down, self.same, strict=True):
            x = F.silu(down(x))
            x = x + F.silu(same(x))
            # Every level counts the same, whatever the scale that training left it with.
            found.append(x / (x.square().mean(1, keepdim=True).sqrt() + 1e-3))
        return found


_BUILD: dict[FeatureName, type[nn.Module]] = {
    "vgg19": VGG19,
    "sphereface": SphereFace,
    "perceptual-small": PerceptualSmall,
}
# Beginnings of keys that files hold and features do not need.
_UNUSED: dict[FeatureName, tuple[str, ...]] = {
    "vgg19": ("classifier.", "features.30", "features.32", "features.34"),
    "sphereface": ("fc6",),
    "perceptual-small": (),
}


def load_feature_network(name: FeatureName, device: torch.device | str = "cpu") -> nn.Module:
    """A frozen network with the weights of its file.

    Raises:
        MissingAsset: the file is not here; the message says how to get it.
        ValueError: it is another network's.
    """
    path = find_asset(name).require()
    network = _BUILD[name]()
    state = {
        key: value.float()
        for key, value in read_state(path).items()
        if not key.startswith(_UNUSED[name])
    }
    load_strictly(network, state, find_asset(name).title, path)
    return frozen(network).to(device)


def frozen(network: nn.Module) -> nn.Module:
    """The network in evaluation mode, without gradients of its own; channels_last, which is faster."""
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
