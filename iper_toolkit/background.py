"""The background behind a person: what was seen there at other times, and a guess for the rest."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

_INPAINT_RADIUS_PIXELS = 5
_INPAINT_SIDE = 256  # a guess has no detail; at this size it takes a tenth of the time


def background_plate(
    images: Sequence[NDArray[np.uint8]], people: Sequence[NDArray[np.bool_]]
) -> NDArray[np.uint8]:
    """The temporal median over the frames in which a pixel is not on the person.

    Args:
        images: (H, W, 3) uint8 frames of a camera that stands still.
        people: (H, W) bool, True where the person (and a margin around) is.

    Returns:
        (H, W, 3) uint8. Pixels that no frame shows free are inpainted (Telea 2004).
    """
    if not images:
        raise ValueError("There is no image to take the background from.")
    plate, never_seen = _masked_median(np.stack(images), np.stack(people))
    if never_seen.all():
        raise ValueError(
            "The person covers the whole crop in every sampled frame; check the masks or the fit."
        )
    return _fill(plate, never_seen) if never_seen.any() else plate


def grow(mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Mask (H, W) uint8 -> bool with a margin of 1/60 of the height: soft edges, motion blur."""
    radius = max(1, round(mask.shape[0] / 60))
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return np.asarray(cv2.dilate(mask, ellipse) > 8)


def _masked_median(
    images: NDArray[np.uint8], people: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Lower median of (N, H, W, 3) images where not `people` (N, H, W); and where there was none."""
    plate = np.zeros(images.shape[1:], np.uint8)
    never_seen = np.zeros(images.shape[1:3], np.bool_)
    _take_medians(images, people, plate, never_seen)
    return plate, never_seen


@njit(cache=True, nogil=True, boundscheck=False)
def _take_medians(
    images: NDArray[np.uint8],
    people: NDArray[np.bool_],
    plate: NDArray[np.uint8],
    never_seen: NDArray[np.bool_],
) -> None:  # pragma: no cover - compiled
    """Insertion sort a pixel: few values, and a quarter of the time of sorting whole arrays."""
    count, height, width, channels = images.shape
    ordered = np.empty((channels, count), np.uint8)
    for row in range(height):
        for column in range(width):
            free = 0
            for index in range(count):
                if people[index, row, column]:
                    continue
                for channel in range(channels):
                    value = images[index, row, column, channel]
                    place = free
                    while place > 0 and ordered[channel, place - 1] > value:
                        ordered[channel, place] = ordered[channel, place - 1]
                        place -= 1
                    ordered[channel, place] = value
                free += 1
            never_seen[row, column] = free == 0
            if free:
                for channel in range(channels):
                    plate[row, column, channel] = ordered[channel, (free - 1) // 2]


def _fill(plate: NDArray[np.uint8], hole: NDArray[np.bool_]) -> NDArray[np.uint8]:
    height, width = hole.shape
    shrink = max(1.0, max(height, width) / _INPAINT_SIDE)
    small = (round(width / shrink), round(height / shrink))
    known = (~hole).astype(np.float32)
    # Averages of known pixels alone: the hole's own values must not bleed into its rim.
    weight = cv2.resize(known, small, interpolation=cv2.INTER_AREA)
    total = cv2.resize(plate * known[..., None], small, interpolation=cv2.INTER_AREA)
    reduced = (total / np.maximum(weight, 1e-6)[..., None]).round().clip(0, 255).astype(np.uint8)
    empty = (weight < 0.5).astype(np.uint8)
    guess = cv2.inpaint(reduced, empty, _INPAINT_RADIUS_PIXELS, cv2.INPAINT_TELEA)
    guess = cv2.resize(guess, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.where(hole[..., None], guess, plate).astype(np.uint8)
