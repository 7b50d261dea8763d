"""Arithmetic on the way to files: the same bits in every process.

Matrix products of BLAS are no such thing. MKL and OpenBLAS choose their code by the address of an
array and by the number of threads, so that float32 sums differ in their last bits from one process
to the next. What is drawn is therefore multiplied here, in one order; what is small is computed in
float64 with any library and then `settled`.
"""

import numpy as np
from numpy.typing import NDArray

from iper_toolkit.compiled import njit

Array = NDArray[np.floating]

_DECIMALS = 6  # micrometres, microradians


def settled(values: Array) -> NDArray[np.float32]:
    """float64 -> float32 by way of six decimals, which hide what differs in the last bits.

    float32 alone would not do for numbers near zero, whose steps are finer than the differences.
    """
    # Adding zero makes a negative zero positive.
    return (np.round(values, _DECIMALS) + 0.0).astype(np.float32)


def turned_points(points: Array, rotation: Array) -> NDArray[np.float32]:
    """(V, 3) points times a (3, 3) matrix from the left: ``y = R x``, in float32."""
    out = np.empty(points.shape, np.float32)
    _turn(np.ascontiguousarray(points, np.float32), np.ascontiguousarray(rotation, np.float32), out)
    return out


@njit(nogil=True)
def _turn(points: Array, rotation: Array, out: Array) -> None:  # pragma: no cover - compiled
    for k in range(len(points)):
        x, y, z = points[k, 0], points[k, 1], points[k, 2]
        for row in range(3):
            out[k, row] = rotation[row, 0] * x + rotation[row, 1] * y + rotation[row, 2] * z


def skinned(
    vertices: Array, pose_directions: Array, weights: Array, feature: Array, transforms: Array
) -> NDArray[np.float32]:
    """Linear blend skinning as `iper_toolkit.body.skinning.deform` does it, in one order of sums.

    Args:
        vertices: (V, 3) metres, rest pose.
        pose_directions: (V, 3, P) metres a unit of pose feature.
        weights: (V, J) rows sum to one.
        feature: (T, P), ``R - I`` of all joints but the root.
        transforms: (T, J, 3, 4) from the rest pose to the posed one, metres.

    Returns:
        (T, V, 3) float32, metres.
    """
    frames = len(feature)
    out = np.empty((len(vertices), 3, frames), np.float32)
    _skin(
        np.ascontiguousarray(vertices, np.float32),
        np.ascontiguousarray(pose_directions, np.float32),
        np.ascontiguousarray(weights, np.float32),
        np.ascontiguousarray(feature.T, np.float32),
        np.ascontiguousarray(transforms.reshape(frames, -1, 12).transpose(1, 2, 0), np.float32),
        out,
    )
    return np.ascontiguousarray(out.transpose(2, 0, 1))


@njit(nogil=True)
def _skin(
    vertices: Array,
    pose_directions: Array,
    weights: Array,
    feature: Array,
    transforms: Array,
    out: Array,
) -> None:  # pragma: no cover - compiled
    """feature: (P, T), transforms: (J, 12, T), out: (V, 3, T): sums run along rows of frames."""
    num_features, frames = feature.shape
    rest = np.empty((3, frames), np.float32)
    blended = np.empty((12, frames), np.float32)
    for v in range(len(vertices)):
        for axis in range(3):
            rest[axis] = vertices[v, axis]
            for p in range(num_features):
                share = pose_directions[v, axis, p]
                if share != 0:
                    for t in range(frames):
                        rest[axis, t] += share * feature[p, t]
        blended[:] = 0
        for joint in range(weights.shape[1]):
            share = weights[v, joint]
            if share != 0:
                for entry in range(12):
                    for t in range(frames):
                        blended[entry, t] += share * transforms[joint, entry, t]
        for axis in range(3):
            for t in range(frames):
                out[v, axis, t] = (
                    blended[4 * axis, t] * rest[0, t]
                    + blended[4 * axis + 1, t] * rest[1, t]
                    + blended[4 * axis + 2, t] * rest[2, t]
                    + blended[4 * axis + 3, t]
                )
