"""Parts of the body's surface: which face belongs to what, its texture map, and part names in commands.

Sides are anatomical: `left_hand` is the body's own left hand, at positive x in the rest pose. The reference
implementation names parts by the side on which a person who faces the camera shows them, so its `left_hand` is the
anatomical right one; `part_ids(names, sides="image")` reads names in that sense.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iper_toolkit.body.skinning import JOINTS, SMPL_JOINTS, SMPLH_JOINTS

Sides = Literal["anatomical", "image"]

# Order of the reference's part files 00_head .. 09_right_hand: disjoint, together the whole surface.
PARTS = (
    "head",
    "torso",
    "left_leg",
    "right_leg",
    "left_arm",
    "right_arm",
    "left_foot",
    "right_foot",
    "left_hand",
    "right_hand",
)
# The reference's 10_facial_large and 11_facial_small: overlapping subsets of the head.
FACIAL_PARTS = ("facial_large", "facial_small")
# Words of appearance transfer -> part ids: those of Liu et al. 2021, as their program has them, and pairs of limbs.
PART_IDS: dict[str, tuple[int, ...]] = {
    **{name: (index,) for index, name in enumerate(PARTS)},
    "facial": (10,),
    "upper": (1, 4, 5, 8, 9),
    "lower": (2, 3, 6, 7),
    "body": (1, 2, 3, 4, 5, 6, 7, 8, 9),
    "all": tuple(range(10)),
    "legs": (2, 3),
    "arms": (4, 5),
    "feet": (6, 7),
    "hands": (8, 9),
}
# What skin a face is; for drawing people, not for correspondence.
DETAILS = ("skin", "face", "ears", "lips", "eyelids", "fingernails", "toenails", "mouth")

_PART_OF_LIMB = {
    "hip": "leg",
    "knee": "leg",
    "ankle": "foot",
    "foot": "foot",
    "shoulder": "arm",
    "elbow": "arm",
    "wrist": "hand",
    "hand": "hand",
}
_FRONTAL = 0.5  # z of a unit normal: within 60 degrees of straight ahead

_log = logging.getLogger(__name__)


def swap_sides(part: int) -> int:
    """The same limb on the other side; head, torso and facial parts stay."""
    return part if part < 2 or part > 9 else part ^ 1


def part_ids(names: Iterable[str], sides: Sides = "anatomical") -> tuple[int, ...]:
    """Sorted part ids of words such as `head`, `left_arm`, `upper`; unknown words raise.

    Args:
        names: keys of PART_IDS.
        sides: "image" reads left and right as the reference does: sides of the picture of a person facing the camera.
    """
    found: set[int] = set()
    for name in names:
        if name not in PART_IDS:
            raise ValueError(f"Unknown part {name!r}. Choose from: {', '.join(PART_IDS)}.")
        found.update(PART_IDS[name])
    return tuple(sorted(swap_sides(part) if sides == "image" else part for part in found))


def parse_parts(text: str, *, strict: bool = True) -> list[str]:
    """Split `head-torso` into part names. The reference (`strict=False`) drops unknown ones with a warning."""
    known = []
    for name in text.split("-"):
        if name in PART_IDS:
            known.append(name)
        elif strict:
            raise ValueError(
                f"Unknown part {name!r} in {text!r}. Join some of these by '-': {', '.join(PART_IDS)}."
            )
        else:
            _log.warning("dropped unknown part %r of %r", name, text)
    return known


@dataclass(frozen=True)
class Surface:
    """What hangs on the faces of one body; every list speaks of that body's face order."""

    part: Tensor  # (F,) int64, index into PARTS, anatomical sides
    facial_large: Tensor  # (N,) int64 faces, a subset of the head
    facial_small: Tensor  # (N,) int64 faces, a subset of facial_large
    front_body: Tensor  # (N,) int64 faces that a person facing the camera shows, without the head
    uv: Tensor | None = None  # (U, 2) float32 in [0, 1], v up
    uv_faces: Tensor | None = None  # (F, 3) int64 into uv, corner by corner like the faces
    detail: Tensor | None = None  # (F,) int64, index into DETAILS
    head: Tensor | None = (
        None  # (N,) int64 faces, a superset of the head part; the part itself if None
    )
    # (F, 3) int64, permutations of 0, 1, 2: the corners of each face as its chart is drawn in the texture,
    # counter-clockwise with v up. None where nobody has settled it.
    texture_order: Tensor | None = None

    def __post_init__(self) -> None:
        num_faces = len(self.part)
        for name in ("facial_large", "facial_small", "front_body", "head"):
            faces = getattr(self, name)
            if faces is not None and len(faces) and (faces.min() < 0 or faces.max() >= num_faces):
                raise ValueError(
                    f"{name} has faces {int(faces.min())}..{int(faces.max())}; the body has {num_faces}."
                )
        if (self.uv is None) != (self.uv_faces is None):
            raise ValueError("A texture map needs both uv and uv_faces; only one was given.")
        if self.uv_faces is not None and self.uv_faces.shape != (num_faces, 3):
            raise ValueError(
                f"uv_faces is {tuple(self.uv_faces.shape)}; with {num_faces} faces it must be {(num_faces, 3)}."
            )
        if self.texture_order is not None and not (
            self.texture_order.shape == (num_faces, 3)
            and bool((self.texture_order.sort(1).values == torch.arange(3).to(self.part)).all())
        ):
            raise ValueError(f"texture_order must be {num_faces} permutations of 0, 1, 2.")

    @property
    def head_faces(self) -> Tensor:
        """(N,) int64 faces of the head, with as much of the neck as the body's files count to it."""
        return self.faces_of([PARTS.index("head")]) if self.head is None else self.head

    @property
    def front_face(self) -> Tensor:
        """(N,) int64 faces of the face proper: the reference's front-facial list is its large facial part."""
        return self.facial_large

    def faces_of(self, parts: Iterable[int]) -> Tensor:
        """(N,) int64 faces of some part ids, rising; 10 and 11 are the facial subsets."""
        chosen = torch.zeros(len(self.part), dtype=torch.bool, device=self.part.device)
        for part in parts:
            if part == len(PARTS):
                chosen[self.facial_large] = True
            elif part == len(PARTS) + 1:
                chosen[self.facial_small] = True
            elif 0 <= part < len(PARTS):
                chosen |= self.part == part
            else:
                raise ValueError(f"Part id {part} is not one of 0..{len(PARTS) + 1}.")
        return chosen.nonzero()[:, 0]

    def reference_parts(self) -> dict[str, Tensor]:
        """The reference's twelve part lists by its own names, so `02_left_leg` is the anatomical right leg."""
        names = (*PARTS, *FACIAL_PARTS)
        return {f"{i:02d}_{name}": self.faces_of([swap_sides(i)]) for i, name in enumerate(names)}

    def to(self, device: torch.device | str) -> "Surface":
        moved = {name: value.to(device) for name, value in vars(self).items() if value is not None}
        return Surface(**moved)


def parts_of_faces(weights: NDArray, faces: NDArray) -> NDArray[np.int64]:
    """The part that each face follows most.

    Args:
        weights: (V, J) skinning weights of a body with 24 joints (SMPL) or 52 (SMPL-H). faces: (F, 3).

    Returns:
        (F,) index into PARTS, anatomical sides.
    """
    share = np.zeros((len(weights), len(PARTS)))
    for joint, column in enumerate(np.asarray(weights, np.float64).T):
        share[:, _part_of_joint(joint, weights.shape[1])] += column
    return share[faces].sum(1).argmax(1)


def _part_of_joint(joint: int, num_joints: int) -> int:
    if num_joints not in (SMPL_JOINTS, SMPLH_JOINTS):
        raise ValueError(
            f"A body of {num_joints} joints has no known parts; {SMPL_JOINTS} or {SMPLH_JOINTS} do."
        )
    if num_joints == SMPLH_JOINTS and joint >= JOINTS.index("left_hand"):
        fingers = (SMPLH_JOINTS - JOINTS.index("left_hand")) // 2
        return PARTS.index(
            "left_hand" if joint < JOINTS.index("left_hand") + fingers else "right_hand"
        )
    name = JOINTS[joint]
    side, _, plain = name.rpartition("_")
    if plain in _PART_OF_LIMB:
        return PARTS.index(f"{side}_{_PART_OF_LIMB[plain]}")
    return PARTS.index("head" if name in ("head", "neck") else "torso")


def face_normals(vertices: NDArray, faces: NDArray) -> NDArray[np.float64]:
    """(F, 3) unit normals, outward in the rest pose."""
    corners = np.asarray(vertices, np.float64)[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-15)


def front_of_body(part: NDArray, normals: NDArray) -> NDArray[np.int64]:
    """Faces of torso, legs and arms that look ahead in the rest pose, where z is forward."""
    limbs = (part >= PARTS.index("torso")) & (part <= PARTS.index("right_arm"))
    return np.flatnonzero(limbs & (normals[:, 2] > _FRONTAL))


def surface_from_weights(template: NDArray, weights: NDArray, faces: NDArray) -> Surface:
    """Parts of a body that brings no files for them: by skinning weights, and by normals in the rest pose.

    The face proper is what looks ahead on the front half of the skull; there is no texture map.

    Args:
        template: (V, 3) metres, rest pose. weights: (V, J). faces: (F, 3).
    """
    part, normals = parts_of_faces(weights, faces), face_normals(template, faces)
    centres = np.asarray(template, np.float64)[faces].mean(1)
    head = part == PARTS.index("head")
    skull = weights[faces].mean(1)[:, JOINTS.index("head")] > 0.5
    facial = head & skull & (normals[:, 2] > 0)
    if facial.any():
        facial &= centres[:, 2] > np.median(centres[head & skull, 2])
    large = np.flatnonzero(facial)
    small = np.flatnonzero(facial & (normals[:, 2] > 0.25))
    return Surface(
        part=torch.from_numpy(part),
        facial_large=torch.from_numpy(large),
        facial_small=torch.from_numpy(small),
        front_body=torch.from_numpy(front_of_body(part, normals)),
    )
