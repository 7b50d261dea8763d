"""How far clothes and hair reach beyond the naked body: measured at silhouettes, and spread over the surface.

The mask of a picture shows at the body's outline how much larger the person is. Inflated by that, a body covers what
its person wears, in other poses too.
"""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import factorized

from iper_toolkit.camera import ndc_to_pixels, project
from iper_toolkit.raster.cpu import rasterize_array
from iper_toolkit.raster.shading import vertex_normals_array

Floats = NDArray[np.float32]

# Farthest that clothes or hair reach from the body, and that the body's fit reaches beyond the person.
THICKEST_METRES, THINNEST_METRES = 0.12, -0.03
# A vertex measures thickness where its normal is this close to the picture plane (cosine to the view).
_SIDEWAYS = 0.35
# How strongly neighbours share their thickness, relative to one measurement.
SMOOTHNESS = 4.0


def edges_of(faces: NDArray[np.integer], count: int) -> sparse.csr_matrix:
    """(V, V) 1 where an edge joins two of `count` vertices."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    joined = sparse.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (count, count))
    return ((joined + joined.T) > 0).astype(np.float64).tocsr()


def measure_thickness(
    posed: Floats, faces: NDArray[np.int32], camera: Floats, mask: NDArray[np.uint8]
) -> tuple[Floats, NDArray[np.bool_]]:
    """How far the person reaches beyond the naked body, seen at its silhouette.

    Args:
        posed: (V, 3) vertices, metres, y down.
        faces: (F, 3).
        camera: (3,).
        mask: (S, S) uint8, 255 = person.

    Returns:
        (V,) metres, negative where the body sticks out of the mask, and (V,) bool: which vertices were
        measured. A ray that meets another limb, or does not leave the mask, measures nothing.
    """
    size = len(mask)
    normals = vertex_normals_array(posed, faces)
    points = project(torch.from_numpy(posed), torch.from_numpy(camera)).numpy()
    face, _, _ = rasterize_array(points, faces, size)
    seen = np.zeros(len(points), bool)
    seen[faces[np.unique(face[face >= 0])]] = True
    flat = np.hypot(normals[:, 0], normals[:, 1])
    candidates = np.flatnonzero(seen & (np.abs(normals[:, 2]) < _SIDEWAYS))
    start = ndc_to_pixels(torch.from_numpy(points[:, :2]), size).numpy()[candidates]
    direction = normals[candidates, :2] / flat[candidates, None]
    pixels_per_metre = float(camera[0]) * size / 2
    steps = np.arange(
        THINNEST_METRES * pixels_per_metre, THICKEST_METRES * pixels_per_metre + 1, 0.5
    )
    at = start[:, None] + direction[:, None] * steps[None, :, None]
    person = look_up(mask.astype(np.float32), at) > 127  # (K, steps)
    on_body = look_up((face >= 0).astype(np.float32), at) > 0.5
    # The last step at which the person is still there without a gap.
    gone = ~person
    reach = np.where(gone.any(1), gone.argmax(1) - 1, len(steps))
    ends = (reach >= 0) & (reach < len(steps) - 1)
    # Beyond the first pixel and a half outside, the way must be free of other limbs up to where the mask ends.
    outside = (steps > 1.5)[None] & (np.arange(len(steps))[None] <= reach[:, None] + 2)
    free = ~(on_body & outside).any(1)
    good = ends & free
    thickness = np.zeros(len(posed), np.float32)
    found = np.zeros(len(posed), bool)
    thickness[candidates[good]] = steps[reach[good]] / pixels_per_metre
    found[candidates[good]] = True
    return thickness, found


def look_up(values: Floats, at: Floats) -> Floats:
    """(S, S) picture at (..., 2) pixel indices, bilinear, zero outside."""
    x, y = (np.ascontiguousarray(at[..., k], np.float32) for k in range(2))
    return np.asarray(cv2.remap(values, x, y, cv2.INTER_LINEAR, borderValue=0), np.float32)


def spread(
    total: Floats, weight: Floats, neighbours: sparse.csr_matrix, smoothness: float
) -> Floats:
    """Measurements at some vertices -> a smooth value at every vertex.

    Minimises ``sum_v weight_v (x_v - m_v)^2 + smoothness * sum_edges (x_a - x_b)^2`` with m = total / weight,
    and a very small pull to zero for parts without any measurement.

    Args:
        total: (V,) or (V, C) sum of the measurements of each vertex.
        weight: (V,) how many there were.
        neighbours: (V, V), 1 where an edge is.
        smoothness: weight of an edge.
    """
    degree = sparse.diags(np.asarray(neighbours.sum(1)).ravel())
    system = sparse.diags(weight.astype(np.float64) + 1e-4) + smoothness * (degree - neighbours)
    solve = factorized(system.tocsc())
    columns = np.atleast_2d(total.astype(np.float64).T)
    solved = np.stack([solve(column) for column in columns], axis=-1)
    return solved.reshape(total.shape).astype(np.float32)
