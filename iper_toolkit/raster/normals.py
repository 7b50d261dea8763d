"""Unit normals of the vertices of a mesh."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iper_toolkit.compiled import njit
from iper_toolkit.raster.cpu import vertex_indices


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals of vertices, each face weighing in by its area. Not differentiable.

    Args:
        vertices: (..., V, 3) float, metres (not NDC: there z has another scale than x and y).
        faces: (F, 3) integer, counter-clockwise seen from outside (in a right-handed frame).

    Returns:
        (..., V, 3) float32 on the device of `vertices`; zeros for a vertex without a face.
    """
    frames = vertices.detach().to("cpu", torch.float32).contiguous()
    indices = faces.detach().cpu().numpy()
    normals = torch.empty_like(frames)
    for points, out in zip(
        frames.reshape(-1, *frames.shape[-2:]).numpy(),
        normals.view(-1, *frames.shape[-2:]).numpy(),
        strict=True,
    ):
        vertex_normals_array(points, indices, out)
    return normals.to(vertices.device)


def vertex_normals_array(
    vertices: NDArray[np.float32],
    faces: NDArray[np.integer],
    out: NDArray[np.float32] | None = None,
    *,
    skip: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """`vertex_normals` of one mesh, without torch; the interpreter lock is released.

    Args:
        vertices: (V, 3) float, metres.
        faces: (F, 3) integer.
        out: (V, 3) float32 that is filled and returned.
        skip: (F,) bool, faces that do not count: a lining shares the vertices of its cloth.
    """
    vertices = np.ascontiguousarray(vertices, np.float32)
    faces = vertex_indices(faces)
    if vertices.ndim != 2 or vertices.shape[1] != 3:
        raise ValueError(f"vertices is {vertices.shape}; it must be (V, 3).")
    if len(faces) and (faces.min() < 0 or faces.max() >= len(vertices)):
        raise ValueError(
            f"faces name vertices {faces.min()} to {faces.max()}; there are {len(vertices)}, "
            f"so indices run from 0 to {len(vertices) - 1}."
        )
    skip = np.zeros(len(faces), bool) if skip is None else skip
    if skip.shape != (len(faces),) or skip.dtype != bool:
        raise ValueError(f"skip is {skip.shape} {skip.dtype}; it must be ({len(faces)},) bool.")
    normals = np.empty_like(vertices) if out is None else out
    _accumulate_normals(vertices, faces, skip, normals)
    return normals


@njit(nogil=True, error_model="numpy", boundscheck=False)
def _accumulate_normals(
    vertices: NDArray[np.float32],
    faces: NDArray[np.int32],
    skip: NDArray[np.bool_],
    normals: NDArray[np.float32],
) -> None:  # pragma: no cover - compiled
    normals[:] = np.float32(0)
    for index in range(faces.shape[0]):
        if skip[index]:
            continue
        a, b, c = faces[index, 0], faces[index, 1], faces[index, 2]
        ux, uy, uz = (
            vertices[b, 0] - vertices[a, 0],
            vertices[b, 1] - vertices[a, 1],
            vertices[b, 2] - vertices[a, 2],
        )
        vx, vy, vz = (
            vertices[c, 0] - vertices[a, 0],
            vertices[c, 1] - vertices[a, 1],
            vertices[c, 2] - vertices[a, 2],
        )
        # The cross product is twice the face's area long.
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for corner in (a, b, c):
            normals[corner, 0] += nx
            normals[corner, 1] += ny
            normals[corner, 2] += nz
    for vertex in range(normals.shape[0]):
        x, y, z = normals[vertex, 0], normals[vertex, 1], normals[vertex, 2]
        length = math.sqrt(x * x + y * y + z * z)
        if length > 0:
            normals[vertex, 0] = x / length
            normals[vertex, 1] = y / length
            normals[vertex, 2] = z / length
