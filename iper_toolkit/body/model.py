"""Bodies: the embedded open body and a user's SMPL, posed by fits that carry the body's id.

Frame of the rest pose: y up, +x is the body's left, facing +z, metres. Fits in iPER's convention hold a half turn
about x in their root rotation, so posed vertices are y down and larger z is farther from the viewer.
"""

from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from importlib.resources import files
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iper_toolkit.assets import MissingAsset, assets_folder, resolve
from iper_toolkit.body.packing import PackedPoints, unpack_uv
from iper_toolkit.body.parts import Surface, surface_from_weights
from iper_toolkit.body.skinning import (
    SMPL_JOINTS,
    Skeleton,
    SkinnedPoints,
    apply_links,
    deform,
    pose_skeleton,
    pose_to_rotations,
)
from iper_toolkit.folders import expanded

if TYPE_CHECKING:
    import smplx

SMPL_VERTICES = 6890  # tells SMPL's own mesh, whose landmarks are known, from others in its format
# The 21 vertices that follow SMPL's 24 joints in the 45-joint set, in smplx's order and under its names ...
LANDMARKS = (
    "nose reye leye rear lear LBigToe LSmallToe LHeel RBigToe RSmallToe RHeel "
    "lthumb lindex lmiddle lring lpinky rthumb rindex rmiddle rring rpinky"
).split()
# ... and their places on SMPL's mesh; the open body's vertices are ordered so that they are its own, too.
SMPL_LANDMARK_VERTICES = (
    *(332, 6260, 2800, 4071, 583, 3216, 3226, 3387, 6617, 6624, 6787),
    *(2746, 2319, 2445, 2556, 2673, 6191, 5782, 5905, 6016, 6133),
)
# HMR's 19 keypoints (right ankle .. left wrist, neck, top of the head, nose, eyes, ears) out of the 45 landmarks, and
# at place 45 the top of the head.
_KEYPOINTS_19 = (8, 5, 2, 1, 4, 7, 21, 19, 17, 16, 18, 20, 12, 45, 24, 26, 25, 28, 27)
OPEN_BODY = "open-body-1"
SMPL_PREFIX = "smpl-"  # ids of users' bodies; 12 digits of the sha256 of their arrays follow


class BodyMismatch(ValueError):
    """A fit of one body was about to pose another."""


@dataclass(frozen=True, eq=False)
class BodyParams:
    """A fit: camera, pose and shape of one body over T frames."""

    body_id: str
    camera: Tensor  # (T, 3) float32 (s, tx, ty), NDC of the clip's crop
    pose: Tensor  # (T, 72) float32 axis-angle, root first
    shape: Tensor  # (T, 10) float32

    def __post_init__(self) -> None:
        for name, width in (("pose", None), ("camera", 3), ("shape", 10)):
            value = getattr(self, name)
            if not isinstance(value, Tensor) or not value.is_floating_point():
                kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
                raise TypeError(
                    f"{name} is {kind}; a fit takes float tensors. BodyParams.from_array takes "
                    "arrays and numbers of any kind."
                )
            if value.dtype != self.pose.dtype:
                raise TypeError(f"{name} is {value.dtype}, but pose is {self.pose.dtype}.")
            if (
                value.ndim != 2
                or len(value) != len(self.pose)
                or width not in (None, value.shape[1])
            ):
                raise ValueError(
                    f"{name} is {tuple(value.shape)}; a fit of {len(self.pose)} frames takes "
                    f"({len(self.pose)}, {width or 72})."
                )

    def __len__(self) -> int:
        return len(self.pose)

    def __getitem__(self, frames: int | slice | Sequence[int] | Tensor) -> "BodyParams":
        """Some of the frames; a single number gives a fit of one frame."""
        if isinstance(frames, int):
            frames = [frames]
        index = frames if isinstance(frames, slice) else torch.as_tensor(frames)
        return replace(
            self, camera=self.camera[index], pose=self.pose[index], shape=self.shape[index]
        )

    @classmethod
    def from_array(cls, body_id: str, array: Tensor | np.ndarray) -> "BodyParams":
        """From (T, 85) numbers: camera 3, pose 72, shape 10 (or 169 with a 52-joint pose)."""
        values = torch.as_tensor(array, dtype=torch.float32)
        if values.ndim != 2 or values.shape[1] not in (85, 169):
            raise ValueError(f"A fit is (T, 85) or (T, 169) numbers; got {tuple(values.shape)}.")
        return cls(body_id, values[:, :3], values[:, 3:-10], values[:, -10:])

    def to_array(self) -> Tensor:
        """(T, 85) float32."""
        return torch.cat([self.camera, self.pose, self.shape], dim=1)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "BodyParams":
        return replace(
            self,
            camera=self.camera.to(device, dtype),
            pose=self.pose.to(device, dtype),
            shape=self.shape.to(device, dtype),
        )


@dataclass(frozen=True, eq=False)
class PosedBody:
    """A body in T poses, metres, in the frame of its fit."""

    vertices: Tensor  # (T, V, 3)
    joints: Tensor  # (T, J, 3)
    landmarks: (
        Tensor  # (T, 45, 3): 24 joints and LANDMARKS; only joints where the body names no landmarks
    )


@dataclass(frozen=True, eq=False)
class Body:
    """A skinned body with everything that is known about it."""

    id: str
    template: Tensor  # (V, 3) float32 metres, T pose
    shape_directions: Tensor  # (V, 3, S)
    pose_directions: Tensor  # (V, 3, 9 (J - 1))
    joint_regressor: Tensor  # (J, V) rows sum to one
    weights: Tensor  # (V, J) rows sum to one
    parents: tuple[int, ...]  # -1 for the root, each smaller than its own index
    faces: Tensor  # (F, 3) int64, counter-clockwise from outside in the rest pose
    surface: Surface | None = None
    landmark_vertices: tuple[int, ...] = ()  # 21 in the order of LANDMARKS, or none
    keypoint_regressor: Tensor | None = None  # (19, V) of HMR's keypoints, on posed vertices
    hand_pose: Tensor | None = None  # (90,) mean fingers of a 52-joint body
    head_top: int | None = None  # vertex
    source: str = ""
    licence: str = ""

    @property
    def num_vertices(self) -> int:
        return len(self.template)

    @property
    def num_joints(self) -> int:
        return len(self.parents)

    @cached_property
    def points(self) -> SkinnedPoints:
        return SkinnedPoints(
            self.template, self.shape_directions, self.pose_directions, self.weights
        )

    @cached_property
    def joint_template(self) -> Tensor:
        """(J, 3) joints of the mean shape."""
        return self.joint_regressor @ self.template

    @cached_property
    def joint_directions(self) -> Tensor:
        """(J, 3, S) how the joints move with the shape."""
        return torch.einsum("jv,vcs->jcs", self.joint_regressor, self.shape_directions)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "Body":
        """The same body elsewhere; `dtype` concerns its floating point tensors."""
        moved: dict[str, object] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Tensor):
                moved[item.name] = value.to(device, dtype if value.is_floating_point() else None)
            elif isinstance(value, Surface) and device is not None:
                moved[item.name] = value.to(device)
        return replace(self, **moved)  # type: ignore[arg-type]

    def skeleton(
        self, pose: Tensor, shape: Tensor, offsets: Tensor | None = None, *, turn_base: bool = False
    ) -> Skeleton:
        """The posed skeleton, which garments follow too. Arguments as in `skin`."""
        rotations = pose_to_rotations(
            pose, self.num_joints, hand_pose=self.hand_pose, turn_base=turn_base
        )
        joints = self.joint_template + torch.einsum("jcs,ts->tjc", self.joint_directions, shape)
        if offsets is not None:
            joints = joints + self.joint_regressor @ offsets
        return pose_skeleton(joints, rotations, self.parents)

    def skin(
        self,
        pose: Tensor,
        shape: Tensor,
        *,
        offsets: Tensor | None = None,
        links: Tensor | None = None,
        turn_base: bool = False,
    ) -> PosedBody:
        """Pose without a fit's id: for code that is making one.

        Args:
            pose: (T, 72) axis-angle or any form `pose_to_rotations` takes. shape: (T, S).
            offsets: (V, 3) or (T, V, 3) metres in the rest pose. links: see `apply_links`.
        """
        if len(shape) != len(pose):
            raise ValueError(
                f"shape is {tuple(shape.shape)}; pose has {len(pose)} frames, and each takes a shape. "
                "Repeat a shape that all frames share: shape.expand(len(pose), -1)."
            )
        if shape.dtype != self.template.dtype:
            raise TypeError(
                f"shape is {shape.dtype}, but body {self.id!r} is {self.template.dtype}. Turn one "
                "into the other: body.to(dtype=...) or params.to(dtype=...)."
            )
        skeleton = self.skeleton(pose, shape, offsets, turn_base=turn_base)
        vertices = deform(self.points, shape, skeleton, offsets)
        if links is not None:
            vertices = apply_links(vertices, links)
        extra = vertices[:, list(self.landmark_vertices)]
        return PosedBody(vertices, skeleton.joints, torch.cat([skeleton.joints, extra], dim=1))

    def pose(
        self, params: BodyParams, *, offsets: Tensor | None = None, links: Tensor | None = None
    ) -> PosedBody:
        """Pose the body by a fit that was made for it."""
        if params.body_id != self.id:
            raise BodyMismatch(
                f"This fit was made for body {params.body_id!r} and cannot pose {self.id!r}: same counts, other mesh "
                f"and shape space. Load the body it names, or fit the clip again with this one."
            )
        return self.skin(params.pose, params.shape, offsets=offsets, links=links)

    def keypoints19(self, posed: PosedBody) -> Tensor:
        """(T, 19, 3) HMR's keypoints, the set of iPER's kps.pkl: by the body's own regressor, else from its landmarks."""
        if self.keypoint_regressor is not None:
            return torch.einsum("kv,tvc->tkc", self.keypoint_regressor, posed.vertices)
        if not self.landmark_vertices or self.head_top is None or self.num_joints != SMPL_JOINTS:
            raise ValueError(
                f"Body {self.id!r} has neither a regressor of 19 keypoints nor landmarks."
            )
        top = posed.vertices[:, [self.head_top]]
        return torch.cat([posed.landmarks, top], dim=1)[:, list(_KEYPOINTS_19)]

    def subset(self, vertices: Sequence[int] | Tensor) -> "BodySubset":
        """Some vertices of the body with the whole skeleton: what a fit to keypoints needs."""
        return BodySubset(
            self.points[vertices],
            self.joint_template,
            self.joint_directions,
            self.parents,
            self.hand_pose,
        )


@dataclass(frozen=True, eq=False)
class BodySubset:
    """A few vertices that move exactly as on the whole body, some hundred times faster."""

    points: SkinnedPoints
    joint_template: Tensor  # (J, 3)
    joint_directions: Tensor  # (J, 3, S)
    parents: tuple[int, ...]
    hand_pose: Tensor | None = None

    def skin(self, pose: Tensor, shape: Tensor) -> tuple[Tensor, Tensor]:
        """(T, N, 3) the vertices and (T, J, 3) the joints. Arguments as in `Body.skin`."""
        rotations = pose_to_rotations(pose, len(self.parents), hand_pose=self.hand_pose)
        joints = self.joint_template + torch.einsum("jcs,ts->tjc", self.joint_directions, shape)
        skeleton = pose_skeleton(joints, rotations, self.parents)
        return deform(self.points, shape, skeleton), skeleton.joints


def load_body(name_or_path: str | Path = "open") -> Body:
    """A body, read once a process.

    Args:
        name_or_path: "open" (or "open-body-1"), the embedded body; a name of the asset table that is a body, such as
            "smpl-neutral"; or the path of a user's SMPL file, .pkl or .npz.

    Raises:
        MissingAsset: there is no such file; the message says how to get it. ValueError: the file is no SMPL model.
    """
    name = str(name_or_path)
    if name in ("open", OPEN_BODY):
        return _load_open_body()
    if name in _BODY_ASSETS:
        path = resolve(name)
    else:
        path = Path(expanded(name_or_path))
        if not path.is_file():
            raise MissingAsset(
                f"There is no body {name!r}. Pass 'open' for the embedded one, {' or '.join(_BODY_ASSETS)} for a "
                "model that lies in the asset folder, or the path of your own SMPL .pkl or .npz file."
            )
    from iper_toolkit.body.surface_files import surface_files_stamp

    status = path.stat()
    return _load_file(
        path.resolve(), status.st_mtime_ns, status.st_size, assets_folder(), surface_files_stamp()
    )


_BODY_ASSETS = ("smpl-neutral", "smpl-male", "smpl-female", "smpl-keypoints", "smplh-hands")


@lru_cache(maxsize=4)
def _load_file(
    path: Path, modified: int, size: int, folder: Path, stamp: tuple[tuple[int, int], ...]
) -> Body:
    """What is not used makes a file that was replaced, or was given a surface, another one to the cache."""
    from iper_toolkit.body.smpl_file import read_smpl
    from iper_toolkit.body.surface_files import with_surface_files

    return with_surface_files(read_smpl(path))


@lru_cache(maxsize=1)
def read_open_body_file() -> dict[str, np.ndarray]:
    """All arrays of the embedded file."""
    path = files("iper_toolkit.body") / "open_body.npz"
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


@lru_cache(maxsize=1)
def _load_open_body() -> Body:
    arrays = read_open_body_file()
    parents = tuple(int(parent) for parent in arrays["parents"])
    points = skinned_points(arrays, "body", len(parents))
    regressor = np.zeros((len(parents), len(points.template)))
    regressor[arrays["regressor_joint"], arrays["regressor_vertex"]] = arrays["regressor_value"]
    regressor /= regressor.sum(1, keepdims=True)
    surface = Surface(
        part=_indices(arrays["part"]),
        facial_large=_indices(arrays["facial_large"]),
        facial_small=_indices(arrays["facial_small"]),
        front_body=_indices(arrays["front_body"]),
        uv=torch.from_numpy(unpack_uv(arrays["uv"])),
        uv_faces=_indices(arrays["uv_faces"]),
        detail=_indices(arrays["detail"]),
    )
    return Body(
        id=str(arrays["id"]),
        template=points.template,
        shape_directions=points.shape_directions,
        pose_directions=points.pose_directions,
        joint_regressor=torch.from_numpy(regressor.astype(np.float32)),
        weights=points.weights,
        parents=parents,
        faces=_indices(arrays["faces"]),
        surface=surface,
        landmark_vertices=SMPL_LANDMARK_VERTICES,
        head_top=int(arrays["head_top"]),
        source=str(arrays["source"]),
        licence=str(arrays["licence"]),
    )


def skinned_points(arrays: dict[str, np.ndarray], prefix: str, num_joints: int) -> SkinnedPoints:
    packed = PackedPoints.unpack(arrays, prefix, num_joints)
    return SkinnedPoints(
        template=torch.from_numpy(packed.template),
        shape_directions=torch.from_numpy(packed.shape_directions),
        pose_directions=torch.from_numpy(packed.pose_directions),
        weights=torch.from_numpy(packed.weights),
    )


def _indices(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(np.int64))


def smpl_arrays(body: Body) -> dict[str, NDArray]:
    """A body under the keys of SMPL's own files, dense. Pickled as it is, `smplx.SMPL(path)` loads it."""
    tree = np.array([body.parents, range(body.num_joints)], np.int64)
    tree[0, 0] = 2**32 - 1
    return {
        "v_template": body.template.numpy(force=True),
        "shapedirs": body.shape_directions.numpy(force=True),
        "posedirs": body.pose_directions.numpy(force=True),
        "J_regressor": body.joint_regressor.numpy(force=True),
        "weights": body.weights.numpy(force=True),
        "kintree_table": tree,
        "f": body.faces.numpy(force=True).astype(np.uint32),
    }


def to_smplx(body: Body, batch_size: int = 1) -> "smplx.SMPL":
    """The body as a module of the smplx package, for code that is written against it.

    smplx is under a non-commercial licence and is imported here only; nothing else needs it.
    """
    if body.num_joints != SMPL_JOINTS:
        raise ValueError(f"smplx.SMPL has {SMPL_JOINTS} joints; {body.id!r} has {body.num_joints}.")
    try:
        import smplx
        from smplx.utils import Struct
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("to_smplx() needs smplx: pip install smplx") from error
    with redirect_stdout(StringIO()):  # it prints a warning about every model of ten shapes
        return smplx.SMPL(
            model_path="", data_struct=Struct(**smpl_arrays(body)), batch_size=batch_size
        )


def from_smplx(model: "smplx.SMPL", body_id: str) -> Body:
    """A body out of a module of the smplx package, such as one that other code has built.

    Args:
        model: its template, directions, weights and regressor are taken; its own pose and shape are not.
        body_id: names the mesh and shape space, so that fits of it are told from others': the id of the file it was
            loaded from where that is known ("smpl-" and 12 digits of its sha256).
    """
    num_vertices = len(model.v_template)
    # smplx keeps the pose directions as (P, 3 V)
    poses = model.posedirs.detach().T.reshape(num_vertices, 3, -1)
    faces, weights = model.faces_tensor.detach().cpu().long(), model.lbs_weights.detach()
    template = model.v_template.detach()
    return Body(
        id=body_id,
        template=template,
        shape_directions=model.shapedirs.detach()[..., :10],
        pose_directions=poses.contiguous(),
        joint_regressor=model.J_regressor.detach(),
        weights=weights,
        parents=tuple(model.parents.tolist()),
        faces=faces.to(template.device),
        surface=surface_from_weights(
            template.numpy(force=True), weights.numpy(force=True), faces.numpy()
        ).to(template.device),
        landmark_vertices=SMPL_LANDMARK_VERTICES if num_vertices == SMPL_VERTICES else (),
        head_top=int(template[:, 1].argmax()),
        source="smplx",
    )
