"""Turning people: view sequences, turned motion and bullet time."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from iper_toolkit import views
from iper_toolkit.rotations import (
    angle_between,
    axis_angle_to_matrix,
    axis_rotation,
    quaternion_to_matrix,
)


def same_motion(result: Tensor, expected: Tensor, tolerance: float = 2e-6) -> None:
    """Equal cameras, body poses and shapes; equal roots as matrices (pi has two axes)."""
    np.testing.assert_allclose(result[:, :3], expected[:, :3], atol=tolerance)
    np.testing.assert_allclose(result[:, 6:], expected[:, 6:], atol=tolerance)
    np.testing.assert_allclose(
        axis_angle_to_matrix(result[:, 3:6].double()),
        axis_angle_to_matrix(expected[:, 3:6].double()),
        atol=tolerance,
    )


def motion(length: int, seed: int = 0) -> Tensor:
    return torch.randn(length, 85, generator=torch.Generator().manual_seed(seed)) * 0.5


def test_a_view_sequence_goes_once_around_in_equal_steps() -> None:
    roots = axis_angle_to_matrix(views.view_roots(9).double())
    steps = angle_between(roots[:-1], roots[1:])
    np.testing.assert_allclose(steps, math.pi / 4, atol=1e-6)
    np.testing.assert_allclose(roots[0], roots[-1], atol=1e-6)
    np.testing.assert_allclose(roots[0], torch.diag(torch.tensor([1.0, -1, -1])), atol=1e-6)
    with pytest.raises(ValueError, match="num_views is 0"):
        views.view_roots(0)


def test_a_person_is_turned_with_his_pose_and_shape() -> None:
    person = motion(1)[0]
    frames = views.view_sequence(5, person)
    torch.testing.assert_close(frames[:, 6:], person[6:].expand(5, -1))
    torch.testing.assert_close(frames[:, :3], torch.zeros(5, 3))


def test_turns_start_from_their_input_and_add_up_only_when_chained() -> None:
    frames = motion(6)
    before = frames.clone()
    first, second = views.turn(frames, 45), views.turn(frames, 90)
    torch.testing.assert_close(frames, before)
    same_motion(views.turn(first, 45), second, 1e-5)
    same_motion(views.turn(frames, 360), frames, 1e-5)
    quarter = axis_rotation("y", torch.tensor(math.pi / 2))
    torch.testing.assert_close(
        axis_angle_to_matrix(second[:, 3:6]), quarter @ axis_angle_to_matrix(frames[:, 3:6])
    )


def test_bullet_time_says_which_frame_it_shows() -> None:
    frames = motion(4)
    longer, origins = views.bullet_time(frames, [(2, 3), (9, 5), (0, 0)])
    assert origins == [0, 1, 2, 2, 2, 2, 3]
    torch.testing.assert_close(longer[[0, 1, 5, 6]], frames)
    torch.testing.assert_close(longer[2:5, 6:], frames[2:3, 6:].expand(3, -1))
    with pytest.raises(ValueError, match="must be 0 or more"):
        views.bullet_time(frames, [(-1, 3)])


def test_bullet_time_turns_from_where_the_body_stands() -> None:
    """The first and the last still frame are the frame itself; the reference's jump to the front and back."""
    frames = views.turn(motion(4), 30)
    longer, _ = views.bullet_time(frames, [(2, 5)])
    same_motion(
        longer[2:7], torch.cat([views.turn(frames[2:3], a) for a in range(0, 361, 90)]), 1e-5
    )
    same_motion(longer[[2, 6]], frames[[2, 2]], 1e-5)
    absolute, _ = views.bullet_time(frames, [(2, 5)], begin="front")
    same_motion(
        absolute[2:7, :],
        torch.cat(
            [frames[2:3, :3].expand(5, -1), views.view_roots(5), frames[2:3, 6:].expand(5, -1)], 1
        ),
    )


@pytest.mark.parity
def test_reference_views(fixtures_folder: Path) -> None:
    with np.load(fixtures_folder / "pipeline" / "views.npz") as file:
        names = file["bt_paths"].tolist()
        stops = [(int(frame), int(duration)) for frame, duration in file["bt_list"]]
        data = {n: torch.from_numpy(file[n]) for n in file.files if n != "bt_paths"}
    same_motion(views.view_sequence(180), data["tpose_views_180"])
    same_motion(views.view_sequence(1), data["tpose_views_1"])
    for degrees in (45, 90, 180, 270):
        same_motion(views.turn(data["smpls"], degrees), data[f"view_{degrees}"])
    # The reference turned one array by 45 and then again by 90 degrees: what chaining gives.
    chained = views.turn(data["smpls"], 45)
    same_motion(chained, data["special_effect_view45_then_90_same_array"][0])
    same_motion(views.turn(chained, 90), data["special_effect_view45_then_90_same_array"][1])
    longer, origins = views.bullet_time(data["smpls"], stops, begin="front")
    same_motion(longer, data["bt_smpls"])
    assert [f"f{frame}" for frame in origins] == names
    with_hands = views.with_hands(data["smpls"], data["hands_mean"])
    np.testing.assert_array_equal(with_hands, data["with_hands"])
    roots = axis_angle_to_matrix(views.view_roots(9).double())
    from_vectors = axis_angle_to_matrix(data["tpose_360_rotvec_9"])
    from_quaternions = quaternion_to_matrix(data["tpose_360_quat_xyzw_9"], order="xyzw")
    for expected in (from_vectors, from_quaternions):
        np.testing.assert_allclose(roots, expected[:, 0], atol=1e-6)
        np.testing.assert_allclose(
            expected[:, 1:], torch.eye(3).expand(9, 23, 3, 3), atol=1e-12
        )  # the other joints rest, as in `view_sequence`
