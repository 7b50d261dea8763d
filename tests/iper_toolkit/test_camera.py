"""Cameras: closed forms, crops seen through each other, and the reference's numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch

from iper_toolkit import camera
from iper_toolkit.crop import SquareCrop


def test_weak_perspective_in_closed_form() -> None:
    points = torch.tensor([[1.0, 2.0, 3.0], [-1.0, 0.5, -2.0]])
    view = torch.tensor([0.5, 0.2, -1.0])
    expected = torch.tensor([[0.6, 0.5, 3.0], [-0.4, -0.25, -2.0]])
    torch.testing.assert_close(camera.project(points, view), expected)
    torch.testing.assert_close(camera.project_weak_perspective(points, view), expected[:, :2])
    deeper = camera.project(points, view, depth_offset=5.0)
    torch.testing.assert_close(deeper[:, 2], expected[:, 2] + 5)


@pytest.mark.parametrize("count", [1, 3, 4])
def test_a_batch_equals_a_loop(count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    points, views = (
        torch.randn(count, 5, 3, generator=generator),
        torch.randn(count, 7, generator=generator),
    )
    rotated = camera.project_rotated(points, views)
    for index in range(count):
        torch.testing.assert_close(
            rotated[index], camera.project_rotated(points[index], views[index])
        )


def test_pixels_and_ndc() -> None:
    corners = torch.tensor([[0.0, 0.0], [3.0, 1.0]])
    expected = torch.tensor([[-0.75, -0.5], [0.75, 0.5]])  # (2 i + 1) / S - 1
    torch.testing.assert_close(camera.pixels_to_ndc(corners, (2, 4)), expected)
    torch.testing.assert_close(camera.ndc_to_pixels(expected, (2, 4)), corners)
    xy = torch.randn(7, 2, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(camera.ndc_to_pixels(camera.pixels_to_ndc(xy, 31), 31), xy)


def test_a_camera_in_another_square_hits_the_same_source_pixels() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(6, 9, 3, generator=generator).double()
    views = torch.randn(6, 3, generator=generator).double()
    views[:, 0] = views[:, 0].abs() + 0.2
    source, target = SquareCrop(-31, 12, 377), SquareCrop(40, -7, 128)
    moved = camera.camera_across_crop(views, source, target)
    before = source.ndc_to_source(camera.project_weak_perspective(points, views).numpy())
    after = target.ndc_to_source(camera.project_weak_perspective(points, moved).numpy())
    np.testing.assert_allclose(after, before, atol=1e-9)
    back = camera.camera_across_crop(moved, target, source)
    torch.testing.assert_close(back, views, atol=1e-12, rtol=0)


def test_strategies_at_the_first_frame_and_unknown() -> None:
    source, first = torch.tensor([0.8, 0.1, 0.2]), torch.tensor([1.2, -0.3, 0.4])
    torch.testing.assert_close(camera.transfer_camera(source, first, first, "smooth"), source)
    drivers = torch.stack([first, first + 1])
    assert camera.transfer_camera(source, drivers, first).shape == (2, 3)
    with pytest.raises(ValueError, match=r"'fixed'.*smooth, source, copy"):
        camera.transfer_camera(source, first, first, "fixed")  # type: ignore[arg-type]


def test_regressor_camera_there_and_back() -> None:
    generator = torch.Generator().manual_seed(3)
    view = torch.rand(5, 3, generator=generator).double() + 0.3
    scale = torch.rand(5, 1, generator=generator).double() + 0.5
    start = torch.rand(5, 2, generator=generator).double() * 300
    pixels, _ = camera.regressor_camera_to_frame(view, scale, start, torch.tensor([[512.0]]))
    again = camera.frame_camera_to_regressor(pixels, scale, start)
    torch.testing.assert_close(again, view)


def test_boxes_check_their_keypoints() -> None:
    with pytest.raises(ValueError, match=r"\(24, 2\).*19, 2"):
        camera.head_box(torch.zeros(24, 2), 64)


@pytest.mark.parity
def test_reference_cameras(fixtures_folder: Path) -> None:
    with np.load(fixtures_folder / "pipeline" / "camera.npz") as file:
        data = {name: torch.from_numpy(file[name]) for name in file.files}

    def close(result: torch.Tensor, name: str, tolerance: float = 1e-5) -> None:
        np.testing.assert_allclose(result, data[name], atol=tolerance, rtol=1e-5, err_msg=name)

    close(camera.project_weak_perspective(data["X"], data["cam"]), "proj_xy")
    close(camera.project(data["X"], data["cam"]), "proj_withz")
    close(camera.project(data["X"], data["cam"], depth_offset=5.0), "proj_withz_off")
    close(camera.project_rotated(data["X"], data["cam7"]), "proj_quat_withz")
    pixels, ndc = camera.regressor_camera_to_frame(
        data["net_cam"], data["crop_scale"], data["start_pt"], data["im_h"]
    )
    close(pixels, "cam_orig", 1e-4)
    close(ndc, "cam_norm")
    for strategy, name in (
        ("smooth", "swap_smooth"),
        ("ref_txty", "swap_ref_txty"),
        ("source", "swap_source"),
        ("copy", "swap_copy"),
        ("smooth-2019", "swap_iccv2019_smooth"),
    ):
        close(
            camera.transfer_camera(
                data["src_cam"],
                data["ref_cam"],
                data["first_cam"],
                strategy,  # type: ignore[arg-type]
            ),
            name,
        )
    close(camera.head_box(data["kps19"], 512), "head_bbox_512", 0)
    close(camera.body_box(data["kps19"], 512, 1.25), "body_bbox_512_f125", 0)
    close(camera.body_box(data["kps19"], 512, 1.2), "body_bbox_512_f12", 0)
    boxes, valid = camera.mask_box(data["mask"][:, 0])
    close(boxes, "mask_bbox_f125", 0)
    close(valid, "mask_bbox_valid", 0)


@pytest.mark.parity
def test_reference_perspective(fixtures_folder: Path) -> None:
    with np.load(fixtures_folder / "pipeline" / "rotations.npz") as file:
        points, translation, expected = (
            torch.from_numpy(file[name])
            for name in ("persp_points", "persp_trans", "persp_proj_f5000_c112")
        )
    result = camera.project_perspective(
        points, translation, focal_length=5000.0, centre=(112.0, 112.0)
    )
    np.testing.assert_allclose(result, expected, rtol=1e-5)
