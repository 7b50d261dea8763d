"""A user's own SMPL or SMPL-H file, .pkl or .npz, read without running it and checked before it is believed."""

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from iper_toolkit.body.model import SMPL_LANDMARK_VERTICES, SMPL_PREFIX, SMPL_VERTICES, Body
from iper_toolkit.body.parts import surface_from_weights
from iper_toolkit.body.skinning import SMPL_JOINTS, SMPLH_JOINTS
from iper_toolkit.unpickle import parse_pickle

KEYS = "v_template shapedirs posedirs J_regressor weights kintree_table f".split()
NUM_SHAPES = 10
_ROOT = (-1, 2**32 - 1)  # SMPL stores the root's parent as an unsigned -1
_SUM_TOLERANCE = 1e-2


def read_smpl(path: str | Path) -> Body:
    """The body in a file, with the id `smpl-` and the first 12 digits of the sha256 of its arrays.

    So a .pkl and the .npz made of it are one body.

    Raises:
        ValueError: the file is broken, incomplete or inconsistent; the message says where.
        UnsafePickle: it carries more than data.
    """
    path = Path(path)
    data = path.read_bytes()
    content = _read_npz(data, path) if path.suffix == ".npz" else parse_pickle(data, str(path))
    found = sorted(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
    missing = [key for key in KEYS if not isinstance(content, Mapping) or key not in content]
    if missing:
        raise ValueError(
            f"{path} is no SMPL model: it lacks {', '.join(missing)} and holds {found}."
        )
    body = _Checker(path, content).body()
    return replace(body, id=SMPL_PREFIX + _digest(body)[:12])


def _digest(body: Body) -> str:
    """sha256 of all that poses a body, as float32 and int64 whatever the file stored."""
    digest = sha256(repr(body.parents).encode())
    for name in _POSING:
        value = getattr(body, name)
        array = np.zeros(0, np.float32) if value is None else value.numpy()
        digest.update(f"{name}:{array.shape};".encode())
        digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


_POSING = (
    "template shape_directions pose_directions joint_regressor weights faces keypoint_regressor "
    "hand_pose"
).split()


def _read_npz(data: bytes, path: Path) -> dict[str, NDArray]:
    try:
        with np.load(BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files if name in (*KEYS, *_OPTIONAL)}
    except (BadZipFile, ValueError, EOFError, KeyError) as error:
        raise ValueError(
            f"{path} is cut off, no .npz file, or holds pickled objects ({error}). Get it again, or save its "
            f"{', '.join(KEYS)} as plain arrays."
        ) from error


_OPTIONAL = ("cocoplus_regressor", "hands_meanl", "hands_meanr")


class _Checker:
    """Takes one file's arrays, and says which one is wrong."""

    def __init__(self, path: Path, content: Mapping[str, Any]) -> None:
        self.path, self.content = path, content

    def body(self) -> Body:
        template = self._array("v_template")
        num_vertices = len(template)
        self._shape("v_template", template, (num_vertices, 3))
        weights = self._array("weights")
        num_joints = weights.shape[-1]
        if num_joints not in (SMPL_JOINTS, SMPLH_JOINTS):
            raise self._error(
                f"weights is {weights.shape}; bodies of {SMPL_JOINTS} (SMPL) or {SMPLH_JOINTS} joints "
                "(SMPL-H) are read"
            )
        self._shape("weights", weights, (num_vertices, num_joints))
        self._sums("weights", weights, "vertex")
        if weights.min() < -1e-6:
            raise self._error(f"weights goes down to {weights.min():.3g}; no weight is negative")
        shapes = self._array("shapedirs")
        if shapes.ndim != 3 or shapes.shape[-1] < NUM_SHAPES:
            raise self._error(
                f"shapedirs is {shapes.shape}; it must be ({num_vertices}, 3, {NUM_SHAPES} or more)"
            )
        shapes = shapes[..., :NUM_SHAPES]
        self._shape("shapedirs", shapes, (num_vertices, 3, NUM_SHAPES))
        poses = self._array("posedirs")
        self._shape("posedirs", poses, (num_vertices, 3, 9 * (num_joints - 1)))
        regressor = self._array("J_regressor")
        self._shape("J_regressor", regressor, (num_joints, num_vertices))
        self._sums("J_regressor", regressor, "joint")
        faces = self._faces(num_vertices)
        keypoints = None
        if "cocoplus_regressor" in self.content:
            keypoints = self._array("cocoplus_regressor")
            self._shape("cocoplus_regressor", keypoints, (19, num_vertices))
        return Body(
            id="",  # it follows from the arrays
            template=_tensor(template),
            shape_directions=_tensor(shapes),
            pose_directions=_tensor(poses),
            joint_regressor=_tensor(regressor),
            weights=_tensor(weights),
            parents=self._parents(num_joints),
            faces=torch.from_numpy(faces),
            surface=surface_from_weights(template, weights, faces),
            landmark_vertices=SMPL_LANDMARK_VERTICES if num_vertices == SMPL_VERTICES else (),
            keypoint_regressor=None if keypoints is None else _tensor(keypoints),
            head_top=int(template[:, 1].argmax()),
            hand_pose=self._hand_pose() if num_joints == SMPLH_JOINTS else None,
            source=str(self.path),
            licence="MPI, non-commercial research, no redistribution",
        )

    def _error(self, problem: str) -> ValueError:
        return ValueError(f"{self.path}: {problem}. Get the file again from its owners.")

    def _array(self, key: str) -> NDArray[np.float64]:
        value = self.content[key]
        if hasattr(value, "toarray"):  # scipy sparse
            value = value.toarray()
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise self._error(f"{key} is of type {array.dtype}; it must be numbers")
        array = array.astype(np.float64)
        if not np.isfinite(array).all():
            raise self._error(f"{key} has {(~np.isfinite(array)).sum()} values that are not finite")
        return array

    def _shape(self, key: str, array: NDArray, shape: tuple[int, ...]) -> None:
        if array.shape != shape or not array.size:
            raise self._error(f"{key} is {array.shape}; it must be {shape}")

    def _sums(self, key: str, array: NDArray, row: str) -> None:
        off = np.abs(array.sum(1) - 1)
        if off.max() > _SUM_TOLERANCE:
            worst = int(off.argmax())
            raise self._error(
                f"{key} of {row} {worst} sums to {array[worst].sum():.4g}; every row sums to 1"
            )

    def _faces(self, num_vertices: int) -> NDArray[np.int64]:
        faces = self._array("f").astype(np.int64)
        if faces.ndim != 2 or faces.shape[1] != 3 or not len(faces):
            raise self._error(f"f is {faces.shape}; it must be (F, 3)")
        if faces.min() < 0 or faces.max() >= num_vertices:
            raise self._error(
                f"f names vertices {faces.min()} to {faces.max()}; there are {num_vertices}"
            )
        return faces

    def _parents(self, num_joints: int) -> tuple[int, ...]:
        table = self._array("kintree_table").astype(np.int64)
        self._shape("kintree_table", table, (2, num_joints))
        parents = table[0].tolist()
        if parents[0] not in _ROOT:
            raise self._error(
                f"kintree_table gives the root the parent {parents[0]}; it has none (-1)"
            )
        for joint, parent in enumerate(parents[1:], start=1):
            if not 0 <= parent < joint:
                raise self._error(
                    f"kintree_table gives joint {joint} the parent {parent}; parents come before their children"
                )
        return (-1, *parents[1:])

    def _hand_pose(self) -> torch.Tensor:
        missing = [key for key in ("hands_meanl", "hands_meanr") if key not in self.content]
        if missing:
            raise self._error(
                f"{', '.join(missing)} is missing; a body with hands brings their mean pose"
            )
        hands = [self._array(key).reshape(-1) for key in ("hands_meanl", "hands_meanr")]
        for key, hand in zip(("hands_meanl", "hands_meanr"), hands, strict=True):
            self._shape(key, hand, (45,))
        return _tensor(np.concatenate(hands))


def _tensor(array: NDArray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))
