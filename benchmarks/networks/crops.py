"""From pictures to what judges take: a box cut out and resized. The correct form, and the official package's."""

import torch
from torch import Tensor
from torch.nn import functional

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# The official package's detector and what it does to boxes.
_DETECTOR_SIDE = 416  # pixels; its boxes are rescaled as if the picture had come in at this size
_ENLARGED = 1.05
_MOST_OBJECTNESS, _OVERLAP = 0.8, 0.4
_PERSON = 0


def crop_and_resize(frames: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut a box out of each picture and resize it with an antialiased triangle filter.

    The filter is that of ``interpolate(mode="bilinear", antialias=True, align_corners=False)``, for boxes with
    fractions, too. A picture's crop depends on nothing but the picture and its box.

    Args:
        frames: (N, H, W, 3) uint8, on any device.
        boxes: (N, 4) float64 x0, y0, x1, y1 in pixels, finite; cut at the border.
        size: (height, width) wanted.

    Returns:
        (N, 3, height, width) float32 in [0, 1].

    Raises:
        ValueError: a box lies outside its picture, or is empty.
    """
    height, width = frames.shape[1:3]
    limit = boxes.new_tensor([width, height, width, height])
    cut = torch.minimum(boxes.double().clamp(min=0), limit.double())
    if len(cut) and not (cut[:, 2:] > cut[:, :2]).all():
        raise ValueError(
            f"Boxes {boxes.tolist()} are not all inside pictures of {width} x {height}; leave out what has no box."
        )
    crops = []
    for frame, box in zip(frames, cut, strict=True):
        picture = frame.permute(2, 0, 1).float() / 255
        down = _weights(float(box[1]), float(box[3]), height, size[0]).to(frame.device)
        across = _weights(float(box[0]), float(box[2]), width, size[1]).to(frame.device)
        crops.append(down @ picture @ across.T)
    return torch.stack(crops) if crops else frames.new_zeros((0, 3, *size), dtype=torch.float32)


def _weights(start: float, end: float, length: int, out: int) -> Tensor:
    """(out, length) float32: how much of each pixel of a line goes into each of the wanted ones."""
    scale = (end - start) / out
    centres = start + (torch.arange(out, dtype=torch.float64) + 0.5) * scale
    reach = max(scale, 1.0)
    pixels = torch.arange(length, dtype=torch.float64) + 0.5
    weights = (1 - (pixels - centres[:, None]).abs() / reach).clamp(min=0)
    # Pixels outside the box take no part, as if the crop had been cut out first.
    inside = (pixels > start - 0.5) & (pixels < end + 0.5)
    weights = weights * inside
    return (weights / weights.sum(1, keepdim=True)).float()


def official_crop(
    frame: Tensor,
    box: tuple[int, int, int, int] | None,
    size: tuple[int, int],
    *,
    detector: bool = True,
) -> Tensor:
    """The official package's crop: no antialiasing, corners aligned, colours normalised before the resize.

    Args:
        frame: (H, W, 3) uint8.
        box: x0, y0, x1, y1, whole numbers; None: the whole picture.
        size: (height, width) wanted.
        detector: whether a detector was on; without one the package forgets to normalise colours.

    Returns:
        (1, 3, height, width) float32.
    """
    picture = frame.permute(2, 0, 1)[None].float() / 255
    if box is not None:
        left, top, right, bottom = box
        picture = picture[:, :, top:bottom, left:right]
    if detector:
        mean, std = (picture.new_tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
        picture = (picture - mean) / std
    return functional.interpolate(picture, size, mode="bilinear", align_corners=True)


def official_box_rescale(box: Tensor, side: int) -> tuple[int, int, int, int] | None:
    """A person's box as the official package passes it on: wrong by S / 416, enlarged, cut, whole numbers.

    Args:
        box: (4,) x0, y0, x1, y1 in a picture of `side` pixels.
        side: S.

    Returns:
        The box, or None where nothing of it is left in the picture: the package would crash there.
    """
    scaled = box * (side / _DETECTOR_SIDE)
    centre, half = (scaled[:2] + scaled[2:]) / 2, (scaled[2:] - scaled[:2]) / 2 * _ENLARGED
    corners = torch.cat([centre - half, centre + half]).clamp(0, side)
    left, top, right, bottom = (int(value) for value in corners)
    return (left, top, right, bottom) if right > left and bottom > top else None


def official_person_box(found: Tensor, side: int) -> tuple[int, int, int, int] | None:
    """The largest person of YOLOv3's raw output, by the official package's rules.

    Args:
        found: (K, 85) float: centre x, y, width, height, objectness, 80 classes.
        side: of the picture that the network saw, pixels.

    Returns:
        The box of `official_box_rescale`; None where there is no person.
    """
    found = found[found[:, 4] >= _MOST_OBJECTNESS]
    if not len(found):
        return None
    centre, half = found[:, :2], found[:, 2:4] / 2
    boxes = torch.cat([centre - half, centre + half], dim=1)
    scores, classes = found[:, 4], found[:, 5:].argmax(1)
    order = (scores * found[:, 5:].amax(1)).argsort(descending=True)
    best: Tensor | None = None
    largest = -1.0
    while len(order):
        first = order[0]
        overlaps = _overlap(boxes[first], boxes[order]) > _OVERLAP
        same = overlaps & (classes[order] == classes[first])
        same[0] = True
        group = order[same]
        weights = scores[group][:, None]
        merged = (weights * boxes[group]).sum(0) / weights.sum()
        area = float((merged[2] - merged[0]) * (merged[3] - merged[1]))
        if int(classes[first]) == _PERSON and area > largest:
            best, largest = merged, area
        order = order[~same]
    return None if best is None else official_box_rescale(best, side)


def _overlap(box: Tensor, others: Tensor) -> Tensor:
    """Intersection over union in whole pixels: both ends count, so 1 is added to every length."""
    low, high = torch.maximum(box[:2], others[:, :2]), torch.minimum(box[2:], others[:, 2:])
    inside = (high - low + 1).clamp(min=0).prod(1)
    areas = [(one[..., 2:] - one[..., :2] + 1).prod(-1) for one in (box, others)]
    return inside / (areas[0] + areas[1] - inside)
