"""Sums that reach files: the same bits wherever an array lies, and the same numbers as torch's."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from iper_toolkit.body import load_body
from iper_toolkit.body.skinning import deform
from iper_toolkit.rotations import axis_angle_to_matrix
from iper_toolkit.synthetic.fits import fit_of
from iper_toolkit.synthetic.motion import axis_angle, turn_motion
from iper_toolkit.synthetic.people import dress_person, pose_person, sample_person
from iper_toolkit.synthetic.render import Camera
from iper_toolkit.synthetic.reproducible import settled, skinned, turned_points

# Prints a digest of one person's posed mesh and fit. Arguments: by how many bytes the heap is shifted before, and how
# many threads torch has.
_DIGEST = """
import hashlib, sys
import numpy as np
import torch
from iper_toolkit.synthetic.fits import fit_of
from iper_toolkit.synthetic.motion import varied_motion
from iper_toolkit.synthetic.people import dress_person, pose_person, sample_person
from iper_toolkit.synthetic.render import Camera
torch.set_num_threads(int(sys.argv[2]))
ballast = [bytearray(int(sys.argv[1]) + 97 * k) for k in range(64)]
person = sample_person(np.random.default_rng(3), num_outfits=1)
dressed = dress_person(person.identity, person.outfits[0])
motion = varied_motion(dressed.skeleton, 12, 3.0, np.random.default_rng(5))
fit = fit_of(motion, dressed.shape, Camera(0.9, 0.1, (0.0, 0.8)))
digest = hashlib.sha256(pose_person(dressed, motion).tobytes())
for array in (fit.camera, fit.pose, fit.shape, fit.keypoints):
    digest.update(array.tobytes())
print(digest.hexdigest())
"""


def shifted(array: NDArray, by: int) -> NDArray:
    """The same numbers `by` items past a 64-byte boundary."""
    room = np.zeros(array.size + 64, array.dtype)
    first = (-room.ctypes.data % 64) // array.itemsize + by
    copy = room[first : first + array.size].reshape(array.shape)
    copy[:] = array
    return copy


def test_settled_rounds_away_last_bits() -> None:
    values = np.array([1.0, -0.123456, 3e-9, -3e-9, 1e-6 / 3])
    noise = np.array([3, -2, 5, 1, -4]) * 1e-16
    np.testing.assert_array_equal(
        settled(values).view(np.int32), settled(values + noise).view("i4")
    )
    assert settled(values).dtype == np.float32
    assert not np.signbit(settled(np.array([-3e-9])))[0]
    np.testing.assert_allclose(settled(values), values, atol=6e-7)


def test_half_a_turn_has_one_axis() -> None:
    """By rounding alone a half turn could have either of two opposite axes."""
    turns = torch.tensor(
        [[0, np.pi, 0], [np.pi, 0, 0], [0, -np.pi, 0], [0, 0.6 * np.pi, -0.8 * np.pi]]
    )
    matrices = axis_angle_to_matrix(turns.double())
    for noise in (0.0, 1e-16, -1e-16):
        skew = torch.tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]).double() * noise
        expected = [[0, np.pi, 0], [np.pi, 0, 0], [0, np.pi, 0], [0, -0.6 * np.pi, 0.8 * np.pi]]
        np.testing.assert_allclose(axis_angle(matrices + skew), expected, atol=2e-6)


def test_other_rotations_keep_their_axis() -> None:
    vectors = torch.from_numpy(np.random.default_rng(0).uniform(-1.5, 1.5, (50, 3)))
    np.testing.assert_allclose(axis_angle(axis_angle_to_matrix(vectors)), vectors, atol=1e-6)


def test_turned_points_is_the_matrix_product() -> None:
    random = np.random.default_rng(1)
    points, rotation = random.normal(size=(100, 3)).astype(np.float32), random.normal(size=(3, 3))
    np.testing.assert_allclose(turned_points(points, rotation), points @ rotation.T, atol=1e-5)


def test_skinned_agrees_with_the_body_and_with_itself_at_any_address() -> None:
    body = load_body("open")
    random = np.random.default_rng(2)
    pose = torch.from_numpy(random.normal(0, 0.4, (5, 72)))
    exact = body.to(dtype=torch.float64)
    shape = torch.zeros(5, 10, dtype=torch.float64)
    skeleton = exact.skeleton(pose, shape)
    expected = deform(exact.points, shape, skeleton).numpy()
    feature = (skeleton.rotations[:, 1:] - torch.eye(3, dtype=torch.float64)).flatten(1).numpy()
    arrays = [
        np.asarray(array, np.float32)
        for array in (
            body.template,
            body.pose_directions,
            body.weights,
            feature,
            skeleton.transforms.numpy(),
        )
    ]
    posed = skinned(*arrays)
    np.testing.assert_allclose(posed, expected, atol=3e-6)
    for by in (1, 3, 5):
        np.testing.assert_array_equal(skinned(*(shifted(array, by) for array in arrays)), posed)


def test_poses_and_fits_do_not_depend_on_addresses() -> None:
    person = sample_person(np.random.default_rng(3), num_outfits=1)
    dressed = dress_person(person.identity, person.outfits[0])
    motion = turn_motion(dressed.skeleton, 8, 4.0)
    camera = Camera(0.9, 0.1, (0.0, 0.8))
    posed, fit = pose_person(dressed, motion), fit_of(motion, dressed.shape, camera)
    for by in (1, 3):
        mesh = dressed.mesh
        arrays = {
            name: shifted(getattr(mesh, name), by)
            for name in ("vertices", "rest", "weights", "pose_directions")
        }
        elsewhere = replace(dressed, mesh=replace(mesh, **arrays), shape=shifted(dressed.shape, by))
        moved = replace(motion, pose=shifted(motion.pose, by), pelvis=shifted(motion.pelvis, by))
        np.testing.assert_array_equal(pose_person(elsewhere, moved), posed)
        again = fit_of(moved, elsewhere.shape, camera)
        for name in ("camera", "pose", "shape", "keypoints"):
            np.testing.assert_array_equal(getattr(again, name), getattr(fit, name))


@pytest.mark.slow
def test_every_process_poses_and_fits_the_same_bits() -> None:
    """float32 products of BLAS fail here: torch's joints differ with its number of threads."""
    digests = set()
    for shift, threads, kernels in ((0, 1, "AUTO"), (8, 2, "AUTO"), (24, 1, "COMPATIBLE")):
        command = [sys.executable, "-c", _DIGEST, str(shift), str(threads)]
        environment = {**os.environ, "MKL_CBWR": kernels}
        digests.add(subprocess.check_output(command, env=environment, text=True))
    assert len(digests) == 1
