"""Turning people: sequences of views around a body, other views of a motion, bullet time.

Fits are (T, 85): camera 3, pose 72 (root first), shape 10. All turns are about the camera's vertical
axis. The input is never changed.
"""

import math
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor

from iper_toolkit.rotations import axis_angle_to_matrix, axis_rotation, matrix_to_axis_angle

# Numbers of the 24-joint pose that a body with fingers keeps: its 22 joints without the two hands.
_JOINTS_BEFORE_HANDS = 66


def view_roots(num_views: int) -> Tensor:
    """Root rotations of a body that faces the camera and turns once around: ``Ry(y) Rx(pi)``.

    Args:
        num_views: the first and the last view are both the front, unless there is one only.

    Returns:
        (num_views, 3) axis-angle, float32.
    """
    facing = axis_rotation("x", torch.tensor(math.pi, dtype=torch.float64))
    return matrix_to_axis_angle(_once_around(num_views) @ facing).float()


def turned_roots(person: Tensor, num_views: int) -> Tensor:
    """Root rotations of a body that turns once around from where it stands: ``Ry(y) root``.

    Args:
        person: (85,) fit.
        num_views: the first and the last view are both the root itself.

    Returns:
        (num_views, 3) axis-angle, float32.
    """
    root = axis_angle_to_matrix(person[3:6].double())
    return matrix_to_axis_angle(_once_around(num_views).to(root) @ root).float()


def view_sequence(num_views: int, person: Tensor | None = None) -> Tensor:
    """A body turned once around on the spot.

    Args:
        num_views: see `view_roots`.
        person: (85,) fit whose body pose (joints 1 to 23) and shape are taken; else the rest pose
            and the mean shape.

    Returns:
        (num_views, 85) with cameras that are zero: the imitation takes the source's.
    """
    frames = torch.zeros(num_views, 85)
    if person is not None:
        frames = frames.to(person)
        frames[:, 6:] = person[6:]
    frames[:, 3:6] = view_roots(num_views).to(frames)
    return frames


def turn(params: Tensor, degrees: float) -> Tensor:
    """The same motion seen from elsewhere: new root = Ry(degrees) * root.

    Deviation: each call starts from the motion it is given. The reference turns one shared array,
    so its angles add up over a list of views.

    Args:
        params: (T, 85).
        degrees: the viewer's angle.

    Returns:
        (T, 85).
    """
    rotation = axis_rotation("y", params.new_tensor(math.radians(degrees)).double())
    turned = params.clone()
    root = axis_angle_to_matrix(params[:, 3:6].double())
    turned[:, 3:6] = matrix_to_axis_angle(rotation @ root).to(params)
    return turned


def bullet_time(
    params: Tensor,
    stops: Iterable[tuple[int, int]],
    *,
    begin: Literal["frame", "front"] = "frame",
) -> tuple[Tensor, list[int]]:
    """Time stands still and the view goes once around.

    Args:
        params: (T, 85) motion.
        stops: (frame, duration): before `frame`, `duration` frames of a full turn with that frame's
            camera, body pose and shape are inserted. Frames beyond the clip are left out.
        begin: ``frame`` turns from the frame's own root, so that nothing jumps. ``front`` is the
            reference's: an upright body that faces the camera, whatever the frame's root.

    Returns:
        The longer motion (T', 85), and for each of its frames the frame of `params` it stands for.
    """
    durations: dict[int, int] = {}
    for frame, duration in stops:
        if frame < 0 or duration < 0:
            raise ValueError(f"Stop ({frame}, {duration}): frame and duration must be 0 or more.")
        durations[frame] = durations.get(frame, 0) + duration
    pieces, origins = [], []
    for frame in range(len(params)):
        duration = durations.get(frame, 0)
        if duration > 0:
            still = params[frame].expand(duration, -1).clone()
            roots = (
                view_roots(duration) if begin == "front" else turned_roots(params[frame], duration)
            )
            still[:, 3:6] = roots.to(params)
            pieces.append(still)
        pieces.append(params[frame : frame + 1])
        origins += [frame] * (duration + 1)
    return (torch.cat(pieces) if pieces else params.clone()), origins


def with_hands(params: Tensor, hands_mean: Tensor) -> Tensor:
    """Fits of the 24-joint body for the one with fingers: its two hand joints become 30 finger ones.

    Args:
        params: (T, 85).
        hands_mean: (90,) mean pose of the fingers of the left, then the right hand, axis-angle.

    Returns:
        (T, 169): camera 3, pose 156, shape 10.
    """
    kept = params[:, : 3 + _JOINTS_BEFORE_HANDS]
    fingers = hands_mean.to(params).expand(len(params), -1)
    return torch.cat([kept, fingers, params[:, -10:]], dim=1)


def _once_around(num_views: int) -> Tensor:
    """(num_views, 3, 3) float64 rotations about the vertical axis, in equal steps from 0 to 360 degrees."""
    if num_views < 1:
        raise ValueError(f"num_views is {num_views}; at least one view is needed.")
    angle = torch.arange(num_views, dtype=torch.float64) * 2 * math.pi / max(1, num_views - 1)
    return axis_rotation("y", angle)
