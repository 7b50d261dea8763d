"""The rasterizer's definition: one mesh into one square picture, serial, float32.

The rules are those of the renderer that the released checkpoints were trained with
(neural_renderer, Kato 2018, as forked for impersonator):

- a pixel's centre is at ``(2 i + 1 - S) / S``;
- a face that turns clockwise on the screen (seen with y up) is culled;
- a centre is covered when none of the three edge functions is negative (edges belong to both sides);
- the weights are barycentric *on the screen*, clamped to [0, 1] and divided by their sum;
- the depth is harmonic, ``1 / sum(w_k / z_k)``, and has to lie strictly between near and far;
- the smallest depth wins, of equal depths the lower face id.

Coordinates come with y down. Negation is exact in floating point, so this draws the same pixels as
negating y, drawing with y up and flipping the picture.

What the rules leave open is settled here: a face with a vertex that is not finite, or with no area
in float32, covers nothing (Deviation: the reference lets faces without area pass the culling and
then divides by zero). Arithmetic that overflows covers nothing either.

No torch here, and the interpreter lock is released while drawing, so that callers may give each
thread its own frame. Threads inside a frame were tried and are slower.
"""

import numpy as np
from numpy.typing import NDArray

from iper_toolkit.compiled import njit

# The reference looks from (0, 0, -(1 / tan 30 degrees + 1)) along +z; the distance of a point from
# there is z + this.
EYE_DISTANCE = 2.7320508
NEAR = 0.1
FAR = 100.0

# A face's box is widened by this share of a pixel, so that rounding in the box can never take a
# pixel away from the edge functions, which alone decide.
_BOX_MARGIN_PIXELS = 1.0 / 64


def rasterize_array(
    vertices: NDArray[np.float32],
    faces: NDArray[np.integer],
    size: int,
    face_out: NDArray[np.int32] | None = None,
    barycentric_out: NDArray[np.float32] | None = None,
    depth_out: NDArray[np.float32] | None = None,
    *,
    eye_distance: float = EYE_DISTANCE,
    near: float = NEAR,
    far: float = FAR,
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """Draw one mesh. Buffers that are given are cleared, filled and returned; missing ones are made.

    Args:
        vertices: (V, 3) float32, NDC x right, y down, and depth z (larger is farther).
        faces: (F, 3) integer (int32 is fastest), vertex indices. Outward faces of a y-down body show their front.
        size: pixels of a side of the picture.
        face_out: (size, size) int32, C-contiguous.
        barycentric_out: (size, size, 3) float32, C-contiguous.
        depth_out: (size, size) float32, C-contiguous.
        eye_distance: added to z before the depth is taken.
        near, far: a pixel is drawn where ``near < depth < far``.

    Returns:
        face (size, size) int32, -1 where nothing is; barycentric (size, size, 3) float32, weights of
        the face's three corners in the face's order, zeros where nothing is; depth (size, size)
        float32, distance from the eye, `far` where nothing is.
    """
    if size < 1:
        raise ValueError(f"size is {size}; a picture has at least 1 pixel a side.")
    vertices = np.ascontiguousarray(vertices, dtype=np.float32)
    faces = vertex_indices(faces)
    if vertices.ndim != 2 or vertices.shape[1] != 3:
        raise ValueError(
            f"vertices is {vertices.shape}; it must be (V, 3). One call draws one mesh."
        )
    face = _buffer("face_out", face_out, (size, size), np.int32)
    barycentric = _buffer("barycentric_out", barycentric_out, (size, size, 3), np.float32)
    depth = _buffer("depth_out", depth_out, (size, size), np.float32)
    bad = _draw(
        vertices,
        faces,
        np.float32(eye_distance),
        np.float32(near),
        np.float32(far),
        face,
        barycentric,
        depth,
    )
    if bad >= 0:
        raise ValueError(
            f"Face {bad} has vertices {faces[bad].tolist()}, but there are {len(vertices)} vertices: "
            f"indices run from 0 to {len(vertices) - 1}. Do mesh and faces belong to one body?"
        )
    return face, barycentric, depth


def vertex_indices(faces: NDArray[np.integer]) -> NDArray[np.int32]:
    """(F, 3) faces of any integer type -> C-contiguous int32; free when they are that already."""
    if faces.ndim != 2 or faces.shape[1] != 3:
        raise ValueError(f"faces is {faces.shape}; it must be (F, 3), triangles only.")
    if faces.dtype.kind not in "iu":
        raise TypeError(f"faces is {faces.dtype}; vertex indices are integers.")
    if faces.dtype != np.int32 and faces.size and int(faces.max()) > np.iinfo(np.int32).max:
        raise ValueError(f"faces names vertex {faces.max()}; a mesh has fewer than 2^31 vertices.")
    return np.ascontiguousarray(faces, dtype=np.int32)


def _buffer(name: str, given: NDArray | None, shape: tuple[int, ...], dtype: type) -> NDArray:
    if given is None:
        return np.empty(shape, dtype)
    if given.shape != shape or given.dtype != dtype or not given.flags.c_contiguous:
        raise ValueError(
            f"{name} is {given.shape} {given.dtype}; it must be {shape} {np.dtype(dtype)}, C-contiguous."
        )
    return given


@njit(nogil=True, error_model="numpy", boundscheck=False)
def _first_pixel(edge: np.float32, size: int) -> int:  # pragma: no cover - compiled
    """The first pixel whose centre is at or after an NDC coordinate, never below 0."""
    at = (float(edge) * size + size - 1) * 0.5 - _BOX_MARGIN_PIXELS
    # Clamped as a float: a huge number has no integer.
    return int(np.ceil(min(max(at, 0.0), float(size))))


@njit(nogil=True, error_model="numpy", boundscheck=False)
def _end_pixel(edge: np.float32, size: int) -> int:  # pragma: no cover - compiled
    """One past the last pixel whose centre is at or before an NDC coordinate, at most `size`."""
    at = (float(edge) * size + size - 1) * 0.5 + _BOX_MARGIN_PIXELS
    return int(np.floor(min(max(at, -1.0), float(size - 1)))) + 1


@njit(nogil=True, error_model="numpy", boundscheck=False)
def _draw(
    vertices: NDArray[np.float32],
    faces: NDArray[np.int32],
    eye_distance: np.float32,
    near: np.float32,
    far: np.float32,
    face_out: NDArray[np.int32],
    barycentric_out: NDArray[np.float32],
    depth_out: NDArray[np.float32],
) -> int:  # pragma: no cover - compiled
    """Fill the three buffers. Returns -1, or the first face that names a vertex that is not there."""
    size = face_out.shape[0]
    zero, one = np.float32(0), np.float32(1)
    face_out[:] = -1
    barycentric_out[:] = zero
    depth_out[:] = far
    num_vertices = vertices.shape[0]
    centres = np.empty(size, np.float32)
    for i in range(size):
        centres[i] = (2 * i + 1 - size) / size

    for index in range(faces.shape[0]):
        a, b, c = faces[index, 0], faces[index, 1], faces[index, 2]
        if min(a, b, c) < 0 or max(a, b, c) >= num_vertices:
            return index
        xa, ya = vertices[a, 0], vertices[a, 1]
        xb, yb = vertices[b, 0], vertices[b, 1]
        xc, yc = vertices[c, 0], vertices[c, 1]
        # Twice the area on the screen, positive for a face that shows its front. NaN fails too.
        area = (yb - ya) * (xc - xa) - (yc - ya) * (xb - xa)
        if not area > zero:
            continue
        left, right = _first_pixel(min(xa, xb, xc), size), _end_pixel(max(xa, xb, xc), size)
        top, bottom = _first_pixel(min(ya, yb, yc), size), _end_pixel(max(ya, yb, yc), size)
        if left >= right or top >= bottom:
            continue
        za, zb, zc = (
            vertices[a, 2] + eye_distance,
            vertices[b, 2] + eye_distance,
            vertices[c, 2] + eye_distance,
        )
        # An infinite x or y can leave the area positive; 0 * inf and 0 * NaN are NaN.
        if zero * (xa + xb + xc + ya + yb + yc + za + zb + zc) != zero:
            continue
        dx_ab, dy_ab = xb - xa, yb - ya
        dx_bc, dy_bc = xc - xb, yc - yb
        dx_ca, dy_ca = xa - xc, ya - yc
        for row in range(top, bottom):
            y = centres[row]
            rise_ab, rise_bc, rise_ca = (y - ya) * dx_ab, (y - yb) * dx_bc, (y - yc) * dx_ca
            for column in range(left, right):
                x = centres[column]
                # Edge functions; each over the area is the weight of the corner opposite.
                edge_ab = (x - xa) * dy_ab - rise_ab
                edge_bc = (x - xb) * dy_bc - rise_bc
                edge_ca = (x - xc) * dy_ca - rise_ca
                if edge_ab < zero or edge_bc < zero or edge_ca < zero:
                    continue
                wa = min(edge_bc / area, one)
                wb = min(edge_ca / area, one)
                wc = min(edge_ab / area, one)
                total = wa + wb + wc
                wa, wb, wc = wa / total, wb / total, wc / total
                depth = one / (wa / za + wb / zb + wc / zc)
                # A NaN fails all three.
                if depth > near and depth < far and depth < depth_out[row, column]:
                    depth_out[row, column] = depth
                    face_out[row, column] = index
                    barycentric_out[row, column, 0] = wa
                    barycentric_out[row, column, 1] = wb
                    barycentric_out[row, column, 2] = wc
    return -1
