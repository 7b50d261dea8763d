"""All judges that turn pictures into features, by name. Their weights are assets of the same names."""

from typing import Literal

from torch import Tensor, nn

from benchmarks.networks.crops import IMAGENET_MEAN, IMAGENET_STD
from benchmarks.networks.facenet import InceptionResnetV1
from benchmarks.networks.inception import (
    InceptionFID,
    InceptionImageNet,
    resize_clean,
    resize_official,
)
from benchmarks.networks.judge import Judge, LoadedJudge, load_judge
from benchmarks.networks.mini import OSNetMini, PCBMini
from benchmarks.networks.osnet import OSNet
from benchmarks.networks.pcb import PCB

__all__ = ["JUDGES", "Judge", "LoadedJudge", "load_judge", "looks_at"]


def _imagenet(crops: Tensor) -> Tensor:
    mean, std = (crops.new_tensor(value)[:, None, None] for value in (IMAGENET_MEAN, IMAGENET_STD))
    return (crops - mean) / std


def _face(crops: Tensor) -> Tensor:
    """(x - 127.5) / 128 of grey levels."""
    return (crops * 255 - 127.5) / 128


def _signed(crops: Tensor) -> Tensor:
    return crops * 2 - 1


def _levels(crops: Tensor) -> Tensor:
    return (crops * 255).round()


def _as_they_are(crops: Tensor) -> Tensor:
    return crops


def _osnet() -> nn.Module:
    return OSNet("plain")


def _osnet_ibn() -> nn.Module:
    return OSNet("ibn")


def _osnet_ain() -> nn.Module:
    return OSNet("ain")


JUDGES: dict[str, Judge] = {
    judge.name: judge
    for judge in (
        Judge("osnet-msmt17", "OSNet of MSMT17", _osnet, _imagenet, 512, "person", (256, 128), unused=("classifier.",)),
        Judge("osnet-ain-msmt17", "OSNet-AIN of MSMT17", _osnet_ain, _imagenet, 512, "person", (256, 128), unused=("classifier.",)),
        Judge("osnet-ibn-imagenet", "OSNet-IBN of ImageNet", _osnet_ibn, _imagenet, 512, "person", (256, 128), unused=("classifier.",)),
        Judge("pcb-market1501", "PCB of Market-1501", PCB, _imagenet, 12288, "person", (384, 192)),
        Judge("osnet-mini", "our small OSNet", OSNetMini, _as_they_are, 512, "person", OSNetMini.SIZE),
        Judge("pcb-mini", "our small PCB", PCBMini, _as_they_are, PCBMini.FEATURES, "person", PCBMini.SIZE),
        Judge("facenet-vggface2", "InceptionResnetV1 of VGGFace2", InceptionResnetV1, _face, 512, "face", (160, 160), unused=("logits.",)),
        Judge("inception-fid", "the FID's Inception", InceptionFID, _levels, 3056, "frame", resize=resize_clean, prefix="network."),
        Judge("inception-imagenet", "torchvision's Inception", InceptionImageNet, _signed, 2048, "frame", resize=resize_official),
    )
}  # fmt: skip


def looks_at(name: str) -> Literal["frame", "person", "face", ""]:
    """Which part of a picture is cut out for a judge; empty for what is no key of JUDGES."""
    return JUDGES[name].looks_at if name in JUDGES else ""
