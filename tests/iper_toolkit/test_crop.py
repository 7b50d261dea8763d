"""Crops: pixels that stay where they are, mirrored overhang, and the reference's boxes."""

from pathlib import Path

import numpy as np
import pytest

from iper_toolkit import crop
from iper_toolkit.crop import SquareCrop, crop_around


def test_a_cut_inside_is_a_slice_and_overhang_is_mirrored() -> None:
    image = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    np.testing.assert_array_equal(SquareCrop(2, 1, 3).cut(image), image[1:4, 2:5])
    square = SquareCrop(-2, -3, 11)
    expected = np.pad(image, ((3, 3), (2, 2), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(square.cut(image), expected)
    corner = np.pad(image[3:, 5:, 0], ((0, 2), (0, 2)), mode="reflect")
    np.testing.assert_array_equal(SquareCrop(5, 3, 4).cut(image[..., 0]), corner)
    copy = SquareCrop(0, 0, 2).cut(image)
    copy[:] = 0
    assert image[1, 1, 0] != 0
    with pytest.raises(ValueError, match="outside a frame of 7 x 5"):
        SquareCrop(7, 0, 4).cut(image)


def test_whole_covers_the_frame_centred() -> None:
    assert SquareCrop.whole(1920, 1080) == SquareCrop(0, -420, 1920)
    assert SquareCrop.whole(100, 101) == SquareCrop(-1, 0, 101)
    assert SquareCrop.whole(64, 64) == SquareCrop(0, 0, 64)


def test_points_there_and_back() -> None:
    square = SquareCrop(-13, 50, 201)
    xy = np.random.default_rng(0).uniform(-300, 300, (4, 9, 2))
    np.testing.assert_allclose(square.ndc_to_source(square.source_to_ndc(xy)), xy, atol=1e-10)
    corners = np.array([[-13, 50], [188, 251]], dtype=np.float32)
    assert square.source_to_ndc(corners).dtype == np.float32
    np.testing.assert_allclose(square.source_to_ndc(corners), [[-1, -1], [1, 1]], atol=1e-6)
    np.testing.assert_allclose(square.source_to_ndc([[square.center_x, square.center_y]]), [[0, 0]])


def test_a_point_keeps_its_pixel_in_the_cut_picture() -> None:
    image = np.random.default_rng(1).integers(0, 255, (30, 40), dtype=np.uint8)
    square = SquareCrop(7, -4, 25)
    cut = square.cut(image)
    x, y = 12, 9  # pixel indices; the continuous centre is half a pixel on
    ndc = square.source_to_ndc(np.array([x + 0.5, y + 0.5]))
    column, row = ((ndc + 1) / 2 * square.side - 0.5).round().astype(int)
    assert cut[row, column] == image[y, x]


def test_crop_around_takes_the_union_and_skips_frames_without_a_person() -> None:
    boxes = np.array(
        [[10, 20, 30, 60], [np.nan] * 4, [20, 10, 50, 40], [5, 5, 5, 5], [60, 20, 50, 40]]
    )
    square = crop_around(boxes, frame_size=(100, 200), factor=1.5)
    assert square == SquareCrop(left=-8, top=-2, side=75)  # union 10, 10, 50, 60
    wild = crop_around(np.array([[-900, 10, 9000, 60]]), frame_size=(100, 200), factor=1.0)
    assert wild == SquareCrop(0, -65, 200)
    with pytest.raises(ValueError, match="No person box"):
        crop_around(np.full((3, 4), np.nan), frame_size=(10, 10))
    with pytest.raises(ValueError, match=r"\(N, 4\)"):
        crop_around(np.zeros(4), frame_size=(10, 10))
    with pytest.raises(ValueError, match="factor is -1"):
        crop_around(boxes, frame_size=(10, 10), factor=-1)


def test_crops_lie_on_whole_pixels() -> None:
    assert SquareCrop(np.int64(3), np.int32(4), np.int64(5)) == SquareCrop(3, 4, 5)
    with pytest.raises(ValueError, match="whole pixels"):
        SquareCrop(0.5, 0, 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one pixel"):
        SquareCrop(0, 0, 0)


@pytest.mark.parity
def test_reference_boxes(fixtures_folder: Path) -> None:
    with np.load(fixtures_folder / "pipeline" / "crop.npz") as data:
        boxes = data["box_xyxy"]
        np.testing.assert_array_equal(crop.reference_union_box(boxes[:5]), data["union_first5"])
        for index, (height, width, factor) in enumerate(data["shape_hw_factor"]):
            frame_size = (int(height), int(width))
            enlarged = crop.reference_enlarge_box(boxes[index], frame_size, factor)
            np.testing.assert_array_equal(enlarged, data["enlarge"][index])
            padded = crop.reference_pad_box(enlarged, frame_size)
            np.testing.assert_array_equal(padded, data["pad"][index])
            active = crop.reference_active_box(boxes[index : index + 1], frame_size, factor)
            np.testing.assert_array_equal(active, data["fmt_active"][index])
            square = crop.reference_square_box(active, frame_size)
            np.testing.assert_array_equal(square, data["approx_square"][index])


@pytest.mark.parity
@pytest.mark.parametrize("case", [0, 1, 2])
def test_reference_crops(fixtures_folder: Path, case: int) -> None:
    with np.load(fixtures_folder / "pipeline" / "crop.npz") as data:
        name = f"crop{case}"
        result = crop.reference_crop(data["img_bgr"], data[f"{name}_box"], 64)
        difference = result.image.astype(int) - data[f"{name}_img"].astype(int)
        assert np.abs(difference).max() <= 1  # OpenCV's fixed-point resize differs between versions
        np.testing.assert_allclose(result.scale, data[f"{name}_scale"])
        np.testing.assert_allclose(result.start, data[f"{name}_start_pt"], atol=1e-5)
        np.testing.assert_allclose(result.center, data[f"{name}_center"], atol=1e-4)
        points = result.points(data[f"{name}_kps"])
        np.testing.assert_allclose(points, data[f"{name}_kps_out"], atol=1e-4)
        box = result.box(np.array([10, 12, 60, 80]))
        np.testing.assert_allclose(box, data[f"{name}_box_out"], atol=1e-5)
