"""Motions: feet that stand do not slide, legs reach where they should, a turn is a full turn."""

import numpy as np
import pytest
import torch

from iper_toolkit.body import load_body
from iper_toolkit.rotations import axis_angle_to_matrix
from iper_toolkit.synthetic.motion import Motion, Skeleton, turn_motion, turned, varied_motion

FRAMES, SECONDS = 60, 5.0
ANKLES = [7, 8]


@pytest.fixture(scope="module")
def skeleton() -> Skeleton:
    return Skeleton(load_body("open").joint_template.numpy().astype(np.float64), sole=0.085)


def joint_places(skeleton: Skeleton, motion: Motion) -> np.ndarray:
    """(T, 24, 3) world positions, by the plain chain of rotations."""
    parents = load_body("open").parents
    local = axis_angle_to_matrix(torch.from_numpy(motion.pose).double()).numpy()
    turns, places = [local[:, 0]], [motion.pelvis.astype(np.float64)]
    for joint in range(1, 24):
        bone = skeleton.joints[joint] - skeleton.joints[parents[joint]]
        places.append(places[parents[joint]] + turns[parents[joint]] @ bone)
        turns.append(turns[parents[joint]] @ local[:, joint])
    return np.stack(places, 1)


def motions(skeleton: Skeleton) -> list[Motion]:
    varied = [
        varied_motion(skeleton, FRAMES, SECONDS, np.random.default_rng(seed)) for seed in range(12)
    ]
    return [turn_motion(skeleton, FRAMES, SECONDS), *varied]


def test_supporting_feet_do_not_slide(skeleton: Skeleton) -> None:
    for motion in motions(skeleton):
        ankles = joint_places(skeleton, motion)[:, ANKLES]
        speed = np.linalg.norm(np.diff(ankles[..., [0, 2]], axis=0), axis=-1) * FRAMES / SECONDS
        both = motion.standing[1:] & motion.standing[:-1]
        assert both.any()
        # Metres a second; the leg is solved exactly, what is left is float32.
        assert speed[both].max() < 1e-3
        np.testing.assert_allclose(ankles[..., 1][motion.standing], skeleton.sole, atol=1e-4)


def test_some_foot_always_stands_and_none_goes_through_the_floor(skeleton: Skeleton) -> None:
    for motion in motions(skeleton):
        assert motion.standing.any(1).all()
        assert joint_places(skeleton, motion)[:, ANKLES, 1].min() > skeleton.sole - 1e-4


def test_motion_is_smooth(skeleton: Skeleton) -> None:
    """No joint jumps: at 120 frames a second nothing moves faster than a fast arm."""
    for seed in range(4):
        motion = varied_motion(skeleton, 600, SECONDS, np.random.default_rng(seed))
        places = joint_places(skeleton, motion)
        speed = np.linalg.norm(np.diff(places, axis=0), axis=-1) * 120
        assert speed.max() < 9  # metres a second
        acceleration = np.diff(places[:, 0], n=2, axis=0) * 120**2
        assert np.abs(acceleration).max() < 40  # of the pelvis, metres a second squared


def test_varied_motion_moves_arms_legs_and_body(skeleton: Skeleton) -> None:
    lowest, turns, raised, lifted = [], [], [], []
    for seed in range(12):
        motion = varied_motion(skeleton, FRAMES, SECONDS, np.random.default_rng(seed))
        places = joint_places(skeleton, motion)
        lowest.append(places[:, 0, 1].min() / places[:, 0, 1].max())
        turns.append(
            np.ptp(np.arctan2(places[:, 1, 2] - places[:, 2, 2], places[:, 1, 0] - places[:, 2, 0]))
        )
        raised.append(places[:, [20, 21], 1].max() - places[:, 15, 1].mean())
        lifted.append(places[:, ANKLES, 1].max() - skeleton.sole)
    assert min(lowest) < 0.8  # a squat
    assert max(turns) > 0.6  # a turn of the hips, radians
    assert max(raised) > 0.1  # hands above the head
    assert np.mean(lifted) > 0.1  # feet off the floor


def test_turn_is_one_even_circle_in_an_a_pose(skeleton: Skeleton) -> None:
    motion = turn_motion(skeleton, FRAMES, SECONDS)
    root = axis_angle_to_matrix(torch.from_numpy(motion.pose[:, 0]).double()).numpy()
    yaw = np.unwrap(np.arctan2(root[:, 0, 2], root[:, 2, 2]))
    np.testing.assert_allclose(yaw, 2 * np.pi * np.arange(FRAMES) / FRAMES, atol=1e-5)
    assert np.ptp(motion.pose[:, 16:20], axis=0).max() < 1e-6  # the arms stay


def test_turned_keeps_the_instant(skeleton: Skeleton) -> None:
    motion = varied_motion(skeleton, FRAMES, SECONDS, np.random.default_rng(3))
    around = turned(motion, 20, np.deg2rad([0, 90]))
    places = joint_places(skeleton, around)
    np.testing.assert_allclose(places[0], joint_places(skeleton, motion)[20], atol=1e-5)
    relative = places - places[:, :1]
    quarter = np.stack([relative[0, :, 2], relative[0, :, 1], -relative[0, :, 0]], -1)
    np.testing.assert_allclose(relative[1], quarter, atol=1e-5)


def test_same_seed_same_motion(skeleton: Skeleton) -> None:
    first, again, other = (
        varied_motion(skeleton, 16, 4.0, np.random.default_rng(seed)).pose for seed in (5, 5, 6)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_impossible_wishes_are_refused(skeleton: Skeleton) -> None:
    with pytest.raises(ValueError, match="at least 2 frames"):
        turn_motion(skeleton, 1, 5.0)
    with pytest.raises(ValueError, match=r"\(24, 3\)"):
        Skeleton(np.zeros((23, 3)), 0.08)
