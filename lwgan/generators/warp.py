"""Liquid warping: features of a source, carried to where the target shows the same surface.

The two steps use different corner conventions, and released weights depend on both of them:

1. A flow is resized with ``align_corners=True``: output row i reads input row i (H-1)/(h-1).
   The -2 of empty pixels is interpolated like any other value, so the body wears a ring, one pixel
   wide, whose coordinates lie between the body's and -2.
2. Features are sampled with ``align_corners=False`` and zeros outside: x is read at pixel
   ((x + 1) w - 1) / 2. A coordinate of -2 gives exactly 0.
"""

import torch.nn.functional as F
from torch import Tensor


def resize_flow(flow: Tensor, height: int, width: int) -> Tensor:
    """(..., H, W, 2) -> (..., height, width, 2): step 1, always from the full size, not cascaded."""
    if flow.shape[-3:-1] == (height, width):
        return flow
    leading = flow.shape[:-3]
    channels_first = flow.reshape(-1, *flow.shape[-3:]).movedim(-1, 1)
    resized = F.interpolate(
        channels_first, (height, width), mode="bilinear", align_corners=True, antialias=False
    )
    return resized.movedim(1, -1).reshape(*leading, height, width, 2)


def sample(features: Tensor, flow: Tensor) -> Tensor:
    """Step 2: read (N, C, h, w) features at (N, height, width, 2) -> (N, C, height, width).

    Coordinates keep the precision of `flow`; the result has that of `features`.
    """
    exact = features.to(flow.dtype)  # half a mantissa of bfloat16 is less than a pixel
    sampled = F.grid_sample(exact, flow, mode="bilinear", padding_mode="zeros", align_corners=False)
    return sampled.to(features.dtype)


def warp(features: Tensor, flow: Tensor) -> Tensor:
    """Both steps: (N, C, h, w) features and (N, H, W, 2) flow, NDC -> (N, C, h, w)."""
    return sample(features, resize_flow(flow, features.shape[-2], features.shape[-1]))


def warp_sources(features: Tensor, flow: Tensor) -> Tensor:
    """Features of S sources, carried into T frames: step 2 for all pairs.

    Args:
        features: (B, S, C, h, w).
        flow: (B, T, S, h, w, 2), already at the features' size (`resize_flow`).

    Returns:
        (B * T, S, C, h, w)
    """
    batch, num_frames, num_sources, height, width, _ = flow.shape
    # Frames stand below each other in one tall grid, so no source is copied for each of them.
    tall = flow.transpose(1, 2).reshape(batch * num_sources, num_frames * height, width, 2)
    warped = sample(features.flatten(0, 1), tall)
    warped = warped.reshape(batch, num_sources, -1, num_frames, height, width)
    return warped.permute(0, 3, 1, 2, 4, 5).flatten(0, 1)
