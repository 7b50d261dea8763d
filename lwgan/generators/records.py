"""What goes into a generator, what comes out, and what it keeps of the sources."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

SIZE_MULTIPLE = 8  # three halvings, undone in the decoder


def check_size(name: str, height: int, width: int) -> None:
    """Raise ValueError unless the networks can halve both sides three times."""
    if height % SIZE_MULTIPLE or width % SIZE_MULTIPLE or height < 1 or width < 1:
        above = [max(-(-side // SIZE_MULTIPLE), 1) * SIZE_MULTIPLE for side in (height, width)]
        raise ValueError(
            f"{name} is {height}x{width} pixels; the networks halve both sides three times, so "
            f"they must be multiples of {SIZE_MULTIPLE}. Resize or pad to {above[0]}x{above[1]}."
        )


@dataclass(frozen=True)
class GeneratorInputs:
    """One call's inputs: B people, S sources and T frames of each. H and W are multiples of 8.

    Raises:
        ValueError: where shapes disagree or a side is not a multiple of 8.
    """

    background: Tensor | None  # (B, N, 4, H, W): [picture * known ; known], known 1 = background
    source: Tensor  # (B, S, 6, H, W): [picture in [-1, 1] ; condition map]
    target: Tensor  # (B, T, 6, H, W): [texture-warped picture in [-1, 1] ; condition map]
    flow: Tensor  # (B, T, S, H, W, 2) float32 NDC x, y in source S; -2 where there is no body
    previous_flow: Tensor | None = None  # (B, T - 1, H, W, 2), likewise, in the frame before

    def __post_init__(self) -> None:
        for name in ("source", "target"):
            _check_pictures(name, getattr(self, name), 6)
        batch, num_sources, _, height, width = self.source.shape
        num_frames = self.target.shape[1]
        check_size("source", height, width)
        wanted: dict[str, tuple[int, ...]] = {
            "target": (batch, num_frames, 6, height, width),
            "flow": (batch, num_frames, num_sources, height, width, 2),
            "previous_flow": (batch, num_frames - 1, height, width, 2),
        }
        if self.background is not None:
            _check_pictures("background", self.background, 4)
            wanted["background"] = (batch, self.background.shape[1], 4, height, width)
        for name, shape in wanted.items():
            value = getattr(self, name)
            if value is not None and value.shape != shape:
                raise ValueError(
                    f"{name} is {tuple(value.shape)}; beside a source of "
                    f"{tuple(self.source.shape)} and {num_frames} frames it must be {shape}."
                )

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "GeneratorInputs":
        """On `device`, pictures in `dtype`. Flows keep theirs: bfloat16 misses pixels."""

        def pictures(value: Tensor) -> Tensor:
            return value.to(device=device, dtype=dtype)

        return GeneratorInputs(
            background=None if self.background is None else pictures(self.background),
            source=pictures(self.source),
            target=pictures(self.target),
            flow=self.flow.to(device=device),
            previous_flow=None if self.previous_flow is None else self.previous_flow.to(device),
        )


@dataclass(frozen=True)
class GeneratorOutputs:
    """What a generator drew. Images in [-1, 1]; masks in [0, 1], 1 = background.

    A frame is ``target_mask * background + (1 - target_mask) * target_image``.
    """

    background: Tensor | None  # (B, N, 3, H, W); None without a background network
    source_image: Tensor | None  # (B, S, 3, H, W); None where only targets were asked for
    source_mask: Tensor | None  # (B, S, 1, H, W); likewise
    target_image: Tensor  # (B, T, 3, H, W)
    target_mask: Tensor  # (B, T, 1, H, W)


@dataclass(frozen=True)
class SourceFeatures:
    """What a generator keeps of S sources to draw any number of frames.

    The baselines keep the source pictures themselves, as the one entry of `encoder`.
    """

    encoder: tuple[Tensor, ...]  # (B, S, C, h, w) at H/2, H/4, H/8
    residual: tuple[Tensor, ...]  # (B, S, C, H/8, W/8), one after each residual block

    @property
    def num_sources(self) -> int:
        return self.encoder[0].shape[1]

    def concatenated(self, others: Sequence["SourceFeatures"]) -> "SourceFeatures":
        """These sources, then those of the others: people who lend each other their clothes."""
        everyone = (self, *others)
        return SourceFeatures(
            encoder=tuple(
                side_by_side(level) for level in zip(*(f.encoder for f in everyone), strict=True)
            ),
            residual=tuple(
                side_by_side(level) for level in zip(*(f.residual for f in everyone), strict=True)
            ),
        )

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "SourceFeatures":
        return SourceFeatures(
            encoder=tuple(level.to(device=device, dtype=dtype) for level in self.encoder),
            residual=tuple(level.to(device=device, dtype=dtype) for level in self.residual),
        )


def side_by_side(levels: Sequence[Tensor]) -> Tensor:
    """(B, S_i, C, h, w) -> (B, sum of S_i, C, h, w), in the memory format of the first."""
    if len(levels) == 1:
        return levels[0]
    if levels[0].stride(2) == 1:  # channels_last, which cat does not see in five dimensions
        return torch.cat([level.movedim(2, -1) for level in levels], dim=1).movedim(-1, 2)
    return torch.cat(tuple(levels), dim=1)


def _check_pictures(name: str, pictures: Tensor, channels: int) -> None:
    if pictures.ndim != 5 or pictures.shape[2] != channels or 0 in pictures.shape:
        raise ValueError(
            f"{name} is {tuple(pictures.shape)}; it must be (B, N, {channels}, H, W) with at least "
            "one of each."
        )
