"""A body that lets its hands hang as people do: fits of SMPL, drawn with the fingers of SMPL-H.

SMPL's hands are flat boards of one joint. The reference's program fits SMPL and draws the 52-joint SMPL-H with its
mean fingers, so that is what checkpoints of it have seen.
"""

from dataclasses import replace

import torch
from torch import Tensor

from iper_toolkit.body.model import Body
from iper_toolkit.body.skinning import SMPL_JOINTS, SMPLH_JOINTS

BODY_JOINTS = 22  # that both skeletons share; the others move hands and fingers
TOLERANCE = 0.01
"""Metres that the two bodies may lie apart, away from the fingers and for a shape of one standard deviation: the models of
women and men differ by several times as much."""


def with_fingers(body: Body, hands: Body) -> Body:
    """`hands`, for fits of `body`: it keeps that one's id, surface and keypoints, and takes its 72 pose numbers.

    Mesh, skeleton, weights and the mean fingers are those of `hands`; the two hand joints of a fit are not used.

    Args:
        body: of 24 joints, with its fingers stretched.
        hands: of 52 joints, the same mesh with the same shape space.

    Raises:
        ValueError: they are not two such bodies; the message says what differs, and by how much.
    """
    if (
        body.num_joints != SMPL_JOINTS
        or hands.num_joints != SMPLH_JOINTS
        or hands.hand_pose is None
    ):
        raise ValueError(
            f"Fingers take a body of {SMPL_JOINTS} joints and one of {SMPLH_JOINTS} with mean fingers, as SMPL and "
            f"SMPL-H are; {body.id!r} has {body.num_joints} and {hands.id!r} has {hands.num_joints}."
        )
    if not torch.equal(body.faces, hands.faces.to(body.faces)):
        raise ValueError(
            f"{hands.id!r} has other faces than {body.id!r}: {len(hands.faces)} and {len(body.faces)}, so a fit "
            "of one means other places on the other. Take SMPL-H for SMPL's fits."
        )
    num_shapes = body.shape_directions.shape[-1]
    if hands.shape_directions.shape[-1] < num_shapes:
        raise ValueError(
            f"{hands.id!r} has {hands.shape_directions.shape[-1]} shape directions; fits of {body.id!r} take "
            f"{num_shapes}."
        )
    shapes = hands.shape_directions[..., :num_shapes].to(body.template)
    fixed = (hands.weights[:, BODY_JOINTS:].sum(1) <= 0).to(body.template.device)
    for what, theirs, ours in (
        ("at rest", hands.template.to(body.template), body.template),
        ("in how they change with the shape", shapes.mT, body.shape_directions.mT),
    ):
        apart = _distance(theirs[fixed], ours[fixed])
        if not apart <= TOLERANCE:
            raise ValueError(
                f"{hands.id!r} and {body.id!r} lie up to {apart * 1000:.0f} mm apart {what}, away from the fingers; "
                f"{TOLERANCE * 1000:.0f} mm are allowed. Take the SMPL-H of the fits' own sex and shape space."
            )
    own = ("id", "surface", "landmark_vertices", "keypoint_regressor", "head_top", "licence")
    return replace(
        hands.to(body.template.device, body.template.dtype),
        **{name: getattr(body, name) for name in own},
        shape_directions=shapes,
        source=f"{body.source}; fingers of {hands.id}",
    )


def _distance(first: Tensor, second: Tensor) -> float:
    """The largest one between corresponding (..., 3) points, metres; none is no distance."""
    return float((first - second).norm(dim=-1).max()) if first.numel() else 0.0
