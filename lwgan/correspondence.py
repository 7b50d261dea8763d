"""Where in one picture of a body each pixel of another comes from, and what each pixel shows.

Pure functions on any device. Gathers are dense and every shape follows from the arguments' shapes, so that all of it
compiles and can be captured in a CUDA graph; gradients flow to the projected points.
"""

import torch
from torch import Tensor

from iper_toolkit.raster import Fragments, rasterize

# Where a flow points that points nowhere: so far outside that bilinear sampling with zero padding gives zero.
NOWHERE = -2.0
# Pixels of a side at which visibility is found. A body's faces are smaller than the pixels of small pictures: of the
# faces that a camera sees of the open body, and of those on its head, pictures of 128, 384 and 1024 pixels find 0.39 and
# 0.12, 0.79 and 0.59, 0.97 and 0.94 (with neighbours).
VISIBILITY_SIZE = 1024


def face_points(projected: Tensor, faces: Tensor) -> Tensor:
    """The corners of each face in the picture.

    Args:
        projected: (..., V, 2 or 3) float, NDC y down (and depth, which is left out). faces: (F, 3) integer.

    Returns:
        (..., F, 3, 2).
    """
    return projected[..., :2].index_select(-2, faces.flatten()).unflatten(-2, faces.shape)


def flow_to(fragments: Fragments, points: Tensor) -> Tensor:
    """Where each pixel of a body's picture lies in another picture: T(p) = sum_k w_k(p) points[f(p), k].

    (Liu et al. 2019, section 3.2.) With the fragments of a target and the points of a source this is the flow
    T_{s->t}; with the points of the previous frame, T_{t-1->t}; with the fragments of the texture map and the points of
    a source, where each texel lies in the source.

    Args:
        fragments: (..., H, W).
        points: (..., F, 3, 2) float, `face_points` of the other picture. Leading dimensions broadcast against the
            fragments': (B, T, 1) fragments and (B, 1, S) points give (B, T, S) flows.

    Returns:
        (..., H, W, 2) like `points`, NDC x and y, a grid for `grid_sample(align_corners=False)`; (-2, -2) where no
        face is.
    """
    corners = _gather_faces(fragments.face, points.flatten(-2))
    weights = fragments.barycentric.to(points.dtype)
    # One after the other: several times as fast on a CPU as a sum over an axis of three.
    flow = weights[..., 0:1] * corners[..., 0:2]
    flow = flow + weights[..., 1:2] * corners[..., 2:4]
    flow = flow + weights[..., 2:3] * corners[..., 4:6]
    return torch.where(fragments.covered[..., None], flow, NOWHERE)


def condition_map(fragments: Fragments, code: Tensor) -> Tensor:
    """A picture of the body with each face in one colour.

    Args:
        fragments: (..., H, W). code: (F + 1, C) float; the last row is the background's.

    Returns:
        (..., C, H, W).
    """
    row = torch.where(fragments.covered, fragments.face, len(code) - 1)
    return code[row.long()].movedim(-1, -3)


def visible_faces(fragments: Fragments, num_faces: int) -> Tensor:
    """(..., F) bool: the faces that a picture (..., H, W) shows somewhere.

    Deviation: the reference drops the lowest face of a picture without background, which it takes for the background.
    """
    face = torch.where(fragments.covered, fragments.face, num_faces).long().flatten(-2)
    seen = torch.zeros(*face.shape[:-1], num_faces + 1, dtype=torch.bool, device=face.device)
    return seen.scatter(-1, face, True)[..., :-1]


def faces_in_view(vertices: Tensor, faces: Tensor, size: int = VISIBILITY_SIZE) -> Tensor:
    """(..., F) bool: the faces that a camera sees, whatever the size of the network's pictures.

    Args:
        vertices: (..., V, 3) as `camera.project` gives. faces: (F, 3). size: pixels of a side to look at.
    """
    return visible_faces(rasterize(vertices, faces, size), len(faces))


def with_neighbours(visible: Tensor, nearest: Tensor) -> Tensor:
    """(..., F) bool: visible faces, and the nearest ones of each.

    Args:
        visible: (..., F) bool. nearest: (F, K) int64, `SurfaceTables.nearest`.
    """
    voices = visible[..., None].expand(*visible.shape, nearest.shape[1]).flatten(-2).int()
    heard = torch.zeros_like(visible, dtype=torch.int32).index_add(-1, nearest.flatten(), voices)
    return visible | (heard > 0)


def keep_faces(points: Tensor, kept: Tensor) -> Tensor:
    """`face_points` whose other faces are nowhere: a flow from them is (-2, -2) there.

    Args:
        points: (..., F, 3, 2). kept: (F,) or (..., F) bool.
    """
    return torch.where(kept[..., None, None], points, NOWHERE)


def _gather_faces(face: Tensor, values: Tensor) -> Tensor:
    """The values of each pixel's face. Leading dimensions broadcast, and neither argument is copied for it.

    Args:
        face: (..., H, W) integer; -1 reads face 0. values: (..., F, C).

    Returns:
        (..., H, W, C).
    """
    leading, num_faces = values.shape[:-2], values.shape[-2]
    start = torch.arange(0, leading.numel() * num_faces, num_faces, device=face.device)
    row = face.clamp_min(0).long() + start.reshape(*leading, 1, 1)
    return torch.nn.functional.embedding(row, values.reshape(-1, values.shape[-1]))
