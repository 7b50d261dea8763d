"""Sources are frames that show the person well, not the ones with most front faces."""

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from iper_toolkit.body import BodyParams, load_body
from iper_toolkit.camera import project
from iper_toolkit.raster import rasterize
from iper_toolkit.source_views import choose_sources, source_views

SIDE = 256
FRONT, BACK, CROUCH, BOWED, AT_HEAD, BEFORE_FACE, UNSURE, LEVEL = range(8)


class Shown:
    """Eight frames of one person: two good ones, and six with something wrong."""

    def __init__(self, mask_source: str = "file") -> None:
        self.id, self.mask_source = "clip", mask_source
        self.valid = np.ones(8, bool)
        turned = np.array([20, 150, 0, 0, 0, 0, 0, 100]) * np.pi / 360  # half angles
        pose = torch.zeros(8, 72)
        pose[:, 0], pose[:, 2] = torch.tensor(np.pi * np.array([np.cos(turned), -np.sin(turned)]))
        pose[:, 3 * 16 + 2], pose[:, 3 * 17 + 2] = -1.1, 1.1
        for joint, angle in ((1, -1.7), (2, -1.7), (4, 2.2), (5, 2.2)):
            pose[CROUCH, 3 * joint] = angle
        for joint in (3, 6, 9):
            pose[BOWED, 3 * joint] = 0.5
        camera = torch.tensor([[0.7, 0.0, 0.25]]).repeat(8, 1)
        body = load_body("open")
        self._params = BodyParams(body.id, camera, pose, torch.zeros(8, 10))
        points = project(body.pose(self._params).vertices, camera)
        shown = rasterize(points, body.faces, SIDE).covered.numpy()
        self._body = shown.astype(np.uint8) * 255
        self._masks = self._body.copy()
        self._frames = np.full((8, SIDE, SIDE, 3), 200, np.uint8)
        self._frames[shown] = (40, 60, 90)
        for frame in (AT_HEAD, BEFORE_FACE):
            rows = np.flatnonzero(shown[frame].any(1))
            x = round(np.flatnonzero(shown[frame][rows[0]]).mean())
            centre = (x + (0 if frame == BEFORE_FACE else 22), int(rows[0]) + 14)
            cv2.circle(self._frames[frame], centre, 14, (230, 110, 30), -1)
            if (
                frame == AT_HEAD and mask_source == "file"
            ):  # what touches the person is segmented with them
                cv2.circle(self._masks[frame], centre, 14, 255, -1)
        self.keypoints = np.full((8, 25, 3), 0.9, np.float32)
        self.keypoints[UNSURE, [0, 15, 16], 2] = 0.1

    def params(self, indices: list[int]) -> BodyParams:
        return self._params[indices]

    def frames(self, indices: list[int], size: int) -> NDArray[np.uint8]:
        return np.stack([cv2.resize(self._frames[i], (size, size)) for i in indices])

    def masks(self, indices: list[int], size: int) -> NDArray[np.uint8]:
        return np.stack([cv2.resize(self._masks[i], (size, size)) for i in indices])

    def silhouettes(self, indices: list[int], size: int) -> NDArray[np.uint8]:
        return np.stack([cv2.resize(self._body[i], (size, size)) for i in indices])

    def background(self, size: int) -> NDArray[np.uint8]:
        return np.full((size, size, 3), 200, np.uint8)


@pytest.mark.parametrize("mask_source", ["file", "body"])
def test_the_sources_are_upright_and_nothing_hides_the_face(mask_source: str) -> None:
    clip = Shown(mask_source)
    assert choose_sources(clip, 1) == [FRONT]  # type: ignore[arg-type]
    assert choose_sources(clip, 2) == [FRONT, BACK]  # type: ignore[arg-type]


def test_without_a_back_the_side_stands_for_it() -> None:
    clip = Shown()
    clip.valid[BACK] = False
    assert choose_sources(clip, 2) == [FRONT, LEVEL]  # type: ignore[arg-type]


def test_facing_is_measured_at_the_chest() -> None:
    views = source_views(Shown())  # type: ignore[arg-type]
    wanted = np.cos(np.radians([20, 150, 0, 0, 0, 0, 0, 100]))
    np.testing.assert_allclose(views.facing, wanted, atol=1e-4)
    assert views.cost[[FRONT, BACK]].max() < views.cost[[CROUCH, BOWED, AT_HEAD, UNSURE]].min()


def test_impossible_requests() -> None:
    clip = Shown()
    with pytest.raises(ValueError, match="9 sources are wanted of clip clip, which has 8"):
        choose_sources(clip, 9)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one"):
        choose_sources(clip, 0)  # type: ignore[arg-type]
    clip.valid[:] = False
    with pytest.raises(ValueError, match="no frame with a valid fit"):
        choose_sources(clip, 1)  # type: ignore[arg-type]
    assert sorted(choose_sources(Shown(), 8)) == list(range(8))  # type: ignore[arg-type]
