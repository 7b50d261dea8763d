"""The networks of LPIPS: those of the `lpips` package with the user's backbones, and a small one of our own.

The package's heads come with it; its backbones are torchvision's ImageNet networks, whose files are the user's.
Nothing is downloaded.
"""

import hashlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.metrics.perceptual import unit_length
from benchmarks.networks.judge import (
    digest_of,
    reproducibly,
    spread_weights,
)
from benchmarks.networks.mini import LPIPSMini
from iper_toolkit.assets import find_asset
from iper_toolkit.weight_files import load_strictly, read_state

MINI = "lpips-mini"


@dataclass(frozen=True)
class PerceptualNetwork:
    """Layers of a picture, and the weight of each channel.

    layers: (N, 3, H, W) RGB in [0, 1] -> (N, C, h, w) of each level, of unit length over the channels.
    One picture at a time: the last bits of several at once depend on how many there are.
    """

    name: str
    layers: Callable[[Tensor], tuple[Tensor, ...]]
    heads: tuple[Tensor, ...]
    digest: str  # sha256 of the files, or "random-SEED"


def load_perceptual(
    name: str, device: str = "cpu", *, random_seed: int | None = None
) -> PerceptualNetwork:
    """One of lpips-alex, lpips-vgg, lpips-squeeze (v0.1), the same with -v0.0, and lpips-mini.

    Args:
        random_seed: a backbone that has learned nothing, drawn from it; for tests.

    Raises:
        MissingAsset: the backbone's file is not here.
        ValueError: it is not that backbone's.
    """
    if name == MINI:
        network, digest = _load(LPIPSMini, name, random_seed)
        mini = network.eval().requires_grad_(False).to(device)
        mini = mini.to(memory_format=torch.channels_last)  # a third less time

        def of_mini(pictures: Tensor) -> tuple[Tensor, ...]:
            with torch.inference_mode(), reproducibly():
                seen = mini.layers(pictures.contiguous(memory_format=torch.channels_last))
                return tuple(unit_length(layer) for layer in seen)

        return PerceptualNetwork(name, of_mini, tuple(mini.heads), digest)
    _, net, *version = name.split("-")
    return _of_package(
        name, net, version[0].removeprefix("v") if version else "0.1", device, random_seed
    )


def _load(
    build: Callable[[], LPIPSMini], name: str, random_seed: int | None
) -> tuple[LPIPSMini, str]:
    if random_seed is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(random_seed)
            return build(), f"random-{random_seed}"
    path = find_asset(name).require()
    network = build()
    state = {key: value.float() for key, value in read_state(path).items()}
    load_strictly(network, state, "our small LPIPS network", path)
    return network, digest_of(path)


def _of_package(
    name: str, net: str, version: str, device: str, random_seed: int | None
) -> PerceptualNetwork:
    if random_seed is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(random_seed)
            whole = build_lpips(net, version)
            spread_weights(whole.net)
        digest = f"random-{random_seed}"
    else:
        whole = build_lpips(net, version)
        path = find_asset(f"lpips-{net}").require()
        load_backbone(whole, read_state(path), name, path)
        digest = digest_of(path)
    # The heads are the package's, and part of what judged.
    heads = tuple(head.model[-1].weight.detach().reshape(-1).to(device) for head in whole.lins)
    if random_seed is None:
        content = b"".join(head.cpu().numpy().tobytes() for head in heads)
        digest = hashlib.sha256(digest.encode() + content).hexdigest()
    whole = whole.eval().requires_grad_(False).to(device)

    def layers(pictures: Tensor) -> tuple[Tensor, ...]:
        with torch.inference_mode(), reproducibly():
            signed = pictures * 2 - 1
            scaled = whole.scaling_layer(signed) if version == "0.1" else signed
            return tuple(unit_length(layer) for layer in whole.net.forward(scaled))

    return PerceptualNetwork(name, layers, heads, digest)


def build_lpips(net: str, version: str) -> Any:
    """`lpips.LPIPS` with the package's own heads and an untrained backbone: it would fetch a trained one by default."""
    import lpips

    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # it calls torchvision by arguments that are on their way out
        return lpips.LPIPS(net=net, version=version, pnet_rand=True, verbose=False)


def load_backbone(whole: Any, state: Mapping[str, Tensor], title: str, path: Path) -> None:
    """torchvision's features into the slices of the package's backbone; the classifier is not needed.

    Raises:
        ValueError: the file is of another network.
    """
    place = {
        key.split(".", 1)[1]: key for key in whole.net.state_dict()
    }  # "0.weight" -> "slice1.0.weight"
    found = {}
    for key, value in state.items():
        if key.startswith("classifier."):
            continue
        rest = key.removeprefix("features.")
        found[place.get(rest, key)] = value
    # The package's slices end before the last layers of the file's features.
    last = max(int(key.split(".")[1]) for key in whole.net.state_dict())
    found = {
        key: value
        for key, value in found.items()
        if not (
            key.startswith("features.")
            and key.split(".")[1].isdigit()
            and int(key.split(".")[1]) > last
        )
    }
    load_strictly(whole.net, found, title, path)
