"""The weak-perspective camera, NDC and pixels, and the same camera seen from another square.

A camera is ``(s, tx, ty)``: ``xy = s * (XY + (tx, ty))``. NDC covers a square picture with [-1, 1],
x right and y down, edge to edge (pixel ``i`` of ``S`` has its centre at ``(2 i + 1) / S - 1``).
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from iper_toolkit.crop import SquareCrop
from iper_toolkit.rotations import quaternion_to_matrix

# Side in pixels of the square that the HMR and SPIN regressors look at.
REGRESSOR_SIZE = 224

CameraStrategy = Literal["smooth", "source", "copy", "ref_txty", "smooth-2019"]


def project_weak_perspective(points: Tensor, camera: Tensor) -> Tensor:
    """Project body points with the HMR camera: ``xy = s * (XY + t)`` (Kanazawa 2018).

    Args:
        points: (..., V, 3) float, metres, y down (a posed body).
        camera: (..., 3) float, ``(s, tx, ty)``; ``s`` in NDC per metre, ``t`` in metres.

    Returns:
        (..., V, 2) float, NDC: [-1, 1], +x right, +y down.
    """
    scale, shift = camera[..., None, :1], camera[..., None, 1:]
    return scale * (points[..., :2] + shift)


def project(points: Tensor, camera: Tensor, *, depth_offset: float = 0.0) -> Tensor:
    """Like `project_weak_perspective`, with the depth kept: the rasterizer's input.

    Args:
        points: (..., V, 3) float, metres; larger z is farther from the viewer.
        camera: (..., 3) float.
        depth_offset: metres, added to z.

    Returns:
        (..., V, 3): NDC x and y, and z in metres, not scaled.
    """
    return torch.cat(
        [project_weak_perspective(points, camera), points[..., 2:] + depth_offset], dim=-1
    )


def project_rotated(points: Tensor, camera: Tensor) -> Tensor:
    """Turn the points, then `project` them: the seven-number camera of HMR's relatives.

    Args:
        points: (..., V, 3) float, metres.
        camera: (..., 7) float: ``(s, tx, ty)`` and a quaternion ``(w, x, y, z)``.

    Returns:
        (..., V, 3): NDC x and y, and z of the turned points in metres.
    """
    turned = points @ quaternion_to_matrix(camera[..., 3:]).transpose(-1, -2)
    return project(turned, camera[..., :3])


def project_perspective(
    points: Tensor, translation: Tensor, *, focal_length: float, centre: tuple[float, float]
) -> Tensor:
    """Pinhole camera without rotation: ``u = f X / Z + cx`` (SMPLify, SPIN).

    Args:
        points: (..., V, 3) float, metres.
        translation: (..., 3) float, metres, added to the points.
        focal_length: pixels.
        centre: (cx, cy), pixels.

    Returns:
        (..., V, 2) float, pixels.
    """
    seen = points + translation[..., None, :]
    return focal_length * seen[..., :2] / seen[..., 2:] + seen.new_tensor(centre)


def pixels_to_ndc(xy: Tensor, size: int | tuple[int, int]) -> Tensor:
    """(..., 2) pixel indices (x, y) -> NDC, as ``align_corners=False``.

    `size` is (height, width), or one number for a square.
    """
    return (xy + 0.5) * 2 / _extent(xy, size) - 1


def ndc_to_pixels(xy: Tensor, size: int | tuple[int, int]) -> Tensor:
    """(..., 2) NDC -> pixel indices (x, y), fractions kept; inverse of `pixels_to_ndc`."""
    return (xy + 1) / 2 * _extent(xy, size) - 0.5


def camera_across_crop(camera: Tensor, source: SquareCrop, target: SquareCrop) -> Tensor:
    """The camera that puts the same body on the same source pixels in another square's NDC. Exact.

    Args:
        camera: (..., 3) float in the NDC of `source`; its scale is not zero.
        source, target: two squares of the same frame.

    Returns:
        (..., 3) float in the NDC of `target`.
    """
    ratio = source.side / target.side
    # Where NDC (0, 0) of the source square lies in the target's NDC.
    origin = camera.new_tensor(
        [
            2 * (source.center_x - target.center_x) / target.side,
            2 * (source.center_y - target.center_y) / target.side,
        ]
    )
    scale = camera[..., :1] * ratio
    return torch.cat([scale, camera[..., 1:] + origin / scale], dim=-1)


def transfer_camera(
    source: Tensor, driver: Tensor, first_driver: Tensor, strategy: CameraStrategy = "smooth"
) -> Tensor:
    """The camera under which a source person performs a driver's motion.

    Args:
        source: (..., 3) camera of the source picture.
        driver: (..., 3) cameras of the driving frames.
        first_driver: (..., 3) camera of the first driving frame.
        strategy: ``smooth`` moves and scales relative to the first driving frame; ``source`` stands
            still; ``copy`` is the driver's; ``ref_txty`` has the source's scale at the driver's
            place; ``smooth-2019`` is ``smooth`` with the source's scale (the ICCV 2019 release).

    Returns:
        (..., 3) cameras, one for each driving frame.
    """
    source, driver, first_driver = torch.broadcast_tensors(source, driver, first_driver)
    moved = source[..., 1:] + driver[..., 1:] - first_driver[..., 1:]
    if strategy == "smooth":
        scale = source[..., :1] * driver[..., :1] / first_driver[..., :1]
        return torch.cat([scale, moved], dim=-1)
    if strategy == "smooth-2019":
        return torch.cat([source[..., :1], moved], dim=-1)
    if strategy == "ref_txty":
        return torch.cat([source[..., :1], driver[..., 1:]], dim=-1)
    if strategy == "source":
        return source.clone()
    if strategy == "copy":
        return driver.clone()
    raise ValueError(
        f"Unknown camera strategy {strategy!r}. Choose one of: {', '.join(get_args(CameraStrategy))}."
    )


def regressor_camera_to_frame(
    camera: Tensor, crop_scale: Tensor, crop_start: Tensor, frame_size: Tensor
) -> tuple[Tensor, Tensor]:
    """From the square that a regressor saw to the whole picture (SPIN as iPERCore feeds it).

    The picture was scaled by `crop_scale`, padded with `REGRESSOR_SIZE` zeros on every side, and a
    square of `REGRESSOR_SIZE` was cut out whose upper left corner is `crop_start`.

    Args:
        camera: (..., 3) in NDC of the cut square.
        crop_scale: (..., 1) pixels of the scaled picture per pixel of the frame.
        crop_start: (..., 2) x and y in the padded picture.
        frame_size: (..., 1) side of the frame in pixels; the frame is square.

    Returns:
        Two (..., 3) cameras: in pixels of the frame (``xy = s (XY + t)``), and in the frame's NDC.
    """
    crop_pixels = _ndc_camera_to_pixels(camera, REGRESSOR_SIZE)
    scale = crop_pixels[..., :1] / crop_scale
    shift = crop_pixels[..., 1:] + (crop_start - REGRESSOR_SIZE) / crop_pixels[..., :1]
    pixels = torch.cat([scale, shift], dim=-1)
    return pixels, _pixel_camera_to_ndc(pixels, frame_size)


def frame_camera_to_regressor(camera: Tensor, crop_scale: Tensor, crop_start: Tensor) -> Tensor:
    """Inverse of `regressor_camera_to_frame`: (..., 3) in frame pixels -> NDC of the cut square."""
    scale = camera[..., :1] * crop_scale
    shift = camera[..., 1:] + (REGRESSOR_SIZE - crop_start) / scale
    return _pixel_camera_to_ndc(torch.cat([scale, shift], dim=-1), REGRESSOR_SIZE)


def head_box(keypoints: Tensor, size: int) -> Tensor:
    """Box of the head in a square picture, as the reference's face discriminator cuts it.

    Args:
        keypoints: (..., 19, 2) NDC, HMR's 19 keypoints; 12 (neck) to 18 make the head.
        size: side of the picture in pixels.

    Returns:
        (..., 4) int64: min_x, max_x, min_y, max_y, truncated to pixels and clamped to the picture.
    """
    margin = 0.05  # of the picture; none below the neck
    unit = (_nineteen(keypoints)[..., 12:, :] + 1) / 2
    low = (unit.amin(-2) - margin).clamp_min(0)
    high = (unit.amax(-2) + unit.new_tensor([margin, 0])).clamp_max(1)
    return _interleave(low * size, high * size)


def body_box(keypoints: Tensor, size: int, factor: float = 1.25) -> Tensor:
    """Box around all 19 keypoints, enlarged by `factor` about its centre; as `head_box`."""
    unit = (_nineteen(keypoints) + 1) / 2
    low, high = unit.amin(-2), unit.amax(-2)
    centre, half = (low + high) / 2, (high - low) / 2 * factor
    return _interleave((centre - half).clamp_min(0) * size, (centre + half).clamp_max(1) * size)


def mask_box(masks: Tensor, factor: float = 1.25) -> tuple[Tensor, Tensor]:
    """Box around what is not zero in each mask, enlarged by `factor`.

    Args:
        masks: (N, H, W) float.
        factor: how much larger than the extent of the mask.

    Returns:
        (N, 4) int64 min_x, max_x, min_y, max_y, and (N,) bool. An empty mask gets the whole picture
        and False.
    """
    height, width = masks.shape[-2:]
    boxes = torch.tensor([[0, width, 0, height]]).repeat(len(masks), 1)
    valid = torch.zeros(len(masks), dtype=torch.bool)
    for index, mask in enumerate(masks.cpu()):
        y, x = torch.nonzero(mask, as_tuple=True)
        if len(x) == 0:
            continue
        for axis, (values, limit) in enumerate(((x, width), (y, height))):
            low, high = int(values.min()), int(values.max())
            centre, half = (low + high) // 2, (high - low) * factor / 2
            boxes[index, 2 * axis] = max(0, int(centre - half))
            boxes[index, 2 * axis + 1] = min(limit, int(centre + half))
        valid[index] = True
    return boxes.to(masks.device), valid.to(masks.device)


def _ndc_camera_to_pixels(camera: Tensor, size: Tensor | float) -> Tensor:
    return torch.cat([camera[..., :1] * size / 2, camera[..., 1:] + 1 / camera[..., :1]], dim=-1)


def _pixel_camera_to_ndc(camera: Tensor, size: Tensor | float) -> Tensor:
    scale = camera[..., :1]
    return torch.cat([2 * scale / size, camera[..., 1:] - size / (2 * scale)], dim=-1)


def _extent(xy: Tensor, size: int | tuple[int, int]) -> Tensor:
    """(width, height) as a tensor like `xy`."""
    height, width = (size, size) if isinstance(size, int) else size
    return xy.new_tensor([width, height])


def _nineteen(keypoints: Tensor) -> Tensor:
    if keypoints.shape[-2:] != (19, 2):
        raise ValueError(f"keypoints are {tuple(keypoints.shape)}; they must be (..., 19, 2).")
    return keypoints


def _interleave(low: Tensor, high: Tensor) -> Tensor:
    """(..., 2) twice, pixels -> (..., 4) int64 min_x, max_x, min_y, max_y; truncates."""
    return torch.stack([low, high], dim=-1).flatten(-2).long()
