"""Distances of bodies and keypoints against closed forms, and the official averages."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from benchmarks.metrics import body
from benchmarks.metrics.averages import mean_of_batch_means


def joints(seed: int = 0, num_frames: int = 5) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0, 0.4, (num_frames, 24, 3))


def test_mpjpe_lays_the_roots_on_each_other() -> None:
    a = joints()
    b = a + [3.0, 0, -1]
    b[:, 5, 1] += 0.024
    b[2] = a[2]
    assert body.mpjpe(a, b) == pytest.approx(np.where(np.arange(5) == 2, 0, 1.0), abs=1e-9)
    # A moved root moves all other joints.
    c = a.copy()
    c[:, 0, 2] += 0.01
    assert body.mpjpe(a, c) == pytest.approx(10 * 23 / 24)


def test_procrustes_undoes_a_similarity_but_no_reflection() -> None:
    a = joints()
    turn = Rotation.random(5, rng=np.random.default_rng(1)).as_matrix()
    moved = 1.7 * a @ turn.transpose(0, 2, 1) + [0.3, -2, 5]
    assert body.pa_mpjpe(a, moved) == pytest.approx(0, abs=1e-9)
    assert (body.pa_mpjpe(a * [-1, 1, 1], moved) > 50).all()
    assert (body.mpjpe(a, moved) > 50).all()


def test_procrustes_is_the_least_over_similarities() -> None:
    """No nearby rotation, scale or shift has a lower sum of squares, so the aligned one is the optimum."""
    a, b = joints(0, 1), joints(3, 1)
    centred_a, centred_b = (x[0] - x[0].mean(0) for x in (a, b))
    rotation, _ = Rotation.align_vectors(centred_b, centred_a)
    turned = rotation.apply(centred_a)
    scale = (turned * centred_b).sum() / (turned**2).sum()
    expected = 1000 * np.linalg.norm(scale * turned - centred_b, axis=1).mean()
    assert body.pa_mpjpe(a, b)[0] == pytest.approx(expected, rel=1e-6)


def test_bodies_without_a_number() -> None:
    a, b = joints(), joints(1)
    b[1, 3, 0] = np.nan
    assert np.isnan(body.mpjpe(a, b)).tolist() == [False, True, False, False, False]
    assert np.isnan(body.pa_mpjpe(a, b)).tolist() == [False, True, False, False, False]
    assert np.isnan(body.pa_mpjpe(np.ones((1, 24, 3)), a[:1])).all()


def test_joint_angles_are_geodesic_and_leave_the_root_out() -> None:
    a = np.random.default_rng(0).normal(0, 0.5, (3, 72))
    b = a.copy()
    b[:, :3] += 1
    assert body.joint_angle_error(a, b) == pytest.approx(0, abs=1e-6)
    quarter = np.zeros((1, 72))
    quarter[0, 3] = np.pi / 2
    assert body.joint_angle_error(quarter, 0 * quarter)[0] == pytest.approx(90 / 23)
    # The same rotation in two spellings, where differences of axis-angle jump.
    near, other = np.zeros((1, 72)), np.zeros((1, 72))
    near[0, 5], other[0, 5] = np.pi - 0.01, -np.pi - 0.01
    assert body.joint_angle_error(near, other)[0] == pytest.approx(0, abs=1e-6)
    turns = (
        Rotation.from_rotvec(a[:, 3:].reshape(-1, 3)),
        Rotation.from_rotvec(a[::-1, 3:].reshape(-1, 3)),
    )
    expected = np.degrees((turns[0].inv() * turns[1]).magnitude()).reshape(3, 23).mean(1)
    assert body.joint_angle_error(a, a[::-1]) == pytest.approx(expected, abs=1e-6)
    b[1, 40] = np.nan
    assert np.isnan(body.joint_angle_error(a, b)).tolist() == [False, True, False]


def test_keypoints_count_where_both_see_them() -> None:
    wanted = np.zeros((4, 3, 3))
    wanted[..., 2] = 0.9
    found = wanted.copy()
    found[..., :2] += [3, 4]
    found[0, 1] = [100, 100, 0.1]  # not above the threshold: missing
    found[1, :, 2] = 0
    wanted[2, :, 2] = 0
    found[3, 2] = np.nan
    distance = body.average_keypoint_distance(found, wanted)
    assert distance[[0, 3]].tolist() == [5, 5]
    assert np.isnan(distance[[1, 2]]).all()
    missing = body.missing_keypoint_rate(found, wanted)
    assert missing[[0, 1, 3]] == pytest.approx([1 / 3, 1, 1 / 3])
    assert np.isnan(missing[2])
    # A keypoint that the true picture lacks is nobody's miss.
    wanted[0, 1, 2] = 0
    assert body.missing_keypoint_rate(found, wanted)[0] == 0


@pytest.mark.parametrize(
    ("call", "shapes"),
    [
        (body.mpjpe, ((2, 24, 3), (3, 24, 3))),
        (body.pa_mpjpe, ((2, 24, 2), (2, 24, 2))),
        (body.joint_angle_error, ((2, 69), (2, 69))),
        (body.sspe_official, ((2, 82), (2, 82))),
        (body.average_keypoint_distance, ((2, 25, 3), (2, 19, 3))),
    ],
)
def test_wrong_shapes_are_named(call, shapes) -> None:
    with pytest.raises(ValueError, match="must be equal"):
        call(*(np.zeros(shape) for shape in shapes))


def test_a_short_last_batch_weighs_as_much() -> None:
    assert mean_of_batch_means(np.array([1.0, 3, 8]), batch=2) == 5
    assert np.isnan(mean_of_batch_means(np.empty(0)))
    assert mean_of_batch_means(np.array([1.0, np.inf])) == np.inf
    with pytest.raises(ValueError, match="at least one"):
        mean_of_batch_means(np.ones(2), batch=0)


@pytest.mark.parity
def test_official_numbers(fixtures_folder: Path) -> None:
    folder = fixtures_folder / "evaluation"
    expected = json.loads((folder / "misc_expected.json").read_text())
    with np.load(folder / "misc_inputs.npz") as arrays:
        sspe = body.sspe_official(arrays["smpl_p"], arrays["smpl_r"])
        frame_scores = arrays["frame_scores"]
    assert sspe.mean() == pytest.approx(expected["sspe"], abs=1e-6)
    assert mean_of_batch_means(frame_scores) == pytest.approx(
        expected["mean_of_batch16_means"], abs=1e-9
    )
    assert frame_scores.mean() == pytest.approx(expected["mean_of_frames"], abs=1e-9)
