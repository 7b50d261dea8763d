"""Colours of a person in the body's texture map: read from sources, merged, carried to any pose.

The map is a square picture like any other: `SurfaceTables.texture_fragments` says which face lies
at each texel, so a source is unwrapped by the same flow that warps it into a pose. Texels that no
face covers are 0, which is grey.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor

from iper_toolkit.raster import Fragments
from lwgan.correspondence import flow_to, keep_faces
from lwgan.generators.warp import sample
from lwgan.silhouettes import dilate

SOURCES_EPSILON = 1e-5  # beside the sum of visibilities of a person's sources
PEOPLE_EPSILON = 1e-7  # beside the sum of shares of the people
# Bilinear reading inside of a chart reaches one texel over its edge; one more for rounding.
RIM_TEXELS = 2


def unwrap(pictures: Tensor, points: Tensor, fragments: Fragments) -> Tensor:
    """Each source's colours in the texture map, hidden faces with what the picture shows instead.

    Args:
        pictures: (B, S, C, H, W) float.
        points: (B, S, F, 3, 2) NDC, corners of `SurfaceTables.texture_faces` in the pictures.
        fragments: (h, w) of the texture map.

    Returns:
        (B, S, C, h, w); 0 between the charts and where a face lies outside of the picture.
    """
    flow = flow_to(fragments, points)
    return sample(pictures.flatten(0, 1), flow.flatten(0, 1)).unflatten(0, pictures.shape[:2])


def coverage(points: Tensor, kept: Tensor, fragments: Fragments, size: tuple[int, int]) -> Tensor:
    """How far each texel of some faces lies inside of a picture: `unwrap` of a picture of ones.

    Args:
        points: (..., F, 3, 2) NDC, as in `unwrap`.
        kept: (..., F) bool, the faces that count.
        fragments: (h, w) of the texture map.
        size: (height, width) of the pictures.

    Returns:
        (..., 1, h, w) float in [0, 1].
    """
    flow = flow_to(fragments, keep_faces(points, kept)).flatten(0, -4)
    inside = sample(points.new_ones(1, 1, *size).expand(len(flow), 1, *size), flow)
    return inside.unflatten(0, points.shape[:-3])


def visibility(
    points: Tensor, visible: Tensor, fragments: Fragments, size: tuple[int, int], kernel: int
) -> Tensor:
    """Texels that a source shows, grown by a box: (..., 1, h, w) float 0 or 1. See `coverage`.

    Args:
        kernel: odd, texels; holes between seen faces close.
    """
    return dilate(coverage(points, visible, fragments, size), kernel).to(points.dtype)


def merge_sources(textures: Tensor, visible: Tensor) -> Tensor:
    """One texture of several sources of a person: the first, its hidden part filled by the others.

    Args:
        textures: (B, S, C, h, w) from `unwrap`.
        visible: (B, S, 1, h, w) from `visibility`.

    Returns:
        (B, C, h, w). What no source shows keeps the colours of the first.
    """
    first, others = textures[:, 0], textures[:, 1:]
    weights = visible[:, 1:]
    total = weights.sum(1)
    mean = (others * weights).sum(1) / (total + SOURCES_EPSILON)
    fill = (1 - visible[:, 0]) * (total >= 1)
    return first * (1 - fill) + mean * fill


def merge_people_textures(textures: Sequence[Tensor], shares: Sequence[Tensor]) -> Tensor:
    """One texture of several people, each giving the faces that are taken from them.

    Args:
        textures: (B, C, h, w) of each person, the primary one first.
        shares: (B, 1, h, w) of each, `coverage` of their faces; need not sum to 1.

    Returns:
        (B, C, h, w), 0 where nobody has a share.
    """
    weights = torch.stack(tuple(shares))
    weights = weights / (weights.sum(0) + PEOPLE_EPSILON)
    return (torch.stack(tuple(textures)) * weights).sum(0)


def grow_charts(texture: Tensor, fragments: Fragments, rounds: int = RIM_TEXELS) -> Tensor:
    """Paint a rim around the charts, so that reading at a seam takes no grey from beside it.

    Each round gives every bare texel next to a painted one the mean of its painted neighbours.

    Args:
        texture: (B, C, h, w).
        fragments: (h, w) of the texture map.
        rounds: texels that the rim is wide.
    """
    painted = fragments.covered.to(texture.dtype)[None, None]
    colours = texture * painted
    for _ in range(rounds):
        around = functional.avg_pool2d(painted, 3, stride=1, padding=1)
        mean = functional.avg_pool2d(colours, 3, stride=1, padding=1) / around.clamp_min(1e-6)
        colours = torch.where(painted > 0, colours, mean)
        painted = (around > 0).to(texture.dtype)
    return colours


def dress(texture: Tensor, fragments: Fragments, uv_corners: Tensor) -> Tensor:
    """The texture on bodies: the picture that the target branch of the network starts from.

    Args:
        texture: (B, C, H, W), as large as the pictures of the bodies.
        fragments: (B, T, H, W) of the bodies.
        uv_corners: (F, 3, 2) NDC, the faces' corners in the texture map.

    Returns:
        (B, T, C, H, W), 0 where there is no body.
    """
    # Frames stand below each other in one tall grid, so the texture is not copied for each of them.
    tall = flow_to(fragments, uv_corners).flatten(1, 2)
    return sample(texture, tall).unflatten(-2, fragments.face.shape[1:3]).movedim(2, 1)
