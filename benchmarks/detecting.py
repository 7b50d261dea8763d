"""Detectors of people and faces, from kept libraries, on weights that the user puts in place.

They look at true pictures alone. The mask's box and the fitted head are the defaults; a detector is for clips
without trustworthy masks, and for comparing with numbers of others that were made so.
"""

from collections.abc import Callable
from typing import Literal, get_args

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.looking import Boxes, enlarged
from benchmarks.metrics.arrays import Frames
from benchmarks.networks.judge import digest_of, reproducibly
from iper_toolkit.assets import find_asset
from iper_toolkit.weight_files import load_strictly, read_state

# Where the box of the person, and of the face, comes from.
PersonBox = Literal["mask", "fit", "detector"]
FaceBox = Literal["fit", "detector"]
PERSON_BOXES: tuple[PersonBox, ...] = get_args(PersonBox)
FACE_BOXES: tuple[FaceBox, ...] = get_args(FaceBox)

PERSON_DETECTOR, FACE_DETECTOR = "person-detector", "face-detector"
_PERSON = 1  # COCO's number of the class, as torchvision counts
_PERSON_SCORE, _FACE_SCORE = 0.5, 0.7

Detector = Callable[[Frames], Boxes]


def load_detector(name: str, device: str = "cpu") -> tuple[Detector, str]:
    """A detector, and the sha256 of its weights.

    Args:
        name: PERSON_DETECTOR or FACE_DETECTOR.
        device: of the person detector; OpenCV's of faces stays on the CPU.

    Returns:
        A function (N, H, W, 3) uint8 RGB -> (N, 4) float64 boxes of the largest find, NaN where there is none; and the digest.

    Raises:
        MissingAsset: its file is not here.
        ValueError: the file is not this detector's.
    """
    asset = find_asset(name)
    path = asset.require()
    if name == FACE_DETECTOR:
        asset.check()  # OpenCV's reader of networks is no place for unknown files
        return _faces(str(path)), digest_of(path)

    from torchvision.models.detection import fasterrcnn_resnet50_fpn_v2

    network = fasterrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None)
    load_strictly(network, dict(read_state(path)), asset.title, path)
    return people_by(network.eval().requires_grad_(False).to(device), device), digest_of(path)


def people_by(network: torch.nn.Module, device: str = "cpu") -> Detector:
    """The box of the largest person that a detection network of torchvision's form finds, enlarged as a mask's is."""

    def find(frames: Frames) -> Boxes:
        boxes = np.full((len(frames), 4), np.nan)
        for box, frame in zip(boxes, frames, strict=True):
            picture = torch.from_numpy(np.ascontiguousarray(frame)).to(device)
            with torch.inference_mode(), reproducibly():
                found = network([picture.permute(2, 0, 1).float() / 255])[0]
            sure = (found["labels"] == _PERSON) & (found["scores"] >= _PERSON_SCORE)
            box[:] = _largest(found["boxes"][sure].cpu().double().numpy())
        return enlarged(boxes, frames.shape[1:3])

    return find


def _faces(path: str) -> Detector:
    def find(frames: Frames) -> Boxes:
        height, width = frames.shape[1:3]
        detector = cv2.FaceDetectorYN.create(path, "", (width, height), score_threshold=_FACE_SCORE)
        boxes = np.full((len(frames), 4), np.nan)
        for box, frame in zip(boxes, frames, strict=True):
            _, found = detector.detect(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
            if (
                found is not None
            ):  # else there is no face; rows are x, y, width, height, landmarks, score
                corner, size = found[:, :2].astype(np.float64), found[:, 2:4].astype(np.float64)
                box[:] = _largest(np.concatenate([corner, corner + size], axis=1))
        return enlarged(boxes, (height, width), 1.0)

    return find


def _largest(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(K, 4) -> (4,), as the official package chooses; NaN if there is none."""
    if not len(boxes):
        return np.full(4, np.nan)
    return boxes[(boxes[:, 2:] - boxes[:, :2]).prod(1).argmax()]
