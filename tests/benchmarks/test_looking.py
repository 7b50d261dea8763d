"""Where judges look: boxes of masks, points and bodies, and the faces that can be seen."""

import numpy as np
import pytest
import torch

from benchmarks.looking import (
    boxes_of_bodies,
    boxes_of_masks,
    boxes_of_points,
    enlarged,
    faces_of_bodies,
)
from iper_toolkit.body import Body, BodyParams


def test_a_masks_box_is_enlarged_about_its_middle_and_cut_at_the_border() -> None:
    masks = np.zeros((3, 100, 80), np.uint8)
    masks[0, 20:60, 30:50] = 255
    masks[1, 0:40, 0:20] = 128  # at the corner
    masks[2, 5, 5] = 127  # nobody
    boxes = boxes_of_masks(masks)
    np.testing.assert_allclose(boxes[0], [29.5, 19, 50.5, 61])
    np.testing.assert_allclose(boxes[1], [0, 0, 20.5, 41])
    assert np.isnan(boxes[2]).all()


def test_points_that_are_unknown_do_not_count() -> None:
    points = np.array([[[10.0, 20], [30, 60], [np.nan, 5]], [[np.nan, np.nan]] * 3])
    boxes = boxes_of_points(points, (100, 100))
    np.testing.assert_allclose(boxes[0], enlarged(np.array([[10.0, 20, 30, 60]]), (100, 100))[0])
    assert np.isnan(boxes[1]).all()


def test_a_box_outside_the_picture_is_none() -> None:
    assert np.isnan(enlarged(np.array([[120.0, 10, 140, 30]]), (100, 100))).all()


def standing(degrees: list[float], scale: float = 0.9) -> BodyParams:
    """The body upright, turned to the side, in iPER's convention."""
    turn = torch.deg2rad(torch.tensor(degrees))
    pose = torch.zeros(len(degrees), 72)
    pose[:, 0], pose[:, 2] = torch.pi * torch.cos(turn / 2), -torch.pi * torch.sin(turn / 2)
    camera = torch.tensor([[scale, 0.0, 0.25]]).expand(len(degrees), 3).contiguous()
    return BodyParams("open-body-1", camera, pose, torch.zeros(len(degrees), 10))


def test_a_face_is_seen_from_the_front_and_not_from_behind(body: Body) -> None:
    faces = faces_of_bodies(body, standing([0, 40, 90, 180]), 256)
    assert np.isfinite(faces).all(1).tolist() == [True, True, False, False]
    left, top, right, bottom = faces[0]
    assert right - left == pytest.approx(0.24 * 0.9 * 128, abs=0.1)
    boxes = boxes_of_bodies(body, standing([0]), 256)
    assert (
        boxes[0, 1] < top < bottom < boxes[0, 1] + (boxes[0, 3] - boxes[0, 1]) / 4
    )  # the upper quarter
    assert (left + right) / 2 == pytest.approx(128, abs=2)


def test_a_small_face_is_none(body: Body) -> None:
    assert np.isnan(faces_of_bodies(body, standing([0]), 96)).all()
    assert np.isfinite(faces_of_bodies(body, standing([0]), 256)).all()
