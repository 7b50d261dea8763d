"""Filters along time: what they keep, what they remove, and the reference's numbers."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from iper_toolkit import smoothing
from iper_toolkit.rotations import axis_angle_to_matrix


@pytest.mark.parametrize("length", [1, 2, 5, 10, 11, 15, 18, 19, 60])
def test_constants_and_lines_pass_at_every_length(length: int) -> None:
    time = np.arange(length, dtype=np.float64)[:, None]
    line = 3 + 0.25 * time * np.array([0, 1, -2])
    smooth = smoothing.low_pass(line, 300)
    np.testing.assert_allclose(smooth[:, 0], 3, atol=1e-9)
    # The filter starts as if nothing had moved before, and has not quite forgotten it 18 frames on:
    # 1.3% of a step at the ends, whatever the length of the clip.
    np.testing.assert_allclose(smooth, line, atol=0.5 * 0.015)


def test_jitter_goes_and_slow_motion_stays() -> None:
    time = np.arange(120)
    slow = np.sin(2 * np.pi * time / 120)
    jitter = 0.2 * (-1.0) ** time
    middle = slice(20, 100)
    np.testing.assert_allclose(
        smoothing.low_pass(slow + jitter, 300)[middle], slow[middle], atol=1e-3
    )


def test_low_pass_refuses_what_would_spread() -> None:
    with pytest.raises(ValueError, match="NaN"):
        smoothing.low_pass(np.array([0.0, np.nan, 1.0]), 100)
    with pytest.raises(ValueError, match="cutoff is 2000"):
        smoothing.low_pass(np.zeros(30), 2000)


def test_rotations_are_smoothed_across_half_a_turn() -> None:
    # A steady turn about y: its axis-angle jumps from +pi to -pi in the middle.
    angle = torch.linspace(2.5, 3.8, 40, dtype=torch.float64)
    wrapped = torch.where(angle > math.pi, angle - 2 * math.pi, angle)
    pose = torch.stack([torch.zeros(40), wrapped, torch.zeros(40)], dim=1)
    smooth = smoothing.smooth_poses(pose)
    difference = axis_angle_to_matrix(smooth) - axis_angle_to_matrix(pose)
    assert difference[5:-5].abs().max() < 1e-4
    assert difference.abs().max() < 0.02


def test_smooth_motion_keeps_dtype_shape_and_the_input() -> None:
    params = torch.randn(13, 85, generator=torch.Generator().manual_seed(0)) * 0.1
    before = params.clone()
    smooth = smoothing.smooth_motion(params)
    assert smooth.dtype == torch.float32
    assert smooth.shape == (13, 85)
    torch.testing.assert_close(smooth[:, -10:], params[:, -10:])
    torch.testing.assert_close(params, before)
    assert smooth[:, :75].diff(dim=0).abs().mean() < params[:, :75].diff(dim=0).abs().mean() / 2


def test_unseen_joints_lie_on_the_line_between_seen_ones() -> None:
    track = np.zeros((6, 3, 3))
    track[:, 0] = np.arange(6)[:, None] * [1.0, 2.0, 0.0] + [0, 0, 1]
    expected = track[:, 0].copy()
    track[[0, 2, 3, 5], 0] = 0
    track[2, 1] = (7, 8, 0.5)
    filled = smoothing.fill_unseen_joints(track)
    np.testing.assert_allclose(filled[:, 0], expected)
    np.testing.assert_allclose(filled[:, 1], np.tile([7, 8, 0.5], (6, 1)))
    np.testing.assert_array_equal(filled[:, 2], 0)


def test_swapped_joints_come_back() -> None:
    time = np.arange(30, dtype=np.float64)
    keypoints = np.zeros((30, 2, 3))
    keypoints[:, 0, 0], keypoints[:, 1, 0] = time, time + 20
    keypoints[..., 2] = [0.9, 0.6]
    swapped = keypoints.copy()
    swapped[12:14] = swapped[12:14, ::-1]
    np.testing.assert_array_equal(smoothing.repair_swapped_joints(swapped), keypoints)


def test_swapped_joints_are_looked_up_from_the_raw_side() -> None:
    """Where the map is not one to one, its direction matters: two raw joints may share a nearest median."""
    keypoints = np.zeros((7, 3, 3))
    keypoints[..., 0] = [0.0, 10.0, 40.0]
    keypoints[..., 2] = [0.9, 0.6, 0.3]
    keypoints[3, 1, 0] = 26.0  # nearer to the third joint's median (40) than to its own (10)
    repaired = smoothing.repair_swapped_joints(keypoints)
    expected = keypoints.copy()
    expected[3, 1] = keypoints[3, 2]
    np.testing.assert_array_equal(repaired, expected)


@pytest.mark.parametrize("seed", range(5))
def test_repair_equals_a_search_joint_by_joint(seed: int) -> None:
    rng = np.random.default_rng(seed)
    keypoints = np.cumsum(rng.normal(0, 8, (20, 6, 3)), axis=0)
    expected = keypoints.copy()
    filtered = smoothing.running_median(keypoints, 5)
    for frame in range(20):
        for joint in range(6):
            apart = [
                np.hypot(*(keypoints[frame, joint, :2] - filtered[frame, other, :2]))
                for other in range(6)
            ]
            expected[frame, joint] = keypoints[frame, int(np.argmin(apart))]
    np.testing.assert_array_equal(smoothing.repair_swapped_joints(keypoints), expected)


@pytest.mark.parity
def test_reference_smoothing(fixtures_folder: Path) -> None:
    with np.load(fixtures_folder / "pipeline" / "smoothing.npz") as file:
        data = {name: file[name] for name in file.files}
    for cutoff in (100, 150, 300, 400):
        np.testing.assert_allclose(
            smoothing.low_pass(data["sig"], cutoff), data[f"butter_fc{cutoff}"], atol=1e-9
        )
    np.testing.assert_allclose(smoothing.exponential_average(data["sig"], 0.7), data["lowpass_a07"])
    for pose_cutoff, camera_cutoff in ((300, 100), (400, 150)):
        expected = data[f"smpls_smoothed_{pose_cutoff}_{camera_cutoff}"]
        result = smoothing.smooth_motion(
            torch.from_numpy(data["smpls"]), pose_cutoff, camera_cutoff
        ).numpy()
        np.testing.assert_allclose(result[:, :3], expected[:, :3], atol=1e-6)
        np.testing.assert_allclose(result[:, -10:], expected[:, -10:])
        matrices = [
            axis_angle_to_matrix(torch.from_numpy(x[:, 3:75]).reshape(-1, 24, 3))
            for x in (result, expected)
        ]
        np.testing.assert_allclose(*matrices, atol=1e-6)
    # Of 11, 18 and 19 frames the reference filters only the last; all of ours are finite.
    np.testing.assert_array_equal(data["filtfilt_len_ok_11_18_19"], [0, 0, 1])
    for length in (11, 18, 19):
        assert np.isfinite(smoothing.low_pass(data["sig"][:length], 300)).all()
    reverted = smoothing.revert_far_poses(
        torch.from_numpy(data["opt_pose"]), torch.from_numpy(data["init_pose"]), 10.0
    )
    np.testing.assert_array_equal(reverted, data["pose_temporal_smooth_thr10"])
    np.testing.assert_array_equal(smoothing.running_median(data["kps"], 5), data["median_w5"])
    np.testing.assert_array_equal(
        smoothing.repair_swapped_joints(data["kps_swapped"], 5), data["pose2d_filter_median5"]
    )
    np.testing.assert_allclose(
        smoothing.fill_unseen_joints(data["kps_invalid"]), data["kps_invalid_filled"], atol=1e-9
    )
    np.testing.assert_allclose(smoothing.one_euro(data["euro_in"]), data["euro_out"], atol=1e-9)
