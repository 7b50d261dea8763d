"""How far apart two bodies or two sets of keypoints are, frame by frame.

All of it is in float64. NaN says that a frame has no such number: a joint that is not finite, no
keypoint found in both pictures.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.metrics.arrays import Scores
from iper_toolkit.rotations import angle_between, axis_angle_to_matrix

NUM_JOINTS = 23  # below the root
# A keypoint is there above this confidence, as in `iper_toolkit.keypoints.Keypoints.boxes`.
CONFIDENCE = 0.1

_MILLIMETRES = 1000.0


def mpjpe(joints_a: NDArray, joints_b: NDArray, root: int = 0) -> Scores:
    """Mean joint distance with the roots laid on each other (Ionescu et al. 2014).

    Args:
        joints_a, joints_b: (N, J, 3) float, metres.
        root: the joint that both bodies are moved by; counts in the mean, with 0.

    Returns:
        (N,) float64, mm; NaN where a joint is not finite.

    Raises:
        ValueError: unequal shapes, or not (N, J, 3).
    """
    a, b = _joints(joints_a, joints_b)
    a, b = (joints - joints[:, root : root + 1] for joints in (a, b))
    return _mean_distance(a, b)


def pa_mpjpe(joints_a: NDArray, joints_b: NDArray) -> Scores:
    """Mean joint distance after the best similarity transform of a onto b (Procrustes, Gower 1975).

    Rotation, scale and shift are free; reflections are not (Umeyama 1991, equations 39 to 43).

    Args:
        joints_a, joints_b: (N, J, 3) float, metres. Not symmetric: distances are measured at b's scale.

    Returns:
        (N,) float64, mm; NaN where a joint is not finite or all joints of a are in one place.

    Raises:
        ValueError: unequal shapes, or not (N, J, 3).
    """
    a, b = _joints(joints_a, joints_b)
    usable = np.isfinite(a).all((1, 2)) & np.isfinite(b).all((1, 2))
    a, b = (np.where(usable[:, None, None], joints, 0.0) for joints in (a, b))
    a, b = (joints - joints.mean(1, keepdims=True) for joints in (a, b))
    left, singular, right = np.linalg.svd(b.transpose(0, 2, 1) @ a)
    # The least singular value turns its sign where the best orthogonal map would mirror.
    signs = np.ones_like(singular)
    signs[:, 2] = np.sign(np.linalg.det(left) * np.linalg.det(right))
    rotation = left @ (signs[:, :, None] * right)
    spread = (a**2).sum((1, 2))
    usable &= spread > 0
    scale = (singular * signs).sum(1) / np.where(usable, spread, 1.0)
    distance = _mean_distance(scale[:, None, None] * (a @ rotation.transpose(0, 2, 1)), b)
    return np.where(usable, distance, np.nan)


def joint_angle_error(pose_a: NDArray, pose_b: NDArray) -> Scores:
    """Mean angle between the rotations of the 23 joints below the root.

    The geodesic distance of rotations does not jump where axis-angle does. The root, which turns
    the whole body against the camera, is left out.

    Args:
        pose_a, pose_b: (N, 72) float, SMPL's axis-angle, radians; the first three are the root's.

    Returns:
        (N,) float64, degrees in [0, 180]; NaN where a number is not finite.

    Raises:
        ValueError: unequal shapes, or not (N, 72).
    """
    a, b = _rows(pose_a, pose_b, 3 * (NUM_JOINTS + 1), "pose")
    usable = np.asarray(np.isfinite(np.concatenate([a, b], axis=1)).all(1), bool)
    first, second = (
        axis_angle_to_matrix(
            torch.from_numpy(np.where(usable[:, None], pose, 0.0)[:, 3:]).unflatten(1, (-1, 3))
        )
        for pose in (a, b)
    )
    angles = angle_between(first, second).mean(1).numpy()
    return np.where(usable, np.degrees(angles), np.nan)


def sspe_official(params_a: NDArray, params_b: NDArray) -> Scores:
    """The official package's SSPE: sums of absolute differences of HMR's 85 numbers.

    Scale, plus shape, plus camera and pose: its "pose" begins at the camera, so the scale counts
    twice; and axis-angle jumps at half a turn. `mpjpe` and `joint_angle_error` have neither fault.

    Args:
        params_a, params_b: (N, 85) float: camera (s, tx, ty), pose 72, shape 10.

    Returns:
        (N,) float64, no unit; their mean is the official number.

    Raises:
        ValueError: unequal shapes, or not (N, 85).
    """
    a, b = _rows(params_a, params_b, 85, "params")
    difference = np.abs(a - b)
    return difference[:, 0] + difference[:, 75:].sum(1) + difference[:, :75].sum(1)


def average_keypoint_distance(
    found: NDArray, wanted: NDArray, confidence: float = CONFIDENCE
) -> Scores:
    """Mean distance of the keypoints found in both pictures: AKD (Siarohin et al. 2019).

    Args:
        found, wanted: (N, K, 3) float: x, y in pixels and confidence, of generated and true pictures.
        confidence: what a keypoint must exceed to be there.

    Returns:
        (N,) float64, pixels; NaN where no keypoint is in both. Read it beside `missing_keypoint_rate`.

    Raises:
        ValueError: unequal shapes, or not (N, K, 3).
    """
    a, b = _joints(found, wanted)
    both = _present(a, confidence) & _present(b, confidence)
    distance = np.linalg.norm(np.where(both[..., None], a[..., :2] - b[..., :2], 0.0), axis=-1)
    return _share(distance.sum(1), both.sum(1))


def missing_keypoint_rate(
    found: NDArray, wanted: NDArray, confidence: float = CONFIDENCE
) -> Scores:
    """Share of the true picture's keypoints that the generated one lacks: MKR (Siarohin et al. 2021).

    Args and errors as `average_keypoint_distance`.

    Returns:
        (N,) float64 in [0, 1]; NaN where the true picture has no keypoint.
    """
    a, b = _joints(found, wanted)
    there = _present(b, confidence)
    return _share((there & ~_present(a, confidence)).sum(1), there.sum(1))


def _present(keypoints: NDArray, confidence: float) -> NDArray[np.bool_]:
    return np.isfinite(keypoints).all(-1) & (keypoints[..., 2] > confidence)


def _share(sums: NDArray, counts: NDArray) -> Scores:
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _mean_distance(a: NDArray, b: NDArray) -> Scores:
    return _MILLIMETRES * np.linalg.norm(a - b, axis=-1).mean(-1)


def _joints(first: NDArray, second: NDArray) -> tuple[NDArray, NDArray]:
    if first.shape != second.shape or first.ndim != 3 or first.shape[-1] != 3 or not first.shape[1]:
        raise ValueError(
            f"The points are {first.shape} and {second.shape}; they must be equal and (N, J, 3)."
        )
    return first.astype(np.float64), second.astype(np.float64)


def _rows(
    first: NDArray, second: NDArray, length: int, name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if first.shape != second.shape or first.ndim != 2 or first.shape[1] != length:
        raise ValueError(
            f"{name} is {first.shape} and {second.shape}; they must be equal and (N, {length})."
        )
    return first.astype(np.float64), second.astype(np.float64)
