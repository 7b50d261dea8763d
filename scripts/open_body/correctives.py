"""Pose blend shapes: what linear blend skinning lacks against dual-quaternion skinning, as linear functions of the pose.

One joint bends at a time; the offsets that would make linear blending give the volume-preserving blend are regressed on
SMPL's pose feature R - I. Twisted wrists and elbows keep their girth, bent knees and hips lose less of it.
"""

from dataclasses import dataclass

import numpy as np
from open_body.makehuman import Array, Indices
from open_body.skeleton import MIRROR_JOINTS
from scipy.spatial.transform import Rotation

from iper_toolkit.body.skinning import PARENTS

_LARGEST_ANGLE = np.deg2rad(110)
_SAMPLES = 160
_RIDGE = 0.05
# how a mirrored rotation's feature differs: (S R S)[a, b] = s_a s_b R[a, b] with S = diag(-1, 1, 1)
_FLIP = np.array([-1.0, 1, 1])
_FLIP_FEATURE = np.outer(_FLIP, _FLIP).ravel()


@dataclass(frozen=True)
class Correctives:
    directions: Array  # (V, 3, 207) metres per unit of pose feature
    errors: dict[int, tuple[float, float]]  # joint -> held-out error in mm without and with them


def fit_correctives(
    vertices: Array, weights: Array, joints: Array, mirror: Indices, random: np.random.Generator
) -> Correctives:
    """Fit all points that follow one skeleton: body and garments alike.

    Args:
        vertices: (V, 3) metres. weights: (V, 24). joints: (24, 3). mirror: (V,).
    """
    turns = _sample_rotations(random)
    directions = np.zeros((len(vertices), 3, 23, 9))
    errors = {}
    for joint in range(1, 24):
        other = MIRROR_JOINTS[joint]
        if other < joint:
            directions[:, :, joint - 1] = _mirrored(directions[:, :, other - 1], mirror)
            continue
        share = weights[:, _descendants(joint)].sum(1)
        moved = np.flatnonzero((share > 0.02) & (share < 0.98))
        block, errors[joint] = _fit_joint(vertices[moved] - joints[joint], share[moved], turns)
        # The fit supposes that the rest of a point stays with the joint's ancestors. Between siblings, as in the
        # middle of a skirt, it does not: both legs' offsets would add up where linear blending needs none.
        steady = weights[:, _ancestors(joint)].sum(1)[moved] / (1 - share[moved])
        directions[moved, :, joint - 1] = block * steady[:, None, None]
        if other == joint:
            here = directions[:, :, joint - 1]
            directions[:, :, joint - 1] = (here + _mirrored(here, mirror)) / 2
    return Correctives(directions.reshape(len(vertices), 3, 207), errors)


def _descendants(joint: int) -> list[int]:
    below = [joint]
    for child in range(joint + 1, 24):
        if PARENTS[child] in below:
            below.append(child)
    return below


def _ancestors(joint: int) -> list[int]:
    above = []
    while PARENTS[joint] >= 0:
        joint = PARENTS[joint]
        above.append(joint)
    return above


def _mirrored(block: Array, mirror: Indices) -> Array:
    """(V, 3, 9) of the joint on the other side."""
    return block[mirror] * _FLIP[:, None] * _FLIP_FEATURE


def _sample_rotations(random: np.random.Generator) -> Rotation:
    """Half about random axes, the rest about the main ones."""
    axes = random.normal(size=(_SAMPLES, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    main = random.permutation(_SAMPLES)[: 3 * _SAMPLES // 8]
    axes[main] = np.eye(3)[random.integers(0, 3, len(main))]
    angles = random.uniform(-_LARGEST_ANGLE, _LARGEST_ANGLE, _SAMPLES)
    return Rotation.from_rotvec(axes * angles[:, None])


def _fit_joint(points: Array, share: Array, turns: Rotation) -> tuple[Array, tuple[float, float]]:
    """Fit the points around one joint.

    Args:
        points: (P, 3) seen from the joint. share: (P,) how much of each moves with the joint.

    Returns:
        (P, 3, 9) directions, and the mean held-out error in mm before and after.
    """
    matrices = turns.as_matrix()
    # Two rigid motions meet here, rest and rotation about the joint, so the dual quaternion blend has no dual part.
    quaternions = turns.as_quat(canonical=True)
    blend = share[None, :, None] * quaternions[:, None]
    blend[..., 3] += 1 - share
    rotated = Rotation.from_quat(blend.reshape(-1, 4)).apply(np.tile(points, (len(matrices), 1)))
    linear = (1 - share)[:, None, None] * np.eye(3) + share[:, None, None] * matrices[:, None]
    offsets = np.linalg.solve(linear, rotated.reshape(*linear.shape[:2], 3, 1))[..., 0] - points

    features = (matrices - np.eye(3)).reshape(len(matrices), 9)
    fitted, held_out = slice(0, 3 * _SAMPLES // 4), slice(3 * _SAMPLES // 4, _SAMPLES)
    normal = features[fitted].T @ features[fitted] + _RIDGE * np.eye(9)
    right = features[fitted].T @ offsets[fitted].reshape(3 * _SAMPLES // 4, -1)
    solution = np.linalg.solve(normal, right)
    left = offsets - (features @ solution).reshape(offsets.shape)
    before, after = (
        float(1e3 * np.linalg.norm(linear[held_out] @ e[held_out][..., None], axis=2).mean())
        for e in (offsets, left)
    )
    return np.moveaxis(solution.reshape(9, -1, 3), 0, -1), (before, after)
