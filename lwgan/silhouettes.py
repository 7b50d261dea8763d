"""Silhouettes: box morphology, their edges, and pictures whose colours are carried over the edge.

A person's mask is never exact. `extend_edges` keeps what is surely person, paints a band around it
with colours of the nearest edge, and drops the rest: so a body that reaches past its mask still
finds colours of the person there (Liu et al. 2021, "edge extension"; iPERCore's "morph image").

Masks here are **1 = person** unless an argument says otherwise. All functions work on any device.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

# How edge colours mix: "growing" with distance as released checkpoints saw it, "falling" is right.
Weighting = Literal["growing", "falling"]

NUM_NEIGHBOURS = 3  # edge pixels that colour one pixel of the band
CANNY_LOW, CANNY_HIGH = 0.1, 0.9  # of the magnitude of the gradient
# exp(-(x² + y²) / 2), and x / (x² + y²) with 1 under the middle column.
_SQUARES = np.array([1.0, 0.0, 1.0])
GAUSSIAN = np.exp(-(_SQUARES[:, None] + _SQUARES) / 2)
GAUSSIAN /= GAUSSIAN.sum()
SLOPE = np.array([[-0.5, 0.0, 0.5], [-1.0, 0.0, 1.0], [-0.5, 0.0, 0.5]])
# Neighbours (row, column) counter-clockwise from the right: the directions of orientation bins.
DIRECTIONS = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))
_SAME_PIXEL = 1e-6  # squared distance of a pixel to itself, so that it outweighs all others
_TILE = 64  # pixels a side of the squares in which nearest edge pixels are looked for
_MOST_PAIRS = 1 << 24  # distances held at once: 64 MiB


def erode(masks: Tensor, kernel: int, *, certain: float = 1.0) -> Tensor:
    """Where every pixel of a box is set; outside of the picture counts as set.

    Args:
        masks: (..., H, W) float in [0, 1] or bool.
        kernel: odd side of the box in pixels.
        certain: the least value that counts as set. With 1.0 (the reference) one pixel of 0.99
            clears the whole box around it.

    Returns:
        (..., H, W) bool.
    """
    unset = _planes(masks) < certain
    return ~_any_in_box(unset, _odd(kernel)).reshape(masks.shape)


def dilate(masks: Tensor, kernel: int) -> Tensor:
    """Where the sum over a box is at least 1; outside of the picture counts 0.

    Args:
        masks: (..., H, W) float in [0, 1] or bool. Several soft pixels may sum up to 1.
        kernel: odd side of the box in pixels.

    Returns:
        (..., H, W) bool.
    """
    if masks.dtype == torch.bool:
        return _any_in_box(_planes(masks), _odd(kernel)).reshape(masks.shape)
    return (_box_sum(_planes(masks), _odd(kernel)) >= 1).reshape(masks.shape)


def soft_dilate(masks: Tensor, kernel: int) -> Tensor:
    """Where the sum over a box is at least half of its area; as `dilate`."""
    return (_box_sum(_planes(masks), _odd(kernel)) >= kernel * kernel / 2).reshape(masks.shape)


@dataclass(frozen=True)
class Gradient:
    """Slope of a blurred silhouette; each (N, 1, H, W) float."""

    blurred: Tensor
    x: Tensor
    y: Tensor

    @property
    def magnitude(self) -> Tensor:
        return (self.x.square() + self.y.square()).sqrt()

    @property
    def orientation(self) -> Tensor:
        """Degrees in steps of 45 from 0 to 360, NaN where both slopes are 0.

        The reference doubles the angle (360/pi), so a step is 22.5 degrees of the slope, and
        released checkpoints saw pictures made so.
        """
        degrees = torch.atan(self.y / self.x) * (360 / torch.pi) + 180
        return (degrees / 45).round() * 45


def gradient(masks: Tensor) -> Gradient:
    """Gaussian 3×3 (sigma 1), then the slope ``x / (x² + y²)``; zeros outside of the picture.

    Args:
        masks: (..., H, W) float or bool.
    """
    blurred = _correlate(_planes(masks).float(), GAUSSIAN)
    return Gradient(blurred, x=_correlate(blurred, SLOPE), y=_correlate(blurred, SLOPE.T))


def canny_edges(masks: Tensor) -> Tensor:
    """Edges of silhouettes as the reference's Canny filter draws them: thick, with a few holes.

    A pixel whose slope is not larger than both neighbours' along its orientation is dropped; above
    `CANNY_HIGH` the rest is kept, above `CANNY_LOW` where enough neighbours are kept.

    Args:
        masks: (..., H, W) float or bool, 1 = person.

    Returns:
        (..., H, W) bool.
    """
    slope = gradient(masks)
    return _hysteresis(_thin(slope.magnitude, slope.orientation)).reshape(masks.shape)


def inner_edges(masks: Tensor) -> Tensor:
    """Pixels of bool masks (..., H, W) that touch a pixel outside of the mask, (..., H, W) bool."""
    return masks & ~erode(masks, 3)


def extend_edges(
    pictures: Tensor, confident: Tensor, band: Tensor, edges: Tensor, weighting: Weighting
) -> Tensor:
    """Keep the confident pixels, colour the rest of the band from its nearest edge pixels.

    Args:
        pictures: (..., C, H, W) float.
        confident: (..., 1, H, W) bool, surely person: kept as it is.
        band: (..., 1, H, W) bool, where colours are wanted.
        edges: (..., 1, H, W) bool, pixels whose colours are carried over.
        weighting: by squared distance d over the nearest three: "growing" d / sum(d), where the
            farthest weighs most; "falling" the same with 1/d.

    Returns:
        (..., C, H, W) float: zeros outside of both.

    Raises:
        ValueError: a picture whose band is to be coloured has no edge.
    """
    images = pictures.flatten(0, -4)
    extended = torch.where(confident.flatten(0, -4), images, 0)
    uncertain = (band & ~confident).flatten(0, -3)
    sources = edges.flatten(0, -3)
    for index in range(len(images)):
        queries, points = uncertain[index].nonzero(), sources[index].nonzero()
        if len(queries) == 0:
            continue
        if len(points) == 0:
            raise ValueError(
                f"Picture {index} has no edge of a person to take colours from: its mask shows "
                "nobody, or is soft everywhere. Give a mask with a person (1 = background where "
                "sources are composed; 255 = person in mask files)."
            )
        # Released checkpoints saw ties as topk lets them fall; else devices had better agree.
        stable = weighting == "falling"
        squared, nearest = nearest_points(queries, points, NUM_NEIGHBOURS, stable=stable)
        weights = neighbour_weights(squared, weighting).to(images.dtype)
        rows, columns = points[nearest].unbind(-1)  # each (M, 3)
        colours = (images[index][:, rows, columns] * weights).sum(-1)
        extended[index][:, queries[:, 0], queries[:, 1]] = colours
    return extended.reshape(pictures.shape)


def neighbour_weights(squared: Tensor, weighting: Weighting) -> Tensor:
    """(M, K) squared distances -> (M, K) weights that sum to 1; see `extend_edges`."""
    if weighting == "growing":
        if squared.shape[-1] == 1:
            return torch.ones_like(squared)  # one edge pixel colours all, be it the pixel itself
        return squared / squared.sum(-1, keepdim=True)
    near = 1 / squared.clamp_min(_SAME_PIXEL)
    return near / near.sum(-1, keepdim=True)


def nearest_points(
    queries: Tensor, points: Tensor, count: int, *, stable: bool = False
) -> tuple[Tensor, Tensor]:
    """The nearest few points of each query, exact.

    Queries are taken square by square of the picture: by the triangle inequality only points about
    as near as the square's third nearest can be among the nearest of any of its pixels. Memory is
    bounded.

    Args:
        queries: (M, 2) int64 pixels, row and column.
        points: (N, 2) int64 pixels, N >= 1.
        count: how many; fewer are returned where there are fewer points.
        stable: of equal distances the lower index comes first, on every device. Else they fall as
            `torch.topk` lets them.

    Returns:
        (M, count) float32 squared distances and (M, count) int64 indices of points.
    """
    count = min(count, len(points))
    squared = torch.empty(len(queries), count, device=queries.device)
    nearest = torch.empty(len(queries), count, dtype=torch.int64, device=queries.device)
    for members in _tiles(queries):
        # Counted from the tile's corner: then all numbers are whole and small, so float is exact.
        corner = queries[members[0]] // _TILE * _TILE
        inside, around = (queries[members] - corner).float(), (points - corner).float()
        centre = inside.mean(0)
        reach = (inside - centre).square().sum(1).amax().sqrt()
        distance = (around - centre).square().sum(1).sqrt()
        # One pixel more, so that no point is lost to rounding.
        limit = distance.kthvalue(count).values + 2 * reach + 1
        candidates = (distance <= limit).nonzero()[:, 0]
        near = around[candidates]
        # |q - p|² = |q|² + (|p|² - 2 q·p); the first is the same for all points.
        length = near.square().sum(1)
        rows = max(_MOST_PAIRS // len(near), 1)
        for part, own in zip(members.split(rows), inside.split(rows), strict=True):
            with torch.autocast(
                queries.device.type, enabled=False
            ):  # whole numbers, or none at all
                unlike = torch.addmm(length, own, near.T, alpha=-2)
            values, indices = (_stable_smallest if stable else _smallest)(unlike, count)
            squared[part] = values + own.square().sum(1, keepdim=True)
            nearest[part] = candidates[indices]
    return squared, nearest


def _smallest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The smallest numbers of each row and where they stand, each (M, count), rising."""
    found = values.topk(count, largest=False)
    return found.values, found.indices


def _stable_smallest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """As `_smallest` of (M, N) whole numbers; of equal ones the first comes first."""
    length = values.shape[1]
    keys = values.long() * length + torch.arange(length, device=values.device)
    smallest = keys.topk(count, largest=False).values
    index = smallest % length
    return ((smallest - index) // length).to(values.dtype), index


def _thin(magnitude: Tensor, orientation: Tensor) -> Tensor:
    """Drop what is not larger than both neighbours along its orientation; NaN keeps the pixel."""
    neighbours = _neighbours(magnitude)
    larger = [magnitude > neighbours[direction] for direction in DIRECTIONS]
    bins = (orientation / 45) % 8
    thinned = magnitude
    for direction in range(4):
        along = (bins == direction) | (bins == direction + 4)
        ridge = larger[direction] & larger[direction + 4]
        thinned = torch.where(along & ~ridge, 0, thinned)
    return thinned


def _hysteresis(magnitude: Tensor) -> Tensor:
    """Strong pixels, and weak ones in whose 3×3 box strong ones (1) and weak ones (½) exceed 0.8."""
    strong = magnitude > CANNY_HIGH
    weak = (magnitude > CANNY_LOW) & ~strong
    strength = strong.float() + 0.5 * weak.float()
    return strong | (weak & (1.25 * _box_sum(strength, 3) > 1))


def _tiles(pixels: Tensor) -> list[Tensor]:
    """Indices of (M, 2) pixels, one tensor for each square of the picture that holds any."""
    row, column = (pixels // _TILE).unbind(-1)
    tile = (row << 16) + column  # GPUs multiply no matrices of whole numbers
    order = tile.argsort(stable=True)
    counts = tile[order].unique_consecutive(return_counts=True)[1]
    return list(order.split(counts.tolist()))


def _correlate(planes: Tensor, taps: NDArray) -> Tensor:
    """(N, 1, H, W) with a 3×3 kernel, zeros outside.

    Tap by tap, because a silhouette's straight edge lies between two pixels of equal slope and the
    last bit decides which is larger: a convolution's order of sums differs between machines.
    """
    neighbours = _neighbours(planes)
    total = torch.zeros_like(planes)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            total = total + neighbours[down, right] * float(taps[1 + down, 1 + right])
    return total


def _neighbours(planes: Tensor) -> dict[tuple[int, int], Tensor]:
    """(N, 1, H, W) -> the planes moved so that each pixel holds its neighbour (row, column)."""
    height, width = planes.shape[-2:]
    padded = functional.pad(planes, (1, 1, 1, 1))
    return {
        (down, right): padded[..., 1 + down : 1 + down + height, 1 + right : 1 + right + width]
        for down in (-1, 0, 1)
        for right in (-1, 0, 1)
    }


def _planes(masks: Tensor) -> Tensor:
    """(..., H, W) -> (N, 1, H, W)."""
    return masks.reshape(-1, 1, *masks.shape[-2:])


def _odd(kernel: int) -> int:
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"The kernel is {kernel} pixels wide; it takes an odd number from 1 up.")
    return kernel


def _any_in_box(planes: Tensor, kernel: int) -> Tensor:
    """(N, 1, H, W) bool -> bool: something is set in the box. Time does not grow with the kernel."""
    before, after = kernel // 2 + 1, kernel // 2
    for dim, pad in ((-1, (before, after)), (-2, (0, 0, before, after))):
        length = planes.shape[dim]
        count = functional.pad(planes.int(), pad).cumsum(dim, dtype=torch.int32)
        ends = count.narrow(dim, kernel, length)
        planes = ends > count.narrow(dim, 0, length)
    return planes


def _box_sum(planes: Tensor, kernel: int) -> Tensor:
    """(N, 1, H, W) -> float sum over the box, zeros outside; rows, then columns."""
    half = kernel // 2
    rows = functional.avg_pool2d(
        planes.float(), (1, kernel), stride=1, padding=(0, half), divisor_override=1
    )
    return functional.avg_pool2d(rows, (kernel, 1), stride=1, padding=(half, 0), divisor_override=1)
