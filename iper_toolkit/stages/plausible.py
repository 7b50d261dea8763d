"""Whether a fit can be that of a person in the picture, and a mask that of the same person.

What no clip of a person has is a failure; what few have is a warning, a sentence that `iper prepare` prints.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from iper_toolkit.crop import SquareCrop

SMALLEST_PERSON = 16
"""Pixels from head to feet below which a clip fails: smaller people show neither face nor hands."""
SMALL_PERSON = 64
"""Pixels below which there is a warning."""
LARGEST_ERROR, LARGE_ERROR = 0.15, 0.05
"""Median distance of a fit to its keypoints over the person's size: beyond the first a failure, beyond the second a
warning. Fits of good keypoints have .01 to .02."""
MOST_OUTSIDE, MANY_OUTSIDE = 0.75, 0.2
"""Share of the sure joints that lie outside of the frame: close-ups have some, keypoints of another size nearly all."""
LEAST_OVERLAP, LITTLE_OVERLAP = 0.2, 0.4
"""Intersection over union of the mask and the body, median over the frames. Wide clothes and hair leave .5 and more."""
_WHOLE = 0.95  # share of the crop that a mask of everything covers
_SURE = 0.5  # confidence of joints that count as seen


def check_person_size(pixels: float, path: Path) -> None:
    """Refuse a person of a few pixels; `path` is what said so, keypoints or a fit."""
    if not pixels >= SMALLEST_PERSON:
        raise ValueError(
            f"{path}: the person would be {pixels:.3g} pixels large in the picture; at least {SMALLEST_PERSON} are "
            "needed. Are the numbers in pixels of this clip, and of this clip's size?"
        )


def check_keypoints(
    keypoints: NDArray[np.float32], frame_size: tuple[int, int], path: Path
) -> list[str]:
    """Refuse keypoints of which most lie outside of the frame.

    Args:
        keypoints: (T, 25, 3) x, y in source pixels, confidence.
        frame_size: (height, width).
        path: the keypoints' file.

    Returns:
        Warnings.
    """
    sure = keypoints[keypoints[..., 2] > _SURE]
    if not len(sure):
        sure = keypoints[keypoints[..., 2] > 0]
    if not len(sure):
        return []
    height, width = frame_size
    outside = (sure[:, :2] < 0).any(1) | (sure[:, 0] > width) | (sure[:, 1] > height)
    share = float(outside.mean())
    text = f"{path}: {share:.0%} of the joints that were found lie outside of the frame of {width} x {height} pixels."
    if share > MOST_OUTSIDE:
        raise ValueError(
            f"{text} Are these the keypoints of this clip, at its own size? Export them again."
        )
    return [text] if share > MANY_OUTSIDE else []


def check_error(
    error_pixels: NDArray[np.float32] | None, boxes: NDArray[np.float64], path: Path
) -> list[str]:
    """Refuse a fit that lies far from its keypoints. `error_pixels` (T,), `boxes` (T, 4) around the keypoints."""
    if error_pixels is None or not np.isfinite(error_pixels).any():
        return []
    size = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    relative = float(np.nanmedian(error_pixels / np.maximum(size, 1)))
    text = (
        f"{path}: the fitted body lies {relative:.0%} of the person's size away from the keypoints (median of the "
        f"frames, {np.nanmedian(error_pixels):.3g} pixels)."
    )
    if relative > LARGEST_ERROR:
        raise ValueError(f"{text} They are not the joints of one person: look at the keypoints.")
    return [f"{text} Look at the keypoints."] if relative > LARGE_ERROR else []


def check_silhouettes(heights: Sequence[int], crop: SquareCrop, side: int, path: Path) -> list[str]:
    """Refuse a body that is a few pixels large or hardly ever in the picture.

    Args:
        heights: of each frame the longer side of the silhouette's box; 0 where the body is outside of the crop.
        crop: the clip's.
        side: pixels of the silhouettes' side.
        path: the fit's, or the keypoints'.
    """
    longest = np.array(heights) * crop.side / side
    seen = longest > 0
    if not seen.any():
        raise ValueError(
            f"{path}: the fitted body lies outside of the picture in all frames. Check that the fit's cameras belong to "
            "this clip."
        )
    largest = float(np.median(longest[seen]))
    check_person_size(largest, path)
    warnings = []
    if seen.mean() < 1 - MANY_OUTSIDE:
        warnings.append(
            f"{path}: the fitted body lies outside of the picture in {(~seen).sum()} of {len(seen)} frames."
        )
    if largest < SMALL_PERSON:
        warnings.append(
            f"{path}: the person is {largest:.0f} pixels large; little can be learned from that."
        )
    return warnings


def check_overlap(
    overlaps: Sequence[float], inverted: Sequence[float], areas: Sequence[float], path: Path
) -> list[str]:
    """Refuse masks of something else than the person.

    Args:
        overlaps: intersection over union of mask and body, of the frames that show both or one.
        inverted: the same for the mask turned inside out.
        areas: share of the crop that is mask, of the same frames.
        path: the masks'.
    """
    if not len(overlaps):
        return []
    found, turned, area = (float(np.median(values)) for values in (overlaps, inverted, areas))
    text = f"{path}: the masks hardly overlap the fitted body (intersection over union {found:.2f}, median of the frames)."
    if area > _WHOLE:
        raise ValueError(
            f"{path}: the masks cover {area:.0%} of the crop, so they show no person. Store 255 on the person and 0 "
            "elsewhere."
        )
    if turned > max(found, LITTLE_OVERLAP):
        raise ValueError(f"{text} They are inverted: store 255 on the person and 0 elsewhere.")
    if found < LEAST_OVERLAP:
        raise ValueError(
            f"{text} They show something else, or the fit is that of another person or clip. Correct or remove them."
        )
    return [f"{text} Look at them."] if found < LITTLE_OVERLAP else []
