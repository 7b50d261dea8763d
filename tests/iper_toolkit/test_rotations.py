"""Rotations: round trips, batches, gradients, and the reference's numbers."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from iper_toolkit import rotations


def random_axis_angle(count: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    axis = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    angle = torch.rand(count, 1, generator=generator) * math.pi
    return (axis * angle).to(dtype)


def hard_axis_angles(dtype: torch.dtype) -> Tensor:
    """Zero, tiny, around the switch to the series, and next to half a turn."""
    axis = torch.tensor([0.6, -0.48, 0.64], dtype=dtype)
    axis = axis / axis.norm()
    angles = [0.0, 1e-9, 1e-5, 2e-4, 4e-4, 1e-2, math.pi - 1e-3, math.pi - 1e-6]
    along = [torch.tensor(angles, dtype=dtype)[:, None] * axis]
    along += [torch.tensor([[0.0, math.pi - 1e-6, 0.0], [math.pi, 0.0, 0.0]], dtype=dtype)]
    return torch.cat(along)


@pytest.mark.parametrize("values", [random_axis_angle(50), hard_axis_angles(torch.float64)])
def test_matrix_of_axis_angle_equals_scipy(values: Tensor) -> None:
    expected = Rotation.from_rotvec(values.numpy()).as_matrix()
    np.testing.assert_allclose(rotations.axis_angle_to_matrix(values), expected, atol=1e-14)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-7), (torch.float32, 2e-6)])
def test_every_spelling_comes_back_to_the_same_matrix(dtype: torch.dtype, tolerance: float) -> None:
    # float64 is held to 1e-7 and not to 1e-15 because of the angles within 1e-6 of half a turn,
    # where a vector of axis times angle loses half of the digits.
    values = torch.cat([random_axis_angle(50, dtype=dtype), hard_axis_angles(dtype)])
    matrix = rotations.axis_angle_to_matrix(values)
    assert matrix.dtype == dtype
    quaternion = rotations.matrix_to_quaternion(matrix)
    again = {
        "axis-angle": rotations.axis_angle_to_matrix(rotations.matrix_to_axis_angle(matrix)),
        "6-D": rotations.rotation_6d_to_matrix(rotations.matrix_to_rotation_6d(matrix)),
        "quaternion": rotations.quaternion_to_matrix(quaternion),
        "quaternion of axis-angle": rotations.quaternion_to_matrix(
            rotations.axis_angle_to_quaternion(values)
        ),
        "axis-angle of quaternion": rotations.axis_angle_to_matrix(
            rotations.quaternion_to_axis_angle(-quaternion)
        ),
    }
    for name, result in again.items():
        assert (result - matrix).abs().max() < tolerance, name


def test_axis_angle_comes_back_below_half_a_turn() -> None:
    values = random_axis_angle(100) * 0.999
    again = rotations.matrix_to_axis_angle(rotations.axis_angle_to_matrix(values))
    assert (again - values).abs().max() < 1e-12


def test_order_of_quaternions() -> None:
    matrix = rotations.axis_angle_to_matrix(random_axis_angle(7))
    wxyz = rotations.matrix_to_quaternion(matrix)
    xyzw = rotations.matrix_to_quaternion(matrix, order="xyzw")
    np.testing.assert_array_equal(wxyz[:, [1, 2, 3, 0]], xyzw)
    scipy_matrix = Rotation.from_quat(xyzw.numpy()).as_matrix()
    np.testing.assert_allclose(
        rotations.quaternion_to_matrix(xyzw, order="xyzw"), scipy_matrix, atol=1e-14
    )
    turn = rotations.quaternion_to_axis_angle(xyzw, order="xyzw")
    np.testing.assert_allclose(rotations.axis_angle_to_quaternion(turn, order="xyzw"), xyzw)
    with pytest.raises(ValueError, match="zyxw"):
        rotations.quaternion_to_matrix(wxyz, order="zyxw")  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (3, 3), (0,)])
@pytest.mark.parametrize(
    ("function", "count"),
    [
        (rotations.axis_angle_to_matrix, 3),
        (rotations.rotation_6d_to_matrix, 6),
        (rotations.quaternion_to_matrix, 4),
        (rotations.quaternion_to_axis_angle, 4),
        (rotations.axis_angle_to_quaternion, 3),
        (lambda m: rotations.matrix_to_quaternion(rotations.rotation_6d_to_matrix(m)), 6),
        (lambda m: rotations.matrix_to_axis_angle(rotations.rotation_6d_to_matrix(m)), 6),
        (lambda m: rotations.matrix_to_rotation_6d(rotations.rotation_6d_to_matrix(m)), 6),
    ],
)
def test_a_batch_of_any_shape_equals_a_loop(
    function: Callable[[Tensor], Tensor], count: int, shape: tuple[int, ...]
) -> None:
    values = torch.randn(*shape, count, generator=torch.Generator().manual_seed(1)).double()
    batch = function(values)
    assert batch.shape[: len(shape)] == shape
    for flat, single in zip(
        batch.reshape(-1, *batch.shape[len(shape) :]), values.reshape(-1, count), strict=True
    ):
        np.testing.assert_allclose(flat, function(single), atol=1e-14)


@pytest.mark.parametrize(
    "function",
    [
        rotations.axis_angle_to_matrix,
        rotations.axis_angle_to_quaternion,
        lambda v: rotations.matrix_to_axis_angle(rotations.axis_angle_to_matrix(v)),
        lambda v: rotations.matrix_to_quaternion(rotations.axis_angle_to_matrix(v)),
    ],
)
def test_gradients(function: Callable[[Tensor], Tensor]) -> None:
    values = torch.cat([random_axis_angle(5) * 0.9, torch.zeros(1, 3).double()])
    assert torch.autograd.gradcheck(function, values.requires_grad_(True))


def test_6d_gradients() -> None:
    values = torch.randn(4, 6, generator=torch.Generator().manual_seed(2)).double()
    assert torch.autograd.gradcheck(rotations.rotation_6d_to_matrix, values.requires_grad_(True))


def test_axis_rotation_and_angle_between() -> None:
    quarter = rotations.axis_rotation("y", torch.tensor(math.pi / 2, dtype=torch.float64))
    np.testing.assert_allclose(quarter @ torch.tensor([0.0, 0, 1]).double(), [1, 0, 0], atol=1e-15)
    base = rotations.axis_angle_to_matrix(random_axis_angle(6))
    angles = torch.linspace(0, 3, 6).double()
    turned = base @ rotations.axis_rotation("z", angles)
    np.testing.assert_allclose(rotations.angle_between(base, turned), angles, atol=1e-12)


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"axis_angle is \(2, 4\).*must be 3"):
        rotations.axis_angle_to_matrix(torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"matrix is \(3,\)"):
        rotations.matrix_to_quaternion(torch.zeros(3))


@pytest.mark.parity
def test_reference_rotations(fixtures_folder: Path) -> None:
    with np.load(fixtures_folder / "pipeline" / "rotations.npz") as file:
        data = {name: torch.from_numpy(file[name]) for name in file.files}

    def close(result: Tensor, name: str, tolerance: float = 1e-5) -> None:
        np.testing.assert_allclose(result, data[name], atol=tolerance, rtol=0, err_msg=name)

    def same_rotation(result: Tensor, name: str) -> None:
        # Next to half a turn the axis may point either way: the matrices are compared. The
        # reference's own float32 formulas are off by up to 2e-4 there and near the identity.
        expected = rotations.axis_angle_to_matrix(data[name].double())
        matrix = rotations.axis_angle_to_matrix(result.double())
        np.testing.assert_allclose(matrix, expected, atol=2e-4, rtol=0, err_msg=name)

    matrix = rotations.axis_angle_to_matrix(data["rotvec"])
    for name in ("rotvec_to_rotmat", "rodrigues_smpl", "rodrigues_lbs"):
        close(matrix, name)
    close(matrix, "rotmat")
    np.testing.assert_allclose(matrix, data["angle_axis_to_rotmat4"][:, :3, :3], atol=1e-5)
    close(rotations.rotation_6d_to_matrix(data["rot6d_raw"]), "rot6d_to_rotmat")
    close(rotations.rotation_6d_to_matrix(data["rot6d_raw"]), "batch_rot6d_to_rotmat")
    same_rotation(
        rotations.matrix_to_axis_angle(rotations.rotation_6d_to_matrix(data["rot6d_raw"])),
        "rot6d_to_rotvec",
    )
    close(rotations.matrix_to_rotation_6d(data["rotmat"]), "rotmat_to_rot6d", 0.0)
    close(rotations.matrix_to_rotation_6d(matrix), "rotvec_to_rot6d")
    same_rotation(rotations.matrix_to_axis_angle(data["rotmat"]), "rotmat_to_rotvec")
    close(rotations.quaternion_to_matrix(data["quat"]), "quat_wxyz_to_rotmat")
    close(rotations.quaternion_to_matrix(data["quat_unit"], order="xyzw"), "quat_xyzw_to_rotmat")
    same_rotation(rotations.quaternion_to_axis_angle(data["quat_unit"]), "quaternion_to_angle_axis")
    close(rotations.axis_angle_to_quaternion(data["rotvec"]), "angle_axis_to_quaternion")
    ours, theirs = rotations.matrix_to_quaternion(data["rotmat"]), data["rotmat_to_quaternion"]
    theirs = torch.where((ours * theirs).sum(-1, keepdim=True) < 0, -theirs, theirs)
    np.testing.assert_allclose(ours, theirs, atol=2e-4)
