"""Feet on the ground: a driving motion made to stand where its first frame stands.

The posed body and the picture are y down, so the lowest point of a body is its largest y, and a jump
makes it small. Rules and thresholds are those of iPERCore's "smooth" imitation.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Camera units (metres of the body) that the feet rise between two turning points to open a jump,
JUMP_RISE = 0.2
# and how far below the height at its start they may still be for it to go on.
JUMP_STAY = 0.1


@dataclass(frozen=True)
class Jump:
    """Frames [start, end], both included, in which the feet are off the ground."""

    start: int
    end: int


def foot_height(vertices: Tensor) -> Tensor:
    """(..., V, 3) posed vertices, y down -> (...) y of the lowest point."""
    return vertices[..., 1].amax(-1)


def turning_points(heights: np.ndarray) -> np.ndarray:
    """First frame, all strict local extrema, last frame of (T,) heights: (K,) int64."""
    heights = np.asarray(heights)
    step = np.diff(heights)
    inner = 1 + np.flatnonzero(step[:-1] * step[1:] < 0)
    return np.unique(np.concatenate([[0], inner, [len(heights) - 1]])).astype(np.int64)


def find_jumps(heights: np.ndarray) -> list[Jump]:
    """Jumps in the feet's height in the picture.

    Args:
        heights: (T,) foot height plus the camera's ty, y down.

    Returns:
        In order; a jump that does not end before the clip does ends at its last frame.
    """
    heights = np.asarray(heights)
    points = turning_points(heights)
    jumps: list[Jump] = []
    start: int | None = None
    for before, after in itertools.pairwise(points.tolist()):
        if heights[before] - heights[after] > JUMP_RISE:
            segment = np.arange(before, after + 1)
            above_first = segment[heights[segment] < heights[0]]
            start = int(above_first[0]) if len(above_first) else before
        elif start is not None and not heights[start] - heights[after] > JUMP_STAY:
            jumps.append(Jump(start, after))
            start = None
    if start is not None:
        jumps.append(Jump(start, len(heights) - 1))
    return jumps


def stabilise_cameras(camera: Tensor, feet: Tensor) -> Tensor:
    """Cameras that keep the feet on the first frame's ground line, and let jumps be jumps.

    Motion to the side and changes of scale are dropped: scale 1, tx 0. The imitation then moves
    the source's camera by what is left.

    Args:
        camera: (T, 3) cameras of the driving motion.
        feet: (T,) `foot_height` of its bodies, metres.

    Returns:
        (T, 3).
    """
    if feet.shape != camera.shape[:1]:
        raise ValueError(f"feet are {tuple(feet.shape)}; cameras are {tuple(camera.shape)}.")
    if len(camera) == 0:
        return camera.clone()
    grounded = camera[0, 2] + feet[0] - feet
    shift = grounded.clone()
    for jump in find_jumps((feet + camera[:, 2]).cpu().numpy()):
        frames = slice(jump.start, jump.end + 1)
        shift[frames] = torch.minimum(camera[frames, 2], grounded[frames])
    return torch.stack([torch.ones_like(shift), torch.zeros_like(shift), shift], dim=1)


def stabilise_motion(params: Tensor, feet: Tensor) -> Tensor:
    """`stabilise_cameras` on (T, 85) fits; every frame gets the first one's shape."""
    return torch.cat(
        [
            stabilise_cameras(params[:, :3], feet),
            params[:, 3:-10],
            params[:1, -10:].expand(len(params), -1),
        ],
        dim=1,
    )
