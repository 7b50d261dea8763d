"""SSIM, PSNR and L1 of uint8 pictures, on the whole frame and on the person.

SSIM's window sums are exact integers and its formula is in float64: all-float32 code is off by more
than 1e-6 on flat pictures. One pass gives the SSIM of the frame, of the person and of the official
package. Everything releases the interpreter lock: give each thread its own pairs.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.metrics.arrays import Frames, Masks, Scores
from iper_toolkit.compiled import njit

# SSIM (Wang 2004) as scikit-image computes it by default: 7x7 uniform window, sample covariance.
WINDOW = 7
_AREA = WINDOW * WINDOW
_C1 = (0.01 * 255) ** 2
_C2 = (0.03 * 255) ** 2

PERSON_THRESHOLD = 128

# The lowest PSNR of the official package's form: black against white where its range is 1.
OFFICIAL_PSNR_MINIMUM = -10 * math.log10(4)


def ssim(generated: Frames, truth: Frames, mask: Masks | None = None) -> Scores:
    """Standard SSIM over all valid windows, mean of the three channels. (N, H, W, 3) twice -> (N,)."""
    return scores(["ssim"], generated, truth, mask)["ssim"]


def ssim_person(generated: Frames, truth: Frames, mask: Masks | None = None) -> Scores:
    """Standard SSIM over the windows whose centre lies on the person; NaN where there is none."""
    return scores(["ssim_person"], generated, truth, mask)["ssim_person"]


def ssim_official(generated: Frames, truth: Frames, mask: Masks | None = None) -> Scores:
    """SSIM of pictures mapped to [-1, 1] with range 2. SSIM is not shift invariant: other numbers."""
    return scores(["ssim_official"], generated, truth, mask)["ssim_official"]


def psnr(generated: Frames, truth: Frames, mask: Masks | None = None) -> Scores:
    """``10 log10(255^2 / MSE)`` of all pixels and channels, as if at least one value were one grey level off."""
    return scores(["psnr"], generated, truth, mask)["psnr"]


def psnr_person(generated: Frames, truth: Frames, mask: Masks | None = None) -> Scores:
    """PSNR over the pixels of the person, finite as `psnr` is; NaN where there are none."""
    return scores(["psnr_person"], generated, truth, mask)["psnr_person"]


def psnr_official(generated: Frames, truth: Frames, mask: Masks | None = None) -> Scores:
    """PSNR with the range guessed from the truth: 1 instead of 2 where it has no value below 128.

    Identical pictures give +inf, as they do in the official package.
    """
    return scores(["psnr_official"], generated, truth, mask)["psnr_official"]


def l1(generated: Frames, truth: Frames, mask: Masks | None = None) -> Scores:
    """Mean absolute difference of all pixels and channels, as a share of the range: [0, 1]."""
    return scores(["l1"], generated, truth, mask)["l1"]


def l1_person(generated: Frames, truth: Frames, mask: Masks | None = None) -> Scores:
    """Mean absolute difference over the pixels of the person, [0, 1]; NaN where there are none."""
    return scores(["l1_person"], generated, truth, mask)["l1_person"]


PIXEL_METRICS = (
    "ssim",
    "ssim_person",
    "ssim_official",
    "psnr",
    "psnr_person",
    "psnr_official",
    "l1",
    "l1_person",
)


def scores(
    names: Sequence[str], generated: Frames, truth: Frames, mask: Masks | None = None
) -> dict[str, Scores]:
    """Several pixel metrics at once: each pair is walked once for SSIM and once for the errors.

    Args:
        names: of PIXEL_METRICS.
        generated, truth: (N, H, W, 3) uint8 RGB, at least 7 pixels a side.
        mask: (N, H, W) uint8; 128 and more is person. Needed by the metrics named ``..._person``.

    Returns:
        (N,) float64 by name.
    """
    _check(names, generated, truth, mask)
    columns: dict[str, Scores] = {name: np.empty(len(truth)) for name in names}
    needs_ssim = any(name.startswith("ssim") for name in names)
    needs_errors = not all(name.startswith("ssim") for name in names)
    nobody = np.zeros(truth.shape[1:3], np.uint8)
    for i in range(len(truth)):
        # Rows of interleaved channels: a window's neighbour is three bytes away.
        first = np.ascontiguousarray(generated[i]).reshape(truth.shape[1], -1)
        second = np.ascontiguousarray(truth[i]).reshape(truth.shape[1], -1)
        person = nobody if mask is None else np.ascontiguousarray(mask[i])
        found: dict[str, float] = {}
        if needs_ssim:
            found |= _ssim_means(first, second, person)
        if needs_errors:
            found |= _error_means(first, second, person)
        for name in names:
            columns[name][i] = found[name]
    return columns


def _check(names: Sequence[str], generated: Frames, truth: Frames, mask: Masks | None) -> None:
    for name in names:
        if name not in PIXEL_METRICS:
            raise ValueError(
                f"Unknown pixel metric {name!r}. Choose of: {', '.join(PIXEL_METRICS)}."
            )
    for title, frames in (("generated", generated), ("truth", truth)):
        if frames.dtype != np.uint8:
            raise TypeError(f"{title} is {frames.dtype}; pictures are scored as uint8 RGB.")
        if frames.ndim != 4 or frames.shape[-1] != 3:
            raise ValueError(f"{title} is {frames.shape}; it must be (N, H, W, 3).")
    if generated.shape != truth.shape:
        raise ValueError(
            f"generated is {generated.shape} and truth is {truth.shape}; they must be equal. "
            "Pictures are brought to one size before they are scored, and no frame may be missing."
        )
    if min(truth.shape[1:3]) < WINDOW:
        raise ValueError(f"Frames are {truth.shape[1:3]}; SSIM's window is {WINDOW} pixels a side.")
    if mask is None:
        for name in names:
            if name.endswith("_person"):
                raise ValueError(f"{name} needs a mask of the person, and mask is None.")
    elif mask.dtype != np.uint8:
        raise TypeError(f"mask is {mask.dtype}; masks are uint8, 255 = person.")
    elif mask.shape != truth.shape[:3]:
        raise ValueError(f"mask is {mask.shape}; it must be {truth.shape[:3]}.")


def _ssim_means(first: NDArray, second: NDArray, person: NDArray) -> dict[str, float]:
    total, total_official, total_person, num_person = _ssim_sums(first, second, person)
    height, width = person.shape
    num_windows = 3 * (height - WINDOW + 1) * (width - WINDOW + 1)
    return {
        "ssim": total / num_windows,
        "ssim_official": total_official / num_windows,
        "ssim_person": total_person / (3 * num_person) if num_person else math.nan,
    }


def _error_means(first: NDArray, second: NDArray, person: NDArray) -> dict[str, float]:
    squares, absolutes, squares_person, absolutes_person, num_person = map(
        int, _error_sums(first, second, person)
    )
    bright = int(second.min()) >= PERSON_THRESHOLD  # no value below 0 once mapped to [-1, 1]
    num_values = 3 * num_person
    return {
        "psnr": _decibels(squares, first.size),
        "psnr_official": (
            _decibels(squares, first.size) + (OFFICIAL_PSNR_MINIMUM if bright else 0.0)
            if squares
            else math.inf
        ),
        "psnr_person": _decibels(squares_person, num_values) if num_values else math.nan,
        "l1": absolutes / (255 * first.size),
        "l1_person": absolutes_person / (255 * num_values) if num_values else math.nan,
    }


def _decibels(squares: int, num_values: int) -> float:
    """PSNR of a sum of squares. Identical pictures count as the least difference that there is.

    An infinite score could enter no mean, and leaving it out would cost a method its best frames.
    """
    return 10 * math.log10(255**2 * num_values / max(squares, 1))


@njit(nogil=True, error_model="numpy", boundscheck=False)
def _error_sums(
    first: NDArray[np.uint8], second: NDArray[np.uint8], person: NDArray[np.uint8]
) -> tuple[np.int64, np.int64, np.int64, np.int64, np.int64]:  # pragma: no cover - compiled
    """Sums of squared and absolute differences: of all, of the person; and the person's pixels."""
    squares, absolutes = np.int64(0), np.int64(0)
    squares_person, absolutes_person, num_person = np.int64(0), np.int64(0), np.int64(0)
    for row in range(person.shape[0]):
        for column in range(person.shape[1]):
            square, absolute = np.int64(0), np.int64(0)
            for value in range(3 * column, 3 * column + 3):
                difference = np.int64(first[row, value]) - np.int64(second[row, value])
                square += difference * difference
                absolute += abs(difference)
            squares += square
            absolutes += absolute
            inside = np.int64(person[row, column] >= PERSON_THRESHOLD)
            squares_person += inside * square
            absolutes_person += inside * absolute
            num_person += inside
    return squares, absolutes, squares_person, absolutes_person, num_person


@njit(nogil=True, error_model="numpy", boundscheck=False)
def _ssim_sums(
    first: NDArray[np.uint8], second: NDArray[np.uint8], person: NDArray[np.uint8]
) -> tuple[float, float, float, int]:  # pragma: no cover - compiled
    """Sums of the SSIM map over valid windows: standard, official, standard on the person.

    With s the sums over a window of n = 49 values, means are s / n and sample covariances
    (n s_xy - s_x s_y) / (n (n - 1)); multiplied through by n and n - 1, every term but the two
    constants is a whole number. The official form subtracts 127.5 from both means and changes
    nothing else: its constants, of a range of 2, are the same in units of 2 / 255.

    first, second: (H, 3 W), channels interleaved. person: (H, W). Also counts the person's windows.
    """
    height, width = first.shape
    num_windows = width - 3 * (WINDOW - 1)
    reach = WINDOW // 2
    c1, c2 = _C1 * _AREA * _AREA, _C2 * _AREA * (_AREA - 1)
    shift = 127.5 * _AREA
    # Sums of each column over the window's seven rows; then of seven columns.
    columns = np.zeros((5, width), np.int32)
    sums = np.empty((5, num_windows), np.int32)
    inside = np.zeros(num_windows)
    # Sums stay apart by column until the end: the loops vectorise and the order is fixed.
    standard, official, of_person = (
        np.zeros(num_windows),
        np.zeros(num_windows),
        np.zeros(num_windows),
    )
    num_person = 0
    for row in range(height):
        for j in range(width):
            x, y = np.int32(first[row, j]), np.int32(second[row, j])
            columns[0, j] += x
            columns[1, j] += y
            columns[2, j] += x * x
            columns[3, j] += y * y
            columns[4, j] += x * y
        if row >= WINDOW:
            for j in range(width):
                x, y = np.int32(first[row - WINDOW, j]), np.int32(second[row - WINDOW, j])
                columns[0, j] -= x
                columns[1, j] -= y
                columns[2, j] -= x * x
                columns[3, j] -= y * y
                columns[4, j] -= x * y
        if row < WINDOW - 1:
            continue
        for k in range(5):
            for j in range(num_windows):
                sums[k, j] = (
                    columns[k, j]
                    + columns[k, j + 3]
                    + columns[k, j + 6]
                    + columns[k, j + 9]
                    + columns[k, j + 12]
                    + columns[k, j + 15]
                    + columns[k, j + 18]
                )
        for column in range(num_windows // 3):
            is_person = person[row - reach, column + reach] >= PERSON_THRESHOLD
            num_person += is_person
            for channel in range(3):
                inside[3 * column + channel] = is_person
        for j in range(num_windows):
            sum_x, sum_y = float(sums[0, j]), float(sums[1, j])
            sum_xx, sum_yy, sum_xy = float(sums[2, j]), float(sums[3, j]), float(sums[4, j])
            structure = (2 * (_AREA * sum_xy - sum_x * sum_y) + c2) / (
                _AREA * sum_xx - sum_x * sum_x + _AREA * sum_yy - sum_y * sum_y + c2
            )
            value = (2 * sum_x * sum_y + c1) / (sum_x * sum_x + sum_y * sum_y + c1) * structure
            u, v = sum_x - shift, sum_y - shift
            standard[j] += value
            official[j] += (2 * u * v + c1) / (u * u + v * v + c1) * structure
            of_person[j] += inside[j] * value
    return standard.sum(), official.sum(), of_person.sum(), num_person
