"""Fits and masks that cannot be those of a person in the picture."""

from pathlib import Path

import numpy as np
import pytest

from iper_toolkit.crop import SquareCrop
from iper_toolkit.stages.plausible import (
    check_error,
    check_keypoints,
    check_overlap,
    check_person_size,
    check_silhouettes,
)

PATH = Path("me.json")
BOXES = np.tile([10.0, 10.0, 60.0, 110.0], (4, 1))


def test_people_of_a_few_pixels_are_refused() -> None:
    for pixels in (0.0, 3.0, 15.9, float("nan")):
        with pytest.raises(ValueError, match=r"me\.json: the person would be .* pixels large"):
            check_person_size(pixels, PATH)
    check_person_size(16, PATH)
    with pytest.raises(ValueError, match="would be 3 pixels large"):
        check_silhouettes([3, 3], SquareCrop(0, 0, 256), 256, PATH)
    (warning,) = check_silhouettes([40, 40], SquareCrop(0, 0, 256), 256, PATH)
    assert "the person is 40 pixels large" in warning


def test_bodies_outside_of_the_picture() -> None:
    crop = SquareCrop(0, 0, 256)
    with pytest.raises(ValueError, match="lies outside of the picture in all frames"):
        check_silhouettes([0, 0], crop, 256, PATH)
    (warning,) = check_silhouettes([200, 0, 200], crop, 256, PATH)
    assert "outside of the picture in 1 of 3 frames" in warning
    assert check_silhouettes([200, 200], crop, 256, PATH) == []


@pytest.mark.parametrize(("factor", "num_warnings"), [(0.02, 0), (0.08, 1)])
def test_fits_far_from_their_keypoints(factor: float, num_warnings: int) -> None:
    error = np.full(4, 100 * factor, np.float32)
    assert len(check_error(error, BOXES, PATH)) == num_warnings
    with pytest.raises(ValueError, match="30% of the person's size away from the keypoints"):
        check_error(np.full(4, 30, np.float32), BOXES, PATH)


def test_keypoints_of_another_size() -> None:
    keypoints = np.ones((2, 25, 3), np.float32)
    keypoints[..., :2] = np.linspace(10, 90, 25)[:, None]
    assert check_keypoints(keypoints, (100, 100), PATH) == []
    assert len(check_keypoints(keypoints, (60, 60), PATH)) == 1
    with pytest.raises(ValueError, match=r"lie outside of the frame of 20 x 20 pixels"):
        check_keypoints(keypoints, (20, 20), PATH)


def test_masks_of_something_else() -> None:
    assert check_overlap([0.7, 0.8], [0.1, 0.1], [0.2, 0.2], PATH) == []
    (warning,) = check_overlap([0.3], [0.1], [0.2], PATH)
    assert "hardly overlap the fitted body" in warning
    for values, message in (
        (([0.05], [0.1], [0.2]), "They show something else"),
        (([0.05], [0.7], [0.8]), "They are inverted"),
        (([0.2], [0.0], [1.0]), "cover 100% of the crop"),
    ):
        with pytest.raises(ValueError, match=message):
            check_overlap(*values, PATH)


def test_a_mask_is_mirrored_where_the_picture_is() -> None:
    crop = SquareCrop(0, -4, 12)  # four rows above the frame, two below
    mask = np.zeros((12, 12), np.uint8)
    mask[5:8, 3] = 255
    mirrored = crop.mirrored_outside(mask, (6, 12))
    np.testing.assert_array_equal(mirrored, crop.cut(mask[4:10]))
    assert mirrored[3, 3] == 255
    np.testing.assert_array_equal(SquareCrop(0, 0, 12).mirrored_outside(mask, (12, 12)), mask)
