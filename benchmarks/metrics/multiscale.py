"""MS-SSIM of uint8 pictures, on the whole frame and on the person (Wang, Simoncelli and Bovik 2003).

Everything is in float64 and over valid windows alone, so no border mode has a say. The filters and
the formula release the interpreter lock: give each thread its own pairs.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.metrics.arrays import Frames, Masks, Scores
from benchmarks.metrics.pixel import PERSON_THRESHOLD
from iper_toolkit.compiled import njit

# Table of Wang 2003, section 4: how much each scale weighs, finest first.
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW = 11
SIGMA = 1.5
# The coarsest scale must still hold one window.
SMALLEST_SIDE = WINDOW * 2 ** (len(WEIGHTS) - 1)

_C1 = (0.01 * 255) ** 2
_C2 = (0.03 * 255) ** 2
_REACH = WINDOW // 2

MULTISCALE_METRICS = ("ms_ssim", "ms_ssim_person")


def ms_ssim(generated: Frames, truth: Frames, mask: Masks | None = None) -> Scores:
    """MS-SSIM in [0, 1], 1 for identical pictures. (N, H, W, 3) uint8 twice -> (N,); see `scores`."""
    return scores(["ms_ssim"], generated, truth, mask)["ms_ssim"]


def ms_ssim_person(generated: Frames, truth: Frames, mask: Masks | None = None) -> Scores:
    """MS-SSIM over the windows whose centre is on the person; NaN where a scale has none."""
    return scores(["ms_ssim_person"], generated, truth, mask)["ms_ssim_person"]


def scores(
    names: Sequence[str], generated: Frames, truth: Frames, mask: Masks | None = None
) -> dict[str, Scores]:
    """Both forms of MS-SSIM in one walk: ``prod_k max(0, mean c_k)^w_k``.

    c_k is the contrast-structure map of scale k and, at the coarsest scale, the whole SSIM map
    (equation 7). Its mean is over windows and channels. A mean below 0, which no power takes, counts
    as 0: pictures that are opposites at one scale score 0. Between scales pictures are averaged over
    2x2 pixels; an odd last row or column falls away.

    The person form takes at each scale the windows whose centre is on the person: where at least
    half of the averaged mask is person.

    Args:
        names: of MULTISCALE_METRICS.
        generated, truth: (N, H, W, 3) uint8 RGB, at least 176 pixels a side.
        mask: (N, H, W) uint8; 128 and more is person. Needed by ms_ssim_person.

    Returns:
        (N,) float64 by name, in [0, 1] or NaN.

    Raises:
        ValueError: unknown names, unequal or too small pictures, no mask for the person.
        TypeError: pictures or masks that are not uint8.
    """
    _check(names, generated, truth, mask)
    columns: dict[str, Scores] = {name: np.empty(len(truth)) for name in names}
    for i in range(len(truth)):
        person = np.zeros(truth.shape[1:3]) if mask is None else mask[i] >= PERSON_THRESHOLD
        found = _score_pair(generated[i], truth[i], person.astype(np.float64))
        for name in names:
            columns[name][i] = found[name]
    return columns


def _score_pair(first: NDArray, second: NDArray, person: NDArray) -> dict[str, float]:
    pictures = np.concatenate([first, second], axis=2).astype(np.float64)
    frame, of_person = 1.0, 1.0
    for scale, weight in enumerate(WEIGHTS):
        if scale:
            pictures, person = _halve(pictures), _halve(person)
        contrast, similarity, num_windows, contrast_person, similarity_person, num_person = (
            _window_sums(_gaussian_means(pictures), person)
        )
        last = scale == len(WEIGHTS) - 1
        frame *= max(0.0, (similarity if last else contrast) / (3 * num_windows)) ** weight
        total = similarity_person if last else contrast_person
        # A scale without the person leaves the product undefined.
        of_person *= max(0.0, total / (3 * num_person)) ** weight if num_person else math.nan
    return {"ms_ssim": frame, "ms_ssim_person": of_person}


def _halve(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(H, W) or (H, W, C) -> means over 2x2, (H // 2, W // 2[, C])."""
    height, width = values.shape[0] // 2, values.shape[1] // 2
    # OpenCV's area resize to exactly half is the mean over 2x2.
    even = np.ascontiguousarray(values[: 2 * height, : 2 * width])
    halved = cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(halved, np.float64)


def _gaussian_means(pictures: NDArray[np.float64]) -> NDArray[np.float64]:
    """(H, W, 6) both pictures -> (H - 10, W - 10, 12) local means of x, y, x^2 + y^2 and x y."""
    means = cv2.sepFilter2D(_products(pictures), cv2.CV_64F, _GAUSSIAN, _GAUSSIAN)
    return np.asarray(means[_REACH:-_REACH, _REACH:-_REACH], np.float64)


def _gaussian() -> NDArray[np.float64]:
    weights = np.exp(-0.5 * (np.arange(-_REACH, _REACH + 1) / SIGMA) ** 2)
    return weights / weights.sum()


_GAUSSIAN = _gaussian()


@njit(nogil=True, boundscheck=False)
def _products(
    pictures: NDArray[np.float64],
) -> NDArray[np.float64]:  # pragma: no cover - compiled
    height, width = pictures.shape[:2]
    products = np.empty((height, width, 12))
    for row in range(height):
        for column in range(width):
            for channel in range(3):
                x, y = pictures[row, column, channel], pictures[row, column, channel + 3]
                products[row, column, channel] = x
                products[row, column, channel + 3] = y
                products[row, column, channel + 6] = x * x + y * y
                products[row, column, channel + 9] = x * y
    return products


@njit(nogil=True, error_model="numpy", boundscheck=False)
def _window_sums(
    means: NDArray[np.float64], person: NDArray[np.float64]
) -> tuple[float, float, int, float, float, int]:  # pragma: no cover - compiled
    """Sums of the contrast-structure and SSIM maps, and windows: of all, then of the person."""
    contrast_sum, similarity_sum, contrast_person, similarity_person = 0.0, 0.0, 0.0, 0.0
    num_person = 0
    height, width = means.shape[:2]
    for row in range(height):
        for column in range(width):
            contrasts, similarities = 0.0, 0.0
            for channel in range(3):
                x, y = means[row, column, channel], means[row, column, channel + 3]
                variances = means[row, column, channel + 6] - x * x - y * y
                covariance = means[row, column, channel + 9] - x * y
                contrast = (2 * covariance + _C2) / (variances + _C2)
                contrasts += contrast
                similarities += contrast * (2 * x * y + _C1) / (x * x + y * y + _C1)
            contrast_sum += contrasts
            similarity_sum += similarities
            if person[row + _REACH, column + _REACH] >= 0.5:
                contrast_person += contrasts
                similarity_person += similarities
                num_person += 1
    return (
        contrast_sum,
        similarity_sum,
        height * width,
        contrast_person,
        similarity_person,
        num_person,
    )


def _check(names: Sequence[str], generated: Frames, truth: Frames, mask: Masks | None) -> None:
    for name in names:
        if name not in MULTISCALE_METRICS:
            raise ValueError(
                f"Unknown MS-SSIM metric {name!r}. Choose of: {', '.join(MULTISCALE_METRICS)}."
            )
    for title, frames in (("generated", generated), ("truth", truth)):
        if frames.dtype != np.uint8:
            raise TypeError(f"{title} is {frames.dtype}; pictures are scored as uint8 RGB.")
        if frames.ndim != 4 or frames.shape[-1] != 3:
            raise ValueError(f"{title} is {frames.shape}; it must be (N, H, W, 3).")
    if generated.shape != truth.shape:
        raise ValueError(
            f"generated is {generated.shape} and truth is {truth.shape}; they must be equal."
        )
    if min(truth.shape[1:3]) < SMALLEST_SIDE:
        raise ValueError(
            f"Frames are {truth.shape[1:3]}; the five scales of MS-SSIM need {SMALLEST_SIDE} pixels "
            "a side. Score larger pictures, or leave MS-SSIM out."
        )
    if mask is None:
        if "ms_ssim_person" in names:
            raise ValueError("ms_ssim_person needs a mask of the person, and mask is None.")
    elif mask.dtype != np.uint8:
        raise TypeError(f"mask is {mask.dtype}; masks are uint8, 255 = person.")
    elif mask.shape != truth.shape[:3]:
        raise ValueError(f"mask is {mask.shape}; it must be {truth.shape[:3]}.")
