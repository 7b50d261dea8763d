"""Discriminators: networks that judge patches of pictures, to train a generator against.

A discriminator is a set of judges. Each is a patch network of its own (Isola et al. 2017, section
3.3) and sees one view: the whole picture, a crop of the body or the head, the background, or the
picture at full and at half size.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Layout = Literal["global", "global-local", "global-body-head", "multi-scale", "global-multi-scale"]
Norm = Literal["instance", "batch"]

# The judges of a layout, in the order of their verdicts; a background judge sits only if asked.
_JUDGES: dict[Layout, tuple[str, ...]] = {
    "global": ("global", "background"),
    "global-local": ("background", "global", "local"),
    "global-body-head": ("background", "global", "body", "head"),
    "multi-scale": ("full_size", "half_size"),
    "global-multi-scale": ("global", "full_size", "half_size"),
}
_SCALES = ("full_size", "half_size")


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Layers of a discriminator. Defaults: what a generator is personalized against (patch_global).

    Raises:
        ValueError: on an unknown layout or norm, or numbers that cannot be built.
    """

    layout: Layout = "global"
    width: int = 64  # of the first layer; each halving doubles it
    max_widening: int = 8  # no layer is wider than width * max_widening
    halvings: int = 4  # convolutions with stride 2
    norm: Norm = "instance"
    sigmoid: bool = False  # verdicts in (0, 1); without, any number, as least squares want them
    channels: int = 6  # of `picture`: RGB and the target's condition map
    background_channels: int | None = None  # of `background` (4); None: no background judge
    scale_channels: int = 6  # of `local`; the multi-scale layouts only

    def __post_init__(self) -> None:
        for name, kind in (("layout", Layout), ("norm", Norm)):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(
                    f"Unknown {name} {getattr(self, name)!r}. Choose one of: "
                    f"{', '.join(get_args(kind))}."
                )
        counts = ["width", "max_widening", "halvings", "channels", "scale_channels"]
        if self.background_channels is not None:
            counts.append("background_channels")
        for name in counts:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} is {value!r}; it takes a whole number of 1 or more.")
        if self.background_channels is not None and "background" not in _JUDGES[self.layout]:
            raise ValueError(
                f"The layout {self.layout!r} has no background judge; leave background_channels "
                f"out, or choose one of: {', '.join(_with_background())}."
            )

    @property
    def judges(self) -> tuple[str, ...]:
        """Names of the judges, in the order of their verdicts."""
        return tuple(
            name
            for name in _JUDGES[self.layout]
            if name != "background" or self.background_channels is not None
        )

    def channels_of(self, judge: str) -> int:
        """Channels that a judge sees."""
        if judge == "background" and self.background_channels is not None:
            return self.background_channels
        return self.scale_channels if judge in _SCALES else self.channels

    @property
    def smallest_side(self) -> int:
        """Pixels a side that a judge must at least see, to give one verdict."""
        return 3 << self.halvings


def _with_background() -> list[str]:
    return [layout for layout, judges in _JUDGES.items() if "background" in judges]


DISCRIMINATORS: dict[str, DiscriminatorConfig] = {
    "patch-global": DiscriminatorConfig(),
    "patch-global-local": DiscriminatorConfig(layout="global-local"),
    "patch-global-body-head": DiscriminatorConfig(layout="global-body-head"),
    "multi-scale": DiscriminatorConfig(
        layout="global-multi-scale", width=32, halvings=3, norm="batch"
    ),
}


@dataclass(frozen=True)
class DiscriminatorInputs:
    """What is judged; a layout looks at the fields that its judges need.

    Raises:
        ValueError: boxes that do not fit the pictures.
    """

    picture: Tensor  # (B, C, H, W) float [-1, 1]: RGB, then the target's condition map
    background: Tensor | None = None  # (B, 4, H, W): RGB, then 1 where the background was known
    body_boxes: Tensor | None = None  # (B, 4) int64 min_x, max_x, min_y, max_y in pixels; max out
    head_boxes: Tensor | None = None  # as body_boxes
    local: Tensor | None = None  # (B, C', H, W), what multi-scale judges see; None: the picture

    def __post_init__(self) -> None:
        for name in ("body_boxes", "head_boxes"):
            boxes = getattr(self, name)
            if boxes is not None and boxes.shape != (len(self.picture), 4):
                raise ValueError(
                    f"{name} is {tuple(boxes.shape)}; {len(self.picture)} pictures need "
                    f"({len(self.picture)}, 4): min_x, max_x, min_y, max_y of each."
                )


class PatchNetwork(nn.Module):
    """A stack of 4x4 convolutions that gives one verdict a patch.

    (N, C, H, W) -> (N, 1, H / 2^halvings - 2, W / 2^halvings - 2).
    """

    def __init__(self, in_channels: int, config: DiscriminatorConfig) -> None:
        super().__init__()
        widths = [
            config.width * min(2**level, config.max_widening)
            for level in range(config.halvings + 1)
        ]
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, widths[0], 4, stride=2, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        for level in range(1, config.halvings + 1):
            stride = 2 if level < config.halvings else 1
            # Batch norm has a bias of its own, instance norm has none.
            layers += [
                nn.Conv2d(
                    widths[level - 1],
                    widths[level],
                    4,
                    stride=stride,
                    padding=1,
                    bias=config.norm == "instance",
                ),
                _NORMS[config.norm](widths[level]),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        layers.append(nn.Conv2d(widths[-1], 1, 4, stride=1, padding=1))
        if config.sigmoid:
            layers.append(nn.Sigmoid())
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        verdict: Tensor = self.layers(x)
        return verdict


_NORMS: dict[Norm, Callable[[int], nn.Module]] = {
    "instance": nn.InstanceNorm2d,
    "batch": nn.BatchNorm2d,
}


class Discriminator(nn.Module):
    """All judges of a layout."""

    def __init__(self, config: DiscriminatorConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DiscriminatorConfig()
        self.judges = nn.ModuleDict(
            {name: PatchNetwork(config.channels_of(name), config) for name in config.judges}
        )

    def forward(self, inputs: DiscriminatorInputs) -> dict[str, Tensor]:
        """The verdicts of the judges that have something to see, by their names.

        Returns:
            (N, 1, h, w) each. Pictures whose box is empty are left out of the crops, so N may be
            smaller than B there; a judge whose boxes are all empty is left out itself, as is the
            background's if there is no background.

        Raises:
            ValueError: boxes that the layout needs are missing, or a view is too small.
        """
        verdicts = {}
        for name, judge in self.judges.items():
            view = VIEWS[name](inputs)
            if view is not None:
                self._check_size(name, view)
                verdicts[name] = judge(view)
        return verdicts

    def _check_size(self, name: str, view: Tensor) -> None:
        height, width = view.shape[-2:]
        if min(height, width) < self.config.smallest_side:
            raise ValueError(
                f"The {name} judge sees {width}x{height} pixels, but needs "
                f"{self.config.smallest_side} a side with {self.config.halvings} halvings. Train "
                "at a larger size (a body is seen at half of it, a head at a quarter), or with "
                "fewer halvings."
            )


def build_discriminator(config: DiscriminatorConfig | str = "patch-global") -> Discriminator:
    """A discriminator with torch's random initial weights, from a config or a name."""
    if isinstance(config, str):
        if config not in DISCRIMINATORS:
            raise ValueError(
                f"Unknown discriminator {config!r}. Choose one of: {', '.join(DISCRIMINATORS)}."
            )
        config = DISCRIMINATORS[config]
    return Discriminator(config)


def mean_verdict(verdicts: Mapping[str, Tensor]) -> Tensor:
    """What to log: the mean over judges of their mean verdict, without gradient; a scalar."""
    return torch.stack([verdict.detach().mean() for verdict in verdicts.values()]).mean()


def crop_boxes(pictures: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor | None:
    """Cut one box out of each picture and bring them to one size; gradients flow through.

    Args:
        pictures: (B, C, H, W).
        boxes: (B, 4) integer pixels min_x, max_x, min_y, max_y, the maxima outside of the box. What
            of a box lies outside of the picture is cut off; one that is empty or inverted, as of a
            body that has left the picture, is dropped.
        size: height and width of the crops.

    Returns:
        (N, C, *size), N the number of boxes kept, in their order; None if there are none.
    """
    height, width = pictures.shape[-2:]
    crops = []
    for picture, (min_x, max_x, min_y, max_y) in zip(pictures, boxes.tolist(), strict=True):
        columns = slice(max(min_x, 0), min(max_x, width))
        rows = slice(max(min_y, 0), min(max_y, height))
        if columns.start < columns.stop and rows.start < rows.stop:
            crops.append(_resize(picture[None, :, rows, columns], size))
    return torch.cat(crops) if crops else None


def _body(inputs: DiscriminatorInputs) -> Tensor | None:
    return _crop(inputs.picture, inputs.body_boxes, "body", shrink=2)


def _head(inputs: DiscriminatorInputs) -> Tensor | None:
    return _crop(inputs.picture, inputs.head_boxes, "head", shrink=4)


def _full_size(inputs: DiscriminatorInputs) -> Tensor:
    return inputs.picture if inputs.local is None else inputs.local


def _half_size(inputs: DiscriminatorInputs) -> Tensor:
    full = _full_size(inputs)
    return _resize(full, (full.shape[-2] // 2, full.shape[-1] // 2))


def _crop(pictures: Tensor, boxes: Tensor | None, part: str, shrink: int) -> Tensor | None:
    if boxes is None:
        raise ValueError(f"This discriminator judges the {part}; give {part}_boxes.")
    height, width = pictures.shape[-2:]
    return crop_boxes(pictures, boxes, (height // shrink, width // shrink))


def _resize(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(pictures, size, mode="bilinear", align_corners=True)


VIEWS: dict[str, Callable[[DiscriminatorInputs], Tensor | None]] = {
    "background": lambda inputs: inputs.background,
    "global": lambda inputs: inputs.picture,
    "local": _body,
    "body": _body,
    "head": _head,
    "full_size": _full_size,
    "half_size": _half_size,
}
