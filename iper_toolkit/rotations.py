"""Rotations in four spellings: axis-angle, matrix, 6-D and quaternion.

Every function is pure, keeps dtype and device, takes any leading dimensions ``...`` (none and three
included) and has finite gradients everywhere, the identity among them. Matrices act on columns:
``y = R x``. Quaternions are ``(w, x, y, z)`` unless `order` says otherwise.
"""

from typing import Literal

import torch
from torch import Tensor

QuaternionOrder = Literal["wxyz", "xyzw"]

# Below this squared angle (rad^2) sin(a)/a is 1 - a^2/6 to double precision.
_SMALL_SQUARED_ANGLE = 1e-7


def axis_angle_to_matrix(axis_angle: Tensor) -> Tensor:
    """Rodrigues' formula: ``R = I + sin(a) [n]x + (1 - cos(a)) [n]x^2``.

    Args:
        axis_angle: (..., 3) float, axis times angle in radians.

    Returns:
        (..., 3, 3) rotation matrices.
    """
    _check_last(axis_angle, 3, "axis_angle")
    cross = _cross_matrix(axis_angle)
    sine = _sine_over_angle(axis_angle)[..., None]
    half_sine = _sine_over_angle(axis_angle / 2)[..., None]
    identity = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    # (1 - cos a) / a^2 = (sin(a/2) / (a/2))^2 / 2, which does not cancel for small angles.
    return identity + sine * cross + 0.5 * half_sine.square() * (cross @ cross)


def matrix_to_axis_angle(matrix: Tensor) -> Tensor:
    """(..., 3, 3) rotation matrices -> (..., 3) axis times angle, angle in [0, pi].

    Goes by way of the quaternion, so it stays exact next to half a turn.
    """
    return quaternion_to_axis_angle(matrix_to_quaternion(matrix))


def matrix_to_rotation_6d(matrix: Tensor) -> Tensor:
    """First two columns, row by row: ``r00, r01, r10, r11, r20, r21`` (SPIN's order).

    Zhou 2019 lists one column after the other; checkpoints of SPIN need this order.

    Args:
        matrix: (..., 3, 3) rotation matrices.

    Returns:
        (..., 6).
    """
    _check_matrix(matrix)
    return matrix[..., :2].flatten(-2)


def rotation_6d_to_matrix(rotation_6d: Tensor) -> Tensor:
    """Gram-Schmidt on the two columns (Zhou 2019); inverse of `matrix_to_rotation_6d`.

    Args:
        rotation_6d: (..., 6), any two columns that are not parallel.

    Returns:
        (..., 3, 3) rotation matrices.
    """
    _check_last(rotation_6d, 6, "rotation_6d")
    columns = rotation_6d.unflatten(-1, (3, 2))
    first = _unit(columns[..., 0])
    second = columns[..., 1]
    second = _unit(second - (first * second).sum(-1, keepdim=True) * first)
    # The axis is named: without it torch crosses along the first axis of length 3, the batch too.
    third = torch.linalg.cross(first, second, dim=-1)
    return torch.stack([first, second, third], dim=-1)


def quaternion_to_matrix(quaternion: Tensor, order: QuaternionOrder = "wxyz") -> Tensor:
    """(..., 4) quaternions of any length but zero -> (..., 3, 3) rotation matrices."""
    w, x, y, z = _components(_unit(quaternion), order)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def matrix_to_quaternion(matrix: Tensor, order: QuaternionOrder = "wxyz") -> Tensor:
    """(..., 3, 3) rotation matrices -> (..., 4) unit quaternions with ``w >= 0``.

    The products ``4 q_i q_j`` are sums of entries of the matrix; the row of the largest component
    is the quaternion times that component, so no division by a small number occurs (Shepperd 1978).
    """
    _check_matrix(matrix)
    m = matrix
    m00, m11, m22 = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    wx, wy, wz = (
        m[..., 2, 1] - m[..., 1, 2],
        m[..., 0, 2] - m[..., 2, 0],
        m[..., 1, 0] - m[..., 0, 1],
    )
    xy, xz, yz = (
        m[..., 0, 1] + m[..., 1, 0],
        m[..., 0, 2] + m[..., 2, 0],
        m[..., 1, 2] + m[..., 2, 1],
    )
    squares = (1 + m00 + m11 + m22, 1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22)
    ww, xx, yy, zz = squares
    rows = ((ww, wx, wy, wz), (wx, xx, xy, xz), (wy, xy, yy, yz), (wz, xz, yz, zz))
    products = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    largest = torch.stack(squares, dim=-1).argmax(-1)
    index = largest[..., None, None].expand(*largest.shape, 1, 4)
    quaternion = _unit(products.gather(-2, index).squeeze(-2))
    quaternion = torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    return quaternion if order == "wxyz" else quaternion.roll(-1, dims=-1)


def quaternion_to_axis_angle(quaternion: Tensor, order: QuaternionOrder = "wxyz") -> Tensor:
    """(..., 4) quaternions of any length but zero -> (..., 3) axis times angle in [0, pi]."""
    parts = torch.stack(_components(_unit(quaternion), order), dim=-1)
    parts = torch.where(parts[..., :1] < 0, -parts, parts)  # q and -q are one rotation
    cosine, vector = parts[..., :1], parts[..., 1:]
    squared_sine = vector.square().sum(-1, keepdim=True)
    small = squared_sine < _SMALL_SQUARED_ANGLE
    sine = torch.where(small, torch.ones_like(squared_sine), squared_sine).sqrt()
    # asin(s) / s = 1 + s^2 / 6 + ...
    ratio = torch.where(small, 2 + squared_sine / 3, 2 * torch.atan2(sine, cosine) / sine)
    return vector * ratio


def axis_angle_to_quaternion(axis_angle: Tensor, order: QuaternionOrder = "wxyz") -> Tensor:
    """(..., 3) axis times angle in radians -> (..., 4) unit quaternions."""
    _check_last(axis_angle, 3, "axis_angle")
    half = axis_angle / 2
    vector = half * _sine_over_angle(half)
    scalar = _cosine(half)
    parts = [scalar, vector] if order == "wxyz" else [vector, scalar]
    return torch.cat(parts, dim=-1)


def axis_rotation(axis: Literal["x", "y", "z"], angle: Tensor) -> Tensor:
    """Turn by `angle` about one axis of the frame.

    Args:
        axis: which one.
        angle: (...) float, radians.

    Returns:
        (..., 3, 3) rotation matrices.
    """
    direction = angle.new_tensor({"x": (1, 0, 0), "y": (0, 1, 0), "z": (0, 0, 1)}[axis])
    return axis_angle_to_matrix(angle[..., None] * direction)


def angle_between(first: Tensor, second: Tensor) -> Tensor:
    """Angle (...), radians in [0, pi], between two (..., 3, 3) rotations."""
    return matrix_to_axis_angle(first.transpose(-1, -2) @ second).norm(dim=-1)


def _sine_over_angle(axis_angle: Tensor) -> Tensor:
    """``sin(|v|) / |v|`` of (..., 3) vectors: (..., 1); smooth through zero."""
    squared = axis_angle.square().sum(-1, keepdim=True)
    small = squared < _SMALL_SQUARED_ANGLE
    # Both branches are differentiated, so the unused one must be finite as well.
    angle = torch.where(small, torch.ones_like(squared), squared).sqrt()
    return torch.where(small, 1 - squared / 6, angle.sin() / angle)


def _cosine(axis_angle: Tensor) -> Tensor:
    """``cos(|v|)`` of (..., 3) vectors: (..., 1); smooth through zero."""
    squared = axis_angle.square().sum(-1, keepdim=True)
    small = squared < _SMALL_SQUARED_ANGLE
    angle = torch.where(small, torch.ones_like(squared), squared).sqrt()
    return torch.where(small, 1 - squared / 2, angle.cos())


def _cross_matrix(vector: Tensor) -> Tensor:
    """(..., 3) -> (..., 3, 3) with ``[v]x u = v x u``."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    rows = ((zero, -z, y), (z, zero, -x), (-y, x, zero))
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def _unit(vector: Tensor) -> Tensor:
    tiny = torch.finfo(vector.dtype).tiny
    return vector / vector.norm(dim=-1, keepdim=True).clamp_min(tiny)


def _components(quaternion: Tensor, order: QuaternionOrder) -> tuple[Tensor, ...]:
    """(w, x, y, z), each (...)."""
    _check_last(quaternion, 4, "quaternion")
    if order not in ("wxyz", "xyzw"):
        raise ValueError(f"Unknown quaternion order {order!r}. Choose 'wxyz' or 'xyzw'.")
    return (quaternion if order == "wxyz" else quaternion.roll(1, dims=-1)).unbind(-1)


def _check_last(values: Tensor, count: int, name: str) -> None:
    if values.shape[-1:] != (count,):
        raise ValueError(f"{name} is {tuple(values.shape)}; its last dimension must be {count}.")


def _check_matrix(matrix: Tensor) -> None:
    if matrix.shape[-2:] != (3, 3):
        raise ValueError(f"matrix is {tuple(matrix.shape)}; it must be (..., 3, 3).")
