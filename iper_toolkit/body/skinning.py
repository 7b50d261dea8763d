"""Linear blend skinning of SMPL-like bodies (Loper et al. 2015): pure, batched, any device and float type.

Sizes come from the mesh and the skeleton: bodies of 24 or 52 joints, garments and subsets of vertices go the same way.
Whole clips are skinned at once; the blends are two matrix products, not a tensor of one matrix a vertex.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from iper_toolkit.rotations import (
    axis_angle_to_matrix,
    quaternion_to_matrix,
    rotation_6d_to_matrix,
)

# SMPL's skeleton; sides are the body's own.
JOINTS = (
    "pelvis left_hip right_hip spine1 left_knee right_knee spine2 left_ankle right_ankle spine3 "
    "left_foot right_foot neck left_collar right_collar head left_shoulder right_shoulder "
    "left_elbow right_elbow left_wrist right_wrist left_hand right_hand"
).split()
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
SMPL_JOINTS = len(JOINTS)
SMPLH_JOINTS = 52
_POINTS_AT_ONCE = 1 << 19  # points times frames; bounds the memory of a long clip to some 100 MB
_BODY_JOINTS = 22  # SMPL-H replaces SMPL's two hand joints by 2 x 15 finger joints


@dataclass(frozen=True, eq=False)
class SkinnedPoints:
    """Points that follow a skeleton: a body, a garment, or a few landmarks of one."""

    template: Tensor  # (V, 3) metres, rest pose
    shape_directions: Tensor  # (V, 3, S) metres a unit of shape coefficient
    pose_directions: Tensor  # (V, 3, 9 (J - 1)) metres a unit of pose feature R - I
    weights: Tensor  # (V, J) rows sum to one

    def __post_init__(self) -> None:
        num_points, num_joints = self.weights.shape
        wanted = {
            "template": (num_points, 3),
            "shape_directions": (num_points, 3, self.shape_directions.shape[-1]),
            "pose_directions": (num_points, 3, 9 * (num_joints - 1)),
        }
        for name, shape in wanted.items():
            if tuple(getattr(self, name).shape) != shape:
                raise ValueError(
                    f"{name} is {tuple(getattr(self, name).shape)}; with weights of {num_points} points "
                    f"and {num_joints} joints it must be {shape}."
                )

    def __getitem__(self, chosen: Tensor | Sequence[int] | slice) -> "SkinnedPoints":
        """Some of the points, for instance landmarks for a fit."""
        index = chosen if isinstance(chosen, slice) else torch.as_tensor(chosen)
        return SkinnedPoints(
            self.template[index],
            self.shape_directions[index],
            self.pose_directions[index],
            self.weights[index],
        )


@dataclass(frozen=True, eq=False)
class Skeleton:
    """A posed skeleton, one a frame."""

    rotations: Tensor  # (T, J, 3, 3) of each joint relative to its parent
    joints: Tensor  # (T, J, 3) posed joints, metres
    transforms: Tensor  # (T, J, 3, 4) from the rest pose to the posed one


def pose_to_rotations(
    pose: Tensor, num_joints: int, *, hand_pose: Tensor | None = None, turn_base: bool = False
) -> Tensor:
    """Rotation matrices out of any of the forms in which poses are stored.

    Args:
        pose: (T, 3 J) axis-angle, (T, 4 J) quaternions xyzw, (T, 6 J) 6-D rotations, or (T, J, 3, 3).
            A body of 52 joints also takes SMPL's 72 numbers: the first 66, then `hand_pose`.
        num_joints: J.
        hand_pose: (90,) axis-angle of the fingers, for that last case.
        turn_base: turn the root by pi about x afterwards (right-multiply by diag(1, -1, -1)).

    Returns:
        (T, J, 3, 3).
    """
    if pose.shape[-2:] == (3, 3):
        rotations = pose
    else:
        if num_joints == SMPLH_JOINTS and pose.shape[-1] == 3 * SMPL_JOINTS:
            if hand_pose is None:
                raise ValueError("A pose of 72 numbers needs the hand_pose of this 52-joint body.")
            fingers = hand_pose.to(pose).expand(*pose.shape[:-1], -1)
            pose = torch.cat([pose[..., : 3 * _BODY_JOINTS], fingers], dim=-1)
        per_joint, rest = divmod(pose.shape[-1], num_joints)
        if rest or per_joint not in (3, 4, 6):
            raise ValueError(
                f"A pose of {pose.shape[-1]} numbers fits no body of {num_joints} joints; it takes "
                f"{3 * num_joints} (axis-angle), {4 * num_joints} (quaternions xyzw), {6 * num_joints} (6-D) "
                f"or matrices (T, {num_joints}, 3, 3)."
            )
        split = pose.unflatten(-1, (num_joints, per_joint))
        if per_joint == 3:
            rotations = axis_angle_to_matrix(split)
        elif per_joint == 4:
            rotations = quaternion_to_matrix(split, order="xyzw")
        else:
            rotations = rotation_6d_to_matrix(split)
    if turn_base:
        root = rotations[..., :1, :, :] * rotations.new_tensor([1.0, -1.0, -1.0])
        rotations = torch.cat([root, rotations[..., 1:, :, :]], dim=-3)
    return rotations


def pose_skeleton(rest_joints: Tensor, rotations: Tensor, parents: Sequence[int]) -> Skeleton:
    """Chain the rotations along the tree: ``G_k = G_parent [R_k | J_k - J_parent]``, minus the rest joints.

    Args:
        rest_joints: (T, J, 3) metres. rotations: (T, J, 3, 3).
        parents: J numbers, -1 for the root, each smaller than its own index.
    """
    turns, places = [rotations[:, 0]], [rest_joints[:, 0]]
    for joint in range(1, len(parents)):
        parent = parents[joint]
        bone = rest_joints[:, joint] - rest_joints[:, parent]
        places.append(places[parent] + (turns[parent] @ bone[..., None])[..., 0])
        turns.append(turns[parent] @ rotations[:, joint])
    turn, joints = torch.stack(turns, 1), torch.stack(places, 1)
    shift = joints[..., None] - turn @ rest_joints[..., None]
    return Skeleton(rotations, joints, torch.cat([turn, shift], dim=-1))


def deform(
    points: SkinnedPoints, shape: Tensor, skeleton: Skeleton, offsets: Tensor | None = None
) -> Tensor:
    """Shape, correct and skin points: ``sum_k w_k A_k (template + shape + offsets + pose blend)``.

    Args:
        shape: (T, S) coefficients. offsets: (V, 3) or (T, V, 3) metres in the rest pose.

    Returns:
        (T, V, 3) metres.
    """
    num_frames = len(skeleton.rotations)
    step = max(1, _POINTS_AT_ONCE // max(1, len(points.template)))
    blocks = []
    for start in range(0, max(1, num_frames), step):
        block = slice(start, start + step)
        blocks.append(
            _deform(
                points,
                shape[block],
                skeleton.rotations[block],
                skeleton.transforms[block],
                offsets if offsets is None or offsets.ndim == 2 else offsets[block],
            )
        )
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks)


def _deform(
    points: SkinnedPoints,
    shape: Tensor,
    rotations: Tensor,
    transforms: Tensor,
    offsets: Tensor | None,
) -> Tensor:
    num_points, (num_frames, num_joints) = len(points.template), rotations.shape[:2]
    identity = torch.eye(3, dtype=shape.dtype, device=shape.device)
    feature = (rotations[:, 1:] - identity).flatten(1)
    # (V, 3, T) and (V, 12, T): frames innermost, so that the products and the sum below run over long rows
    rest = points.pose_directions.reshape(3 * num_points, -1) @ feature.T
    rest = rest + points.shape_directions.reshape(3 * num_points, -1) @ shape.T
    rest = rest.view(num_points, 3, num_frames) + points.template[..., None]
    if offsets is not None:
        rest = rest + (offsets[..., None] if offsets.ndim == 2 else offsets.permute(1, 2, 0))
    by_joint = transforms.permute(1, 2, 3, 0).reshape(num_joints, 12 * num_frames)
    blended = (points.weights @ by_joint).view(num_points, 3, 4, num_frames)
    posed = (blended[:, :, :3] * rest[:, None]).sum(2) + blended[:, :, 3]
    return posed.permute(2, 0, 1).contiguous()


def apply_links(vertices: Tensor, links: Tensor) -> Tensor:
    """Replace posed vertices by others, as garments are sewn to a body.

    Args:
        vertices: (T, V, 3). links: (K, 2 or more) rows (from, to), every row counts; or (T, K, 3) rows
            (from, to, flag), of which those with flag 1 count. ``new[from] = old[to]``.
    """
    links = links.long()
    linked = vertices.clone()
    if links.ndim == 2:
        linked[:, links[:, 0]] = vertices[:, links[:, 1]]
        return linked
    frame, row = (links[..., 2] == 1).nonzero(as_tuple=True)
    chosen = links[frame, row]
    linked[frame, chosen[:, 0]] = vertices[frame, chosen[:, 1]]
    return linked


def linear_blend_skinning(
    points: SkinnedPoints,
    joint_regressor: Tensor,
    parents: Sequence[int],
    rotations: Tensor,
    shape: Tensor,
    offsets: Tensor | None = None,
    links: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The whole of SMPL's forward pass.

    Args:
        joint_regressor: (J, V). parents: J numbers, -1 for the root.
        rotations: (T, J, 3, 3). shape: (T, S).
        offsets: (V, 3) or (T, V, 3) metres, added before the joints are regressed.
        links: posed vertices that are replaced by others, see `apply_links`.

    Returns:
        (T, V, 3) vertices and (T, J, 3) joints, metres.
    """
    directions = torch.einsum("jv,vcs->jcs", joint_regressor, points.shape_directions)
    rest_joints = joint_regressor @ points.template + torch.einsum("jcs,ts->tjc", directions, shape)
    if offsets is not None:
        rest_joints = rest_joints + joint_regressor @ offsets
    skeleton = pose_skeleton(rest_joints, rotations, parents)
    vertices = deform(points, shape, skeleton, offsets)
    return (vertices if links is None else apply_links(vertices, links)), skeleton.joints
