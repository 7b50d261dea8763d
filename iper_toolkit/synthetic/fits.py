"""True fits of drawn clips, in iPER's convention: camera, pose, shape and 19 keypoints.

The drawing camera is part of the fit: its turn, a pitch and the half turn about x, goes into the
root rotation, and where the person stands goes into the camera's shift.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from iper_toolkit.body import load_body
from iper_toolkit.body.model import BodyParams, PosedBody
from iper_toolkit.camera import project_weak_perspective
from iper_toolkit.rotations import axis_angle_to_matrix
from iper_toolkit.synthetic.motion import Motion, axis_angle
from iper_toolkit.synthetic.people import exact_body
from iper_toolkit.synthetic.render import Camera
from iper_toolkit.synthetic.reproducible import settled

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Fit:
    """camera (T, 3), pose (T, 72), shape (T, 10), keypoints (T, 19, 2) in NDC; float32."""

    camera: Array
    pose: Array
    shape: Array
    keypoints: Array

    @property
    def params(self) -> BodyParams:
        arrays = (self.camera, self.pose, self.shape)
        return BodyParams(load_body("open").id, *(torch.from_numpy(array) for array in arrays))


def fit_of(motion: Motion, shape: Array, camera: Camera) -> Fit:
    """The fit that draws exactly the body that was drawn.

    Everything is computed in float64, so that the files are the same from every process.

    Args:
        motion: T frames in the world frame.
        shape: (10,) coefficients.
        camera: the camera it was drawn with; the frame is square.
    """
    body = exact_body()
    if body.head_top is None:
        raise ValueError("The open body names no head_top vertex; its file is not the shipped one.")
    view = torch.from_numpy(camera.rotation)
    local = torch.from_numpy(motion.pose.astype(np.float64))
    root = axis_angle(view @ axis_angle_to_matrix(local[:, 0]))
    pose = np.concatenate([root, motion.pose[:, 1:].reshape(len(motion), -1)], 1)
    shapes = np.repeat(shape[None], len(motion), 0)
    rest = body.joint_template + body.joint_directions @ torch.from_numpy(shape).double()
    place = torch.from_numpy(motion.pelvis.astype(np.float64)) @ view.T
    shift = place[:, :2] - rest[0, :2] + torch.tensor(camera.shift, dtype=torch.float64)
    scale = torch.full((len(motion), 1), camera.scale, dtype=torch.float64)
    cameras = settled(torch.cat([scale, shift], 1).numpy())

    # Only the vertices that keypoints are: the head's top becomes number 0, then the landmarks.
    points, joints = body.subset((body.head_top, *body.landmark_vertices)).skin(
        torch.from_numpy(pose).double(), torch.from_numpy(shapes).double()
    )
    posed = PosedBody(points, joints, torch.cat([joints, points[:, 1:]], 1))
    keypoints = project_weak_perspective(
        replace(body, head_top=0).keypoints19(posed), torch.from_numpy(cameras).double()
    )
    return Fit(cameras, pose, shapes, settled(keypoints.numpy()))
