"""True fits of drawn clips, in iPER's convention: camera, pose, shape and 19 keypoints.

The drawing camera is part of the fit: its turn, a pitch and the half turn about x, goes into the
root rotation, and where the person stands goes into the camera's shift.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from iper_toolkit.body import load_body
from iper_toolkit.body.model import LANDMARKS, BodyParams
from iper_toolkit.camera import project_weak_perspective
from iper_toolkit.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from iper_toolkit.synthetic.motion import Motion
from iper_toolkit.synthetic.render import Camera

Array = NDArray[np.float32]

# HMR's 19 keypoints: 12 are joints of the skeleton (the neck is SMPL's joint 12) ...
_BODY_KEYPOINTS = (8, 5, 2, 1, 4, 7, 21, 19, 17, 16, 18, 20, 12)
# ... then come the head's top vertex and five face landmarks.
_FACE_KEYPOINTS = ("nose", "leye", "reye", "lear", "rear")


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

    The keypoints are HMR's: right ankle, knee, hip, left hip, knee, ankle, right wrist, elbow,
    shoulder, left shoulder, elbow, wrist and neck are posed joints of the skeleton; head top is the
    body's `head_top` vertex; nose, eyes and ears are its landmark vertices. All are projected.

    Args:
        motion: T frames in the world frame.
        shape: (10,) coefficients.
        camera: the camera it was drawn with; the frame is square.
    """
    body = load_body("open")
    if body.head_top is None:
        raise ValueError("The open body names no head_top vertex; its file is not the shipped one.")
    view = torch.from_numpy(camera.rotation)
    local = torch.from_numpy(motion.pose.astype(np.float64))
    root = matrix_to_axis_angle(view @ axis_angle_to_matrix(local[:, 0]))
    pose = torch.cat([root, local[:, 1:].flatten(1)], 1).float()
    shapes = torch.from_numpy(shape)[None].expand(len(motion), -1).contiguous()
    pelvis = (body.joint_template + body.joint_directions @ shapes[0])[0].double()
    place = torch.from_numpy(motion.pelvis.astype(np.float64)) @ view.T
    shift = place[:, :2] - pelvis[:2] + torch.tensor(camera.shift, dtype=torch.float64)
    scale = torch.full((len(motion), 1), camera.scale, dtype=torch.float64)
    cameras = torch.cat([scale, shift], 1).float()

    vertices = [body.head_top] + [
        body.landmark_vertices[LANDMARKS.index(name)] for name in _FACE_KEYPOINTS
    ]
    points, joints = body.subset(vertices).skin(pose, shapes)
    points = torch.cat([joints[:, list(_BODY_KEYPOINTS)], points], 1)
    keypoints = project_weak_perspective(points, cameras)
    return Fit(cameras.numpy(), pose.numpy(), shapes.numpy(), keypoints.numpy())
