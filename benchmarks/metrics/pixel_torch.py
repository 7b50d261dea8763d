"""The metrics of `pixel` on any device of torch, so that pictures on a GPU need not leave it.

Window sums are whole numbers in float64, exact; the formulas are those of `pixel`, so the scores are its scores but for the
order in which pixels are added up.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from benchmarks.metrics.pixel import OFFICIAL_PSNR_MINIMUM, PERSON_THRESHOLD, WINDOW

_AREA = WINDOW * WINDOW
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def scores(
    names: Sequence[str], generated: Tensor, truth: Tensor, mask: Tensor | None = None
) -> dict[str, NDArray[np.float64]]:
    """Several of `pixel.PIXEL_METRICS`, a picture at a time.

    Args:
        generated, truth: (N, H, W, 3) uint8.
        mask: (N, H, W) uint8, 128 and more is person; needed by the metrics named ``..._person``.

    Returns:
        (N,) float64 by name.

    Raises:
        ValueError: shapes differ, or a mask is needed and not given.
    """
    if generated.shape != truth.shape or generated.dtype != torch.uint8:
        raise ValueError(
            f"generated is {generated.dtype} {tuple(generated.shape)} and truth {tuple(truth.shape)}; both take one "
            "shape (N, H, W, 3), uint8."
        )
    if mask is None and any(name.endswith("_person") for name in names):
        raise ValueError("The metrics of the person need a mask, and mask is None.")
    columns: dict[str, list[float]] = {name: [] for name in names}
    for k in range(len(truth)):
        first, second = (one[k].permute(2, 0, 1).double() for one in (generated, truth))
        person = None if mask is None else mask[k] >= PERSON_THRESHOLD
        found: dict[str, float] = {}
        if any(name.startswith("ssim") for name in names):
            found |= _ssim(first, second, person)
        if any(not name.startswith("ssim") for name in names):
            found |= _errors(first, second, person)
        for name in names:
            columns[name].append(found[name])
    return {name: np.array(values, np.float64) for name, values in columns.items()}


def _ssim(first: Tensor, second: Tensor, person: Tensor | None) -> dict[str, float]:
    """See `pixel._ssim_sums` for the formula in window sums."""
    stacked = torch.stack([first, second, first * first, second * second, first * second])
    x, y, xx, yy, xy = functional.avg_pool2d(stacked, WINDOW, 1, divisor_override=1)
    c1, c2 = _C1 * _AREA * _AREA, _C2 * _AREA * (_AREA - 1)
    structure = (2 * (_AREA * xy - x * y) + c2) / (_AREA * xx - x * x + _AREA * yy - y * y + c2)
    standard = (2 * x * y + c1) / (x * x + y * y + c1) * structure
    u, v = x - 127.5 * _AREA, y - 127.5 * _AREA
    official = (2 * u * v + c1) / (u * u + v * v + c1) * structure
    found = {"ssim": float(standard.mean()), "ssim_official": float(official.mean())}
    if person is not None:
        reach = WINDOW // 2
        inside = person[reach:-reach, reach:-reach]
        found["ssim_person"] = float(standard[:, inside].mean()) if inside.any() else math.nan
    return found


def _errors(first: Tensor, second: Tensor, person: Tensor | None) -> dict[str, float]:
    apart = first - second
    squares = float((apart * apart).sum())
    bright = bool((second >= PERSON_THRESHOLD).all())
    decibels = _decibels(squares, apart.numel())
    official = decibels + (OFFICIAL_PSNR_MINIMUM if bright else 0.0)
    found = {
        "psnr": decibels,
        "psnr_official": official if squares else math.inf,
        "l1": float(apart.abs().mean()) / 255,
    }
    if person is not None:
        inside = apart[:, person]
        values = inside.numel()
        found["psnr_person"] = (
            _decibels(float((inside * inside).sum()), values) if values else math.nan
        )
        found["l1_person"] = float(inside.abs().mean()) / 255 if values else math.nan
    return found


def _decibels(squares: float, num_values: int) -> float:
    return 10 * math.log10(255**2 * num_values / max(squares, 1))
