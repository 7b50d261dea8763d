"""The background behind a person: what was seen there at other times, and a guess for the rest."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

_ROWS_AT_ONCE = 8  # of 24 pictures fit the caches
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
    """Lower median of (N, H, W, 3) images where not `people` (N, H, W); and where there was none.

    Values on the person become 0 or 255, as many of each as leave the median of the others in the
    middle. So all pixels take the same comparisons, and whole rows of them are done at once.
    """
    count, height = images.shape[:2]
    middle = (count - 1) // 2
    comparisons = _median_network(count, middle)
    plate: NDArray[np.uint8] = np.empty(images.shape[1:], np.uint8)
    never_seen = np.asarray(people.all(axis=0))
    for first in range(0, height, _ROWS_AT_ONCE):
        rows = slice(first, first + _ROWS_AT_ONCE)
        covered = people[:, rows]
        num_free = count - covered.sum(0, dtype=np.int16)
        num_low = middle - (num_free - 1) // 2
        fill = np.where(covered.cumsum(0, dtype=np.int16) <= num_low, np.uint8(0), np.uint8(255))
        values = list(np.where(covered[..., None], fill[..., None], images[:, rows]))
        for low, high in comparisons:
            values[low], values[high] = (
                np.minimum(values[low], values[high]),
                np.maximum(values[low], values[high]),
            )
        plate[rows] = values[middle]
    plate[never_seen] = 0
    return plate, never_seen


def _median_network(count: int, place: int) -> list[tuple[int, int]]:
    """Batcher's sorting network (Knuth 5.2.2 M), less what does not reach one place of the result."""
    comparisons = []
    highest = 1 << max(0, (count - 1).bit_length() - 1)
    step = highest
    while step:
        offset, distance, jump = 0, step, highest
        while True:
            comparisons += [
                (i, i + distance) for i in range(count - distance) if i & step == offset
            ]
            if jump == step:
                break
            distance, jump, offset = jump - step, jump // 2, step
        step //= 2
    needed, kept = {place}, []
    for low, high in reversed(comparisons):
        if low in needed or high in needed:
            needed |= {low, high}
            kept.append((low, high))
    return kept[::-1]


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
