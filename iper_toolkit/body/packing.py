"""How skinned points lie in open_body.npz: small integers and sparse tables, unpacked to float32.

Written by scripts/build_open_body.py, read by `load_body("open")` and `load_layers()`. Lengths are stored in fixed
steps far below a millimetre; weights are renormalised on reading, so they sum to one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SHAPE_STEP = 5e-6  # metres a unit of shape coefficient
POSE_STEP = 2e-5  # metres a unit of pose feature
UNIT_STEPS = 65535  # weights and texture coordinates are 16-bit fractions of one

Arrays = Mapping[str, NDArray]


@dataclass(frozen=True)
class PackedPoints:
    """Points with everything that moves them; float32, metres."""

    template: NDArray[np.float32]  # (V, 3)
    shape_directions: NDArray[np.float32]  # (V, 3, S)
    pose_directions: NDArray[np.float32]  # (V, 3, P)
    weights: NDArray[np.float32]  # (V, J)

    def pack(self, prefix: str) -> dict[str, NDArray]:
        num_points, _, num_shapes = self.shape_directions.shape
        order = np.argsort(-self.weights, axis=1, kind="stable")[:, :4]
        strongest = np.take_along_axis(self.weights, order, axis=1)
        shapes = _quantised(self.shape_directions, SHAPE_STEP)
        poses = _quantised(self.pose_directions, POSE_STEP).reshape(3 * num_points, -1)
        rows, columns = np.nonzero(poses)
        counts = np.bincount(rows, minlength=3 * num_points)
        return {
            f"{prefix}.template": self.template.astype(np.float32),
            f"{prefix}.shapes": np.ascontiguousarray(shapes.reshape(-1, num_shapes).T),
            f"{prefix}.pose_values": poses[rows, columns],
            f"{prefix}.pose_columns": columns.astype(np.uint8),
            f"{prefix}.pose_counts": counts.astype(np.uint8),
            f"{prefix}.joints": order.astype(np.uint8),
            f"{prefix}.weights": np.round(strongest * UNIT_STEPS).astype(np.uint16),
        }

    @classmethod
    def unpack(cls, arrays: Arrays, prefix: str, num_joints: int) -> "PackedPoints":
        template = arrays[f"{prefix}.template"].astype(np.float32)
        num_points, num_features = len(template), 9 * (num_joints - 1)
        shapes = arrays[f"{prefix}.shapes"].astype(np.float32) * np.float32(SHAPE_STEP)
        poses = np.zeros((3 * num_points, num_features), np.float32)
        rows = np.repeat(np.arange(3 * num_points), arrays[f"{prefix}.pose_counts"])
        values = arrays[f"{prefix}.pose_values"].astype(np.float32)
        poses[rows, arrays[f"{prefix}.pose_columns"]] = values * np.float32(POSE_STEP)
        weights = np.zeros((num_points, num_joints), np.float64)
        strongest = arrays[f"{prefix}.weights"].astype(np.float64)
        strongest /= strongest.sum(1, keepdims=True)
        np.put_along_axis(weights, arrays[f"{prefix}.joints"].astype(np.int64), strongest, axis=1)
        return cls(
            template=template,
            shape_directions=np.ascontiguousarray(shapes.T).reshape(num_points, 3, -1),
            pose_directions=poses.reshape(num_points, 3, num_features),
            weights=weights.astype(np.float32),
        )


def pack_uv(uv: NDArray) -> NDArray[np.uint16]:
    return np.round(np.asarray(uv) * UNIT_STEPS).astype(np.uint16)


def unpack_uv(packed: NDArray) -> NDArray[np.float32]:
    return (packed / UNIT_STEPS).astype(np.float32)


def _quantised(values: NDArray, step: float) -> NDArray[np.int16]:
    whole = np.round(np.asarray(values, np.float64) / step)
    largest = np.abs(whole).max(initial=0)
    if largest > np.iinfo(np.int16).max:
        raise ValueError(
            f"A value of {largest * step:.3f} m does not fit 16 bits in steps of {step} m."
        )
    return whole.astype(np.int16)
