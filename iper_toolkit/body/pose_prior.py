"""A hand-made prior on SMPL-like poses: what a fit to 2-D keypoints falls back on.

Made from anatomy, not learned: free of anybody's motion data. Each of the 23 joints has a resting
rotation, a stiffness about each axis, and limits for the axes that can only turn one way. Axes are
those of the rest pose: x to the body's left, y up, z forward.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from iper_toolkit.keypoints import BODY_45

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class JointPrior:
    """One joint, or a pair given for the left side."""

    stiffness: Triple  # 1 / rad^2 about x, y, z
    rest: Triple = (0.0, 0.0, 0.0)  # rad
    low: Triple = (-math.inf, -math.inf, -math.inf)  # rad; below it a steep penalty
    high: Triple = (math.inf, math.inf, math.inf)


_FREE = math.inf

# Joints of the left side stand for the right one too, mirrored: turns about y and z change sign.
JOINT_PRIORS: dict[str, JointPrior] = {
    # Thigh: forward is -x. Sitting deep is about -2.2; backward a leg gets to 0.6.
    "left_hip": JointPrior(
        (0.10, 0.5, 0.5), rest=(-0.15, 0, 0), low=(-2.4, -1.0, -0.7), high=(0.7, 1.0, 1.3)
    ),
    # Hinges: the knee bends by +x, the left elbow by -y.
    "left_knee": JointPrior(
        (0.06, 5.0, 5.0), rest=(0.25, 0, 0), low=(0, -_FREE, -_FREE), high=(2.6, _FREE, _FREE)
    ),
    "left_elbow": JointPrior(
        (1.8, 0.04, 1.8), rest=(0, -0.35, 0), low=(-_FREE, -2.6, -_FREE), high=(_FREE, 0, _FREE)
    ),
    # The arm hangs at z = -0.9 and not at -1.4: arms that are seen well are mostly lifted a little,
    # and before the body (-y) rather than behind it, where there is little room.
    "left_shoulder": JointPrior(
        (0.18, 0.10, 0.06), rest=(0, -0.3, -0.9), low=(-1.6, -2.0, -1.9), high=(1.6, 0.6, 1.7)
    ),
    "left_collar": JointPrior((1.8, 1.8, 1.8)),
    "left_ankle": JointPrior((1.0, 1.0, 1.0)),
    "left_foot": JointPrior((6.0, 6.0, 6.0)),
    "left_wrist": JointPrior((1.2, 1.2, 1.2)),
    "left_hand": JointPrior((10.0, 10.0, 10.0)),
    # Bending forward is +x; backward there is little room, in the neck above all.
    "spine1": JointPrior((1.5, 2.4, 2.4), low=(-0.3, -_FREE, -_FREE)),
    "spine2": JointPrior((2.0, 2.4, 2.4), low=(-0.3, -_FREE, -_FREE)),
    "spine3": JointPrior((2.4, 2.4, 2.4), low=(-0.3, -_FREE, -_FREE)),
    "neck": JointPrior((1.2, 0.8, 1.2), low=(-0.5, -0.8, -0.6), high=(0.7, 0.8, 0.6)),
    "head": JointPrior((1.2, 0.8, 1.2), low=(-0.4, -0.8, -0.5), high=(0.6, 0.8, 0.5)),
}

# 1 / rad^2 beyond a limit.
_LIMIT_STIFFNESS = 20.0


@dataclass(frozen=True, eq=False)
class PosePrior:
    """The table as tensors over joints 1 to 23, shape (23, 3) each."""

    rest: Tensor
    stiffness: Tensor
    low: Tensor
    high: Tensor

    def energy(self, pose: Tensor) -> Tensor:
        """(T, 23, 3) axis-angle -> (T,) how unlikely the poses are."""
        return ((pose - self.rest).square() * self.stiffness).sum((-1, -2))

    def limit_energy(self, pose: Tensor) -> Tensor:
        """(T, 23, 3) axis-angle -> (T,) how far the poses are beyond what joints can do."""
        excess = (pose - self.high).clamp_min(0) + (self.low - pose).clamp_min(0)
        return _LIMIT_STIFFNESS * excess.square().sum((-1, -2))


def pose_prior(dtype: torch.dtype = torch.float32) -> PosePrior:
    """The prior of the 23 joints below the root, in SMPL's order."""
    columns: dict[str, list[Triple]] = {"rest": [], "stiffness": [], "low": [], "high": []}
    for name in BODY_45[1:24]:
        right = name.startswith("right_")
        prior = JOINT_PRIORS[name.replace("right_", "left_")]
        low, high = prior.low, prior.high
        if right:
            low, high = (low[0], -high[1], -high[2]), (high[0], -low[1], -low[2])
        side = -1.0 if right else 1.0
        columns["rest"].append((prior.rest[0], side * prior.rest[1], side * prior.rest[2]))
        columns["stiffness"].append(prior.stiffness)
        columns["low"].append(low)
        columns["high"].append(high)
    return PosePrior(**{name: torch.tensor(rows, dtype=dtype) for name, rows in columns.items()})
