"""Light on a rasterized mesh, for previews: a grey body, coloured parts, an overlay on a picture.

This is for the eye; nothing here goes into a network or a score.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iper_toolkit.raster import Fragments, interpolate
from iper_toolkit.raster.normals import vertex_normals, vertex_normals_array

__all__ = [
    "GREY",
    "PART_COLOURS",
    "draw_overlay",
    "part_colours",
    "shade",
    "vertex_normals",
    "vertex_normals_array",
]

GREY = (0.80, 0.79, 0.77)

# Colours of parts that lie side by side, told apart by hue and lightness. From the second row on
# left and right limbs take turns, as the parts of a body do.
PART_COLOURS = (
    *((0.96, 0.80, 0.42), (0.55, 0.66, 0.85)),
    *((0.35, 0.70, 0.55), (0.68, 0.85, 0.45)),
    *((0.90, 0.50, 0.35), (0.80, 0.45, 0.70)),
    *((0.20, 0.50, 0.50), (0.50, 0.60, 0.25)),
    *((0.98, 0.70, 0.55), (0.93, 0.65, 0.85)),
    *((0.60, 0.45, 0.35), (0.75, 0.75, 0.75)),
)

# Towards the lights, x right, y down, z away from the viewer: over the viewer's left shoulder.
_KEY_DIRECTION = (-0.45, -0.65, -0.75)
_AMBIENT = 0.20
_KEY = 0.82
_FACING = 0.12  # what faces the viewer is a little brighter: keeps the far side from going flat


def part_colours(part: Tensor) -> Tensor:
    """Part of each face, (F,) integer from 0 -> its colour, (F, 3) float32 in [0, 1]."""
    return torch.tensor(PART_COLOURS, device=part.device)[part.long() % len(PART_COLOURS)]


def shade(
    fragments: Fragments,
    vertices: Tensor,
    faces: Tensor,
    *,
    colour: tuple[float, float, float] = GREY,
    face_colours: Tensor | None = None,
) -> Tensor:
    """The mesh under a soft light from the viewer's upper left.

    Args:
        fragments: (..., H, W), of these vertices.
        vertices: (..., V, 3) float, posed, metres, y down, z away from the viewer.
        faces: (F, 3) integer.
        colour: RGB in [0, 1], of the whole mesh.
        face_colours: (F, 3) RGB in [0, 1] instead, one colour a face (`part_colours`).

    Returns:
        (..., H, W, 3) float32 RGB in [0, 1], zeros where no face is.
    """
    covered = fragments.covered
    normals = interpolate(fragments, vertex_normals(vertices, faces), faces)[covered]
    normals = torch.nn.functional.normalize(normals, dim=-1)
    key = normals.new_tensor(_KEY_DIRECTION)
    # Half Lambert (Valve 2006): the light wraps around, so that the far side keeps its shape.
    wrapped = (normals @ (key / key.norm()) * 0.5 + 0.5).square()
    light = _AMBIENT + _KEY * wrapped - _FACING * normals[:, 2]
    if face_colours is None:
        base = light.new_tensor(colour)
    else:
        base = face_colours.to(light)[fragments.face[covered].long()]
    picture = light.new_zeros(*covered.shape, 3)
    picture[covered] = (light[:, None] * base).clamp(0, 1)
    return picture


def draw_overlay(
    image: NDArray[np.uint8], fragments: Fragments, shaded: Tensor, *, opacity: float = 0.85
) -> NDArray[np.uint8]:
    """Lay a shaded mesh over a picture.

    Args:
        image: (..., H, W, 3) uint8 RGB; not changed.
        fragments: (..., k H, k W); with k = 2 or more the edges come out smooth.
        shaded: (..., k H, k W, 3) in [0, 1], from `shade`.
        opacity: of the mesh, [0, 1].

    Returns:
        (..., H, W, 3) uint8 RGB.
    """
    if image.dtype != np.uint8 or image.ndim < 3 or image.shape[-1] != 3:
        raise ValueError(f"image is {image.shape} {image.dtype}; it must be (..., H, W, 3) uint8.")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity is {opacity}; it lies between 0 and 1.")
    *leading, height, width = image.shape[:-1]
    factor = fragments.face.shape[-1] // width
    samples = (*leading, height * factor, width * factor)
    if factor < 1 or fragments.face.shape != samples or shaded.shape != (*samples, 3):
        raise ValueError(
            f"image is {image.shape}, fragments are {tuple(fragments.face.shape)} and shaded is "
            f"{tuple(shaded.shape)}; rasterize at the picture's size or at a whole multiple of it."
        )
    boxes = (*leading, height, factor, width, factor)
    cover = fragments.covered.float().reshape(boxes).mean((-3, -1))[..., None]
    # What is not covered is zero, so the mean of samples is colour times cover.
    colour = shaded.float().reshape(*boxes, 3).mean((-4, -2))
    below = image.astype(np.float32)
    mixed = below * (1 - opacity * cover).cpu().numpy() + 255 * opacity * colour.cpu().numpy()
    return np.rint(mixed).astype(np.uint8)
