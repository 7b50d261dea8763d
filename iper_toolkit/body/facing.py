"""Where a person faces, frame by frame, from 2-D keypoints: the start of a fit.

A fit that starts facing the wrong way stays so. Each frame scores a ring of directions by what the
picture shows of pairs of points (shoulders, hips, face, feet); the cheapest smooth path through all
frames is the start. So a full turn is followed, and a single odd frame is outvoted by its neighbours.
"""

import math

import numpy as np

from iper_toolkit.keypoints import BODY_45

NUM_DIRECTIONS = 36

# Point pairs whose offset tells the direction, with the weight of their evidence. A head and feet
# turn against the torso and count less.
_PAIRS: tuple[tuple[tuple[str, ...], tuple[str, ...], float], ...] = (
    (("left_shoulder",), ("right_shoulder",), 1.0),
    (("left_hip",), ("right_hip",), 1.0),
    (("left_eye",), ("right_eye",), 0.3),
    (("left_ear",), ("right_ear",), 0.3),
    (("nose",), ("left_ear", "right_ear"), 0.5),
    (("left_big_toe",), ("left_heel",), 0.3),
    (("right_big_toe",), ("right_heel",), 0.3),
)
# Deviation in metres that costs one unit of evidence, and the most that one pair may cost.
_TOLERANCE = 0.05
_MOST = 9.0
# Turn between two frames that costs one unit, and the most a turn may cost (a cut in the video).
_TURN_TOLERANCE = math.radians(12)
_MOST_TURN = 12.0
# An unseen face costs this much for a direction straight into the camera.
_HIDDEN_FACE = 2.0
_FACE = ("nose", "left_eye", "right_eye")


def find_facing(
    points: np.ndarray, confidence: np.ndarray, rest_points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Direction and lean of the body in each frame.

    Args:
        points: (T, 45, 2) keypoints in metres of the body (pixels over scale), y down.
        confidence: (T, 45), 0 where a point was not found.
        rest_points: (45, 3) the body's points in the rest pose, metres, y up.

    Returns:
        (T,) yaw in radians (0 faces the camera, positive turns the face to the picture's left) and
        (T,) roll in the picture's plane in radians, clockwise. The root rotation of iPER's convention
        is ``Rz(roll) Ry(yaw) Rx(pi)``.
    """
    roll = _lean(points, confidence)
    across = np.stack([np.cos(roll), np.sin(roll)], axis=1)  # the picture's x axis, leaned
    yaw = np.arange(NUM_DIRECTIONS) * 2 * math.pi / NUM_DIRECTIONS
    cost = np.zeros((len(points), NUM_DIRECTIONS))
    for first, second, weight in _PAIRS:
        offset, sure = _offset(points, confidence, first, second)
        seen = (offset * across).sum(1)
        x, _, z = _rest_offset(rest_points, first, second)
        # x of Ry(yaw) Rx(pi) (x, y, z): a half turn about x makes z to -z.
        expected = x * np.cos(yaw) - z * np.sin(yaw)
        error = ((seen[:, None] - expected) / _TOLERANCE) ** 2
        cost += weight * sure[:, None] * _MOST * error / (_MOST + error)
    body_sure = confidence[:, :24].max(1)
    face_sure = confidence[:, [BODY_45.index(name) for name in _FACE]].max(1)
    hidden = np.clip(body_sure - face_sure, 0, 1)
    cost += _HIDDEN_FACE * hidden[:, None] * np.clip(np.cos(yaw), 0, None)
    return yaw[_cheapest_path(cost)], roll


def _lean(points: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """(T,) how far the line from feet to shoulders leans, radians clockwise.

    From the feet and not from the hips: someone who bows has his shoulders below his hips and stands
    upright all the same.
    """
    top, top_sure = _middle(points, confidence, ("left_shoulder", "right_shoulder"))
    feet, feet_sure = _middle(points, confidence, ("left_ankle", "right_ankle"))
    hips, hips_sure = _middle(points, confidence, ("left_hip", "right_hip"))
    bottom = np.where((feet_sure > 0)[:, None], feet, hips)
    sure = np.minimum(top_sure, np.where(feet_sure > 0, feet_sure, hips_sure))
    # A third of a metre of upright belief settles what a short line leaves open.
    up = (top - bottom) * sure[:, None] + np.array([0.0, -0.33])
    return np.arctan2(up[:, 0], -up[:, 1])


def _middle(
    points: np.ndarray, confidence: np.ndarray, names: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """(T, 2) mean of the named points, and (T,) the least of their confidences."""
    index = [BODY_45.index(name) for name in names]
    return points[:, index].mean(1), confidence[:, index].min(1)


def _offset(
    points: np.ndarray, confidence: np.ndarray, first: tuple[str, ...], second: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    here, here_sure = _middle(points, confidence, first)
    there, there_sure = _middle(points, confidence, second)
    return here - there, np.minimum(here_sure, there_sure)


def _rest_offset(
    rest_points: np.ndarray, first: tuple[str, ...], second: tuple[str, ...]
) -> np.ndarray:
    here, there = (
        rest_points[[BODY_45.index(name) for name in names]].mean(0) for names in (first, second)
    )
    return here - there


def _cheapest_path(cost: np.ndarray) -> np.ndarray:
    """(T, K) costs of directions on a ring -> (T,) the path of least cost and turning (Viterbi)."""
    count = cost.shape[1]
    steps = np.arange(count)
    apart = np.abs(steps[:, None] - steps)
    angle = np.minimum(apart, count - apart) * 2 * math.pi / count
    turning = np.minimum((angle / _TURN_TOLERANCE) ** 2, _MOST_TURN)
    best = cost[0].copy()
    came_from = np.zeros(cost.shape, dtype=np.int64)
    for frame in range(1, len(cost)):
        total = best[:, None] + turning
        came_from[frame] = total.argmin(0)
        best = total.min(0) + cost[frame]
    path = np.empty(len(cost), dtype=np.int64)
    path[-1] = best.argmin()
    for frame in range(len(cost) - 1, 0, -1):
        path[frame - 1] = came_from[frame, path[frame]]
    return path
