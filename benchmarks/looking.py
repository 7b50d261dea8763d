"""Where judges look in a picture: the person's box and the face's, from masks, keypoints or fitted bodies.

Boxes are those of the *true* person, and the same place is cut out of the generated picture: a method that draws
the person elsewhere, or no face, is judged by what it drew there.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.metrics.pixel import PERSON_THRESHOLD
from iper_toolkit.body import Body, BodyParams
from iper_toolkit.camera import ndc_to_pixels, project_weak_perspective
from iper_toolkit.keypoints import BODY_45

# What re-identification sets usually leave around a person, as the official package does.
ENLARGED = 1.05
FACE_METRES = 0.24  # side of the square around a face, chin to hairline and a little more
SMALLEST_FACE = 20.0  # pixels; below it there is nothing to recognise (MTCNN's limit, too)
MOST_TURNED = np.cos(np.radians(60))  # a head turned farther from the camera shows no face
_CONFIDENT = 0.1
_BATCH = 32

Boxes = NDArray[np.float64]  # (N, 4) x0, y0, x1, y1 in pixels; NaN where there is nobody


def boxes_of_masks(masks: NDArray[np.uint8]) -> Boxes:
    """The person's box in each (N, H, W) mask, enlarged about its centre and cut at the border."""
    boxes = np.full((len(masks), 4), np.nan)
    for box, mask in zip(boxes, masks, strict=True):
        inside = mask >= PERSON_THRESHOLD
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        if len(rows):
            box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return enlarged(boxes, masks.shape[1:])


def boxes_of_points(points: NDArray[np.float64], size: tuple[int, int]) -> Boxes:
    """The box of (N, K, 2) points in pixels, NaN where one is unknown; of keypoints or projected vertices."""
    known = np.asarray(np.isfinite(points).all(-1), bool)[..., None]
    low = np.where(known, points, np.inf).min(1)
    high = np.where(known, points, -np.inf).max(1)
    boxes = np.concatenate([low, high], axis=1)
    boxes[~known[..., 0].any(1)] = np.nan
    return enlarged(boxes, size)


def enlarged(boxes: Boxes, size: tuple[int, int], factor: float = ENLARGED) -> Boxes:
    """Boxes enlarged about their centres and cut at the border of a (height, width) picture."""
    height, width = size
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2 * factor
    found = np.concatenate([centre - half, centre + half], axis=1)
    found = found.clip(0, [width, height, width, height])
    found[(found[:, 2:] - found[:, :2] < 1).any(1)] = np.nan
    return found


def boxes_of_bodies(body: Body, params: BodyParams, size: int) -> Boxes:
    """The box of each posed body as its camera sees it, for pictures of which there is no mask."""
    corners = []
    for first in range(0, len(params), _BATCH):
        part = params[list(range(first, min(first + _BATCH, len(params))))]
        points = _pixels(body.pose(part).vertices, part.camera, size)
        corners.append(boxes_of_points(points, (size, size)))
    return np.concatenate(corners) if corners else np.empty((0, 4))


def faces_of_bodies(body: Body, params: BodyParams, size: int) -> Boxes:
    """A square around each face that looks towards the camera; NaN where none does, or it is too small.

    The face is where the fitted head has nose and eyes. It counts as seen when the direction from the ears to the
    nose is within 60 degrees of the camera's.
    """
    found = np.full((len(params), 4), np.nan)
    place = {name: BODY_45.index(name) for name in ("nose", "left_eye", "right_eye")}
    ears = [BODY_45.index("left_ear"), BODY_45.index("right_ear")]
    for first in range(0, len(params), _BATCH):
        chosen = list(range(first, min(first + _BATCH, len(params))))
        part = params[chosen]
        landmarks = body.pose(part).landmarks
        if landmarks.shape[1] < len(BODY_45):
            return found  # a body that names no landmarks has no face to find
        forward = (landmarks[:, place["nose"]] - landmarks[:, ears].mean(1)).numpy()
        towards = -forward[:, 2] / np.linalg.norm(forward, axis=1)
        pixels = _pixels(landmarks, part.camera, size)
        centre = pixels[:, list(place.values())].mean(1)
        side = FACE_METRES * part.camera[:, 0].double().numpy() * size / 2
        half = side[:, None] / 2
        boxes = np.concatenate([centre - half, centre + half], axis=1)
        inside = ((boxes[:, :2] > -half) & (boxes[:, 2:] < size + half)).all(1)
        seen = (towards > MOST_TURNED) & (side >= SMALLEST_FACE) & inside
        found[first : first + len(chosen)][seen] = boxes[seen].clip(0, size)
    return found


def _pixels(points: torch.Tensor, camera: torch.Tensor, size: int) -> NDArray[np.float64]:
    """(N, V, 2) places in a picture whose left edge is 0 and right edge `size`, as boxes have it."""
    ndc = project_weak_perspective(points, camera)
    return ndc_to_pixels(ndc, size).double().numpy() + 0.5
