"""A user's own SMPL or SMPL-H file, .pkl or .npz, read without running it and checked before it is believed."""

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from iper_toolkit.array_files import ArrayFile, Header, read_npz
from iper_toolkit.body.model import SMPL_LANDMARK_VERTICES, SMPL_PREFIX, SMPL_VERTICES, Body
from iper_toolkit.body.parts import surface_from_weights
from iper_toolkit.body.skinning import SMPL_JOINTS, SMPLH_JOINTS
from iper_toolkit.unpickle import parse_pickle

KEYS = "v_template shapedirs posedirs J_regressor weights kintree_table f".split()
NUM_SHAPES = 10
_ROOT = (-1, 2**32 - 1)  # SMPL stores the root's parent as an unsigned -1
_SUM_TOLERANCE = 1e-2

# What a file may hold, so that a small one cannot unfold to gigabytes. SMPL-X, the largest of the family, has 10475
# vertices and 400 shapes.
_MOST_VERTICES, _MOST_SHAPES = 20_000, 500
_MOST_FACES = 4 * _MOST_VERTICES
_SMALLEST, _LARGEST = 0.3, 10.0  # metres from end to end; people have 1.5 to 2
_FLATTEST = 0.02  # the shortest side of the box around a body over its longest side
_FARTHEST = 10.0  # metres that one unit of shape or pose moves a vertex; on SMPL less than 0.2
_GET_SMPL = (
    "Get SMPL (basicmodel_neutral_lbs_10_207_0_v1.1.0.pkl, or SMPL_NEUTRAL.pkl) at smpl.is.tue.mpg.de, or use the "
    "open body: --body open"
)
# Models of the same family that are told apart by their number of joints.
_BY_JOINTS = {
    5: "FLAME, a head",
    16: "MANO, a hand",
    33: "SMAL, an animal",
    35: "SMAL, an animal",
    55: "SMPL-X, which has other vertices and poses",
    75: "SUPR, which has other poses",
}


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
    if isinstance(content, Mapping):
        _refuse_relatives(content, path)
    found = sorted(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
    missing = [key for key in KEYS if not isinstance(content, Mapping) or key not in content]
    if missing:
        raise ValueError(
            f"{path} is no SMPL model: it lacks {', '.join(missing)} and holds "
            f"{', '.join(found) if isinstance(found, list) else found}. {_GET_SMPL}"
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


def _refuse_relatives(content: Mapping[str, Any], path: Path) -> None:
    """Says which other file of the family this is, and which one to get."""
    if "poses" in content and ("trans" in content or "betas" in content):
        raise ValueError(
            f"{path} is a motion, as AMASS stores them (poses, betas, trans), and no body. {_GET_SMPL}"
        )
    if "global_orient" in content or "body_pose" in content:
        raise ValueError(f"{path} holds poses of a body, and not the body itself. {_GET_SMPL}")
    shape = _shape_of(content, "weights")
    joints = shape[-1] if len(shape) == 2 else None
    if joints in _BY_JOINTS:
        raise ValueError(f"{path} is {_BY_JOINTS[joints]} ({joints} joints). {_GET_SMPL}")
    poses = _shape_of(content, "posedirs")
    if joints == SMPL_JOINTS and poses[-1:] == (93,):
        raise ValueError(f"{path} is STAR, whose poses move vertices in another way. {_GET_SMPL}")
    if joints == SMPLH_JOINTS and not {"hands_meanl", "hands_meanr"} <= set(content):
        raise ValueError(
            f"{path} is SMPL-H without its hands (as the body models of AMASS are): hands_meanl, hands_meanr is "
            "missing. Get the SMPL-H that mano.is.tue.mpg.de joins with MANO (SMPLH_NEUTRAL.pkl or SMPLH_MALE.pkl). "
            f"{_GET_SMPL}"
        )


def _shape_of(content: Mapping[str, Any], key: str) -> tuple[int, ...]:
    return content[key].shape if isinstance(content.get(key), np.ndarray) else ()


def _read_npz(data: bytes, path: Path) -> dict[str, NDArray]:
    """Arrays of a model; of other files no more than a little, which tells what they are."""

    def check(headers: Mapping[str, Header]) -> None:
        if not set(KEYS) <= set(headers):
            return
        vertices = headers["v_template"].shape[:1]
        if not vertices or vertices[0] > _MOST_VERTICES:
            raise ValueError(
                f"v_template is {headers['v_template']}; bodies of up to {_MOST_VERTICES} vertices are read. {_GET_SMPL}"
            )
        most: dict[str, tuple[int, ...]] = {"f": (_MOST_FACES, 3), "kintree_table": (2, 200)}
        most |= {"v_template": (*vertices, 3), "weights": (*vertices, 200)}
        most |= {"shapedirs": (*vertices, 3, _MOST_SHAPES), "posedirs": (*vertices, 3, 9 * 54)}
        most |= {"J_regressor": (200, *vertices), "cocoplus_regressor": (19, *vertices)}
        for name, shape in most.items():
            if name not in headers:
                continue
            found = headers[name].shape
            if len(found) != len(shape) or any(a > b for a, b in zip(found, shape, strict=True)):
                raise ValueError(
                    f"{name} is {headers[name]}; with {vertices[0]} vertices it is at most {list(shape)}. "
                    "Get the file again from its owners."
                )

    with ArrayFile(path, data) as file:
        names = set(file.headers)
        if not set(KEYS) <= names:  # no model: what its arrays are called says enough
            return {name: np.zeros(file.headers[name].shape[:0]) for name in names}
    return read_npz(path, (*KEYS, *_OPTIONAL), data=data, check=check)


_OPTIONAL = ("cocoplus_regressor", "hands_meanl", "hands_meanr")


class _Checker:
    """Takes one file's arrays, and says which one is wrong."""

    def __init__(self, path: Path, content: Mapping[str, Any]) -> None:
        self.path, self.content = path, content

    def body(self) -> Body:
        template = self._array("v_template")
        num_vertices = len(template)
        self._shape("v_template", template, (num_vertices, 3))
        self._size("v_template", template)
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
        for key, array in (("shapedirs", shapes), ("posedirs", poses)):
            if np.abs(array).max() > _FARTHEST:
                raise self._error(
                    f"{key} moves a vertex by {np.abs(array).max():.3g}; bodies are in metres"
                )
        regressor = self._array("J_regressor")
        self._shape("J_regressor", regressor, (num_joints, num_vertices))
        self._sums("J_regressor", regressor, "joint")
        self._inside("J_regressor", regressor @ template, template)
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

    def _size(self, key: str, template: NDArray) -> None:
        sides = np.ptp(template, axis=0)
        if not _SMALLEST <= sides.max() <= _LARGEST:
            raise self._error(
                f"{key} is {sides.max():.3g} from end to end; bodies are in metres, {_SMALLEST:g} to {_LARGEST:g}"
            )
        if sides.min() < _FLATTEST * sides.max():
            raise self._error(
                f"{key} is flat: its box has sides of {', '.join(f'{side:.3g}' for side in sides)} metres"
            )

    def _inside(self, key: str, joints: NDArray, template: NDArray) -> None:
        """Joints lie in the body, so rows of large numbers that cancel out are found."""
        low, high = template.min(0), template.max(0)
        margin = 0.1 * (high - low).max()
        out = ((joints < low - margin) | (joints > high + margin)).any(1)
        if out.any():
            raise self._error(f"{key} puts joint {int(out.argmax())} outside of the body")

    def _error(self, problem: str) -> ValueError:
        return ValueError(f"{self.path}: {problem}. Get the file again from its owners.")

    def _array(self, key: str) -> NDArray[np.float64]:
        value = self.content[key]
        if hasattr(value, "toarray"):  # scipy sparse
            value = value.toarray()
        try:
            array = np.asarray(value)
        except ValueError as error:  # lists of different lengths
            raise self._error(f"{key} is no table") from error
        if array.dtype.kind not in "iuf":
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
        if np.asarray(self.content["f"]).dtype.kind not in "iu":
            raise self._error(
                f"f is of type {np.asarray(self.content['f']).dtype}; faces are whole numbers"
            )
        faces = self._array("f").astype(np.int64)
        if faces.ndim != 2 or faces.shape[1] != 3 or not len(faces):
            raise self._error(f"f is {faces.shape}; it must be (F, 3)")
        if faces.min() < 0 or faces.max() >= num_vertices:
            raise self._error(
                f"f names vertices {faces.min()} to {faces.max()}; there are {num_vertices}"
            )
        order = np.sort(faces, axis=1)
        num_different = len(np.unique(order, axis=0))
        num_lines = int((order[:, :-1] == order[:, 1:]).any(1).sum())
        if num_different < 0.75 * len(faces) or num_lines > 0.25 * len(faces):
            raise self._error(
                f"f has {len(faces)} faces, of which {num_different} differ and {num_lines} name a vertex twice"
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
        hands = [self._array(key).reshape(-1) for key in ("hands_meanl", "hands_meanr")]
        for key, hand in zip(("hands_meanl", "hands_meanr"), hands, strict=True):
            self._shape(key, hand, (45,))
            if np.abs(hand).max() > 2 * np.pi:
                raise self._error(f"{key} reaches {np.abs(hand).max():.3g}; angles are in radians")
        return _tensor(np.concatenate(hands))


def _tensor(array: NDArray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))
