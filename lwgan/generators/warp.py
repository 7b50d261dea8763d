"""Liquid warping: features of a source, carried to where the target shows the same surface.

The two steps use different corner conventions, and released weights depend on both of them:

1. A flow is resized with ``align_corners=True``: output row i reads input row i (H-1)/(h-1).
   The -2 of empty pixels is interpolated like any other value, so the body wears a ring, one pixel
   wide, whose coordinates lie between the body's and -2.
2. Features are sampled with ``align_corners=False`` and zeros outside: x is read at pixel
   ((x + 1) w - 1) / 2. A coordinate of -2 gives exactly 0.

Step 2 has two engines. `GridSampling` is the definition and has gradients; `RowSampling` computes
the corners of a flow once for all features of one size, and reads them pixel by pixel as
channels_last features lie in memory: five times as fast on a CPU, where frames are drawn.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def resize_flow(flow: Tensor, height: int, width: int) -> Tensor:
    """(..., H, W, 2) -> (..., height, width, 2): step 1, always from the full size, not cascaded."""
    if flow.shape[-3:-1] == (height, width):
        return flow
    resized = F.interpolate(
        flow.flatten(0, -4).movedim(-1, 1), (height, width), mode="bilinear", align_corners=True
    )
    return resized.movedim(1, -1).unflatten(0, flow.shape[:-3])


def sample(features: Tensor, flow: Tensor) -> Tensor:
    """Step 2: read (N, C, h, w) features at (N, height, width, 2) -> (N, C, height, width).

    Coordinates keep the precision of `flow`, which bfloat16 would round to whole pixels; the
    result has the dtype of `features`.
    """
    sampled = F.grid_sample(
        features.to(flow.dtype), flow, mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return sampled.to(features.dtype)


def warp(features: Tensor, flow: Tensor) -> Tensor:
    """Both steps: (N, C, h, w) features and (N, H, W, 2) flow, NDC -> (N, C, h, w)."""
    return sample(features, resize_flow(flow, features.shape[-2], features.shape[-1]))


class GridSampling:
    """Step 2 for all pairs of S sources and T frames, by `sample`."""

    def __init__(self, flow: Tensor) -> None:
        """`flow`: (B, T, S, h, w, 2), already at the features' size (`resize_flow`)."""
        self.shape = flow.shape[:-1]
        # Frames stand below each other in one tall grid, so no source is copied for each of them.
        self.grid = flow.transpose(1, 2).flatten(2, 3).flatten(0, 1)

    def __call__(self, features: Tensor) -> Tensor:
        """(B, S, C, h, w) -> (B * T, S, C, h, w)."""
        batch, num_frames, num_sources, height, _ = self.shape
        tall = sample(features.flatten(0, 1), self.grid)
        warped = tall.unflatten(-2, (num_frames, height)).unflatten(0, (batch, num_sources))
        return warped.permute(0, 3, 1, 2, 4, 5).flatten(0, 1)


class RowSampling:
    """The same from the four corners around each coordinate, for features in channels_last."""

    def __init__(self, flow: Tensor) -> None:
        """`flow`: (B, T, S, h, w, 2), already at the features' size (`resize_flow`)."""
        self.shape = flow.shape[:-1]
        batch, _, num_sources, height, width = self.shape
        (left, right), (left_share, right_share) = _neighbours(flow[..., 0], width)
        (top, bottom), (top_share, bottom_share) = _neighbours(flow[..., 1], height)
        picture = torch.arange(batch * num_sources, dtype=torch.int32, device=flow.device)
        first = picture.view(batch, 1, num_sources, 1, 1) * (height * width)
        top, bottom = top * width + first, bottom * width + first
        # Of the rows of all sources' pixels: (B * T * S * h * w, 4) int32, and what each counts.
        self.row = torch.stack(
            (top + left, top + right, bottom + left, bottom + right), dim=-1
        ).view(-1, 4)
        self.share = torch.stack(
            (
                top_share * left_share,
                top_share * right_share,
                bottom_share * left_share,
                bottom_share * right_share,
            ),
            dim=-1,
        ).view(-1, 4)

    def __call__(self, features: Tensor) -> Tensor:
        """(B, S, C, h, w) -> (B * T, S, C, h, w), channels innermost in memory."""
        batch, num_frames, num_sources, height, width = self.shape
        rows, share = features.movedim(2, -1).flatten(0, 3), self.share.to(features.dtype)
        # Off the CPU, plain reads and sums: a compiler fuses them with what comes next.
        read = _read_in_bags if features.device.type == "cpu" else read_corners
        warped = read(rows, self.row, share)
        return warped.view(batch * num_frames, num_sources, height, width, -1).movedim(-1, 2)


def read_corners(rows: Tensor, row: Tensor, share: Tensor) -> Tensor:
    """(R, C) rows -> (M, C), sums of the four rows that (M, 4) `row` names, times `share`."""
    total = rows[row[:, 0]] * share[:, :1]
    for i in range(1, 4):
        total = torch.addcmul(total, rows[row[:, i]], share[:, i : i + 1])
    return total


def _read_in_bags(rows: Tensor, row: Tensor, share: Tensor) -> Tensor:
    """`read_corners` in one pass over memory."""
    return F.embedding_bag(row, rows, per_sample_weights=share, mode="sum")


def _neighbours(
    coordinate: Tensor, size: int
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The pixels on both sides of an NDC coordinate, and their shares: 0 outside of the picture."""
    position = ((coordinate + 1) * size - 1) / 2
    low = position.floor()
    high = low + 1
    high_share = position - low
    return (
        (low.clamp(0, size - 1).to(torch.int32), high.clamp(0, size - 1).to(torch.int32)),
        (
            (1 - high_share) * ((low >= 0) & (low < size)),
            high_share * ((high >= 0) & (high < size)),
        ),
    )
