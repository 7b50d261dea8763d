"""Kernel distance (KID) of two sets of features: unbiased at any number of samples.

The companion of the Fréchet distance, whose bias dominates where samples are few.
"""

import math
from dataclasses import dataclass

import torch

from benchmarks.metrics.feature_rows import FeatureRows, Features, feature_pair

# Rows of a block: fixed, so that the value does not depend on how the set is cut into arrays.
BLOCK_ROWS = 1024


@dataclass(frozen=True)
class KernelDistance:
    """An unbiased estimate of a squared distance: below 0 by chance where the sets are alike."""

    value: float
    n: int  # generated samples
    m: int  # true samples
    d: int  # dimensions


def kernel_distance(generated: Features, truth: Features) -> KernelDistance:
    """Squared maximum mean discrepancy with the kernel ``(x.y / d + 1)^3`` (Bińkowski et al. 2018).

    The U-statistic of Gretton et al. 2012, equation 3, over all samples, not a mean over random subsets: it has no
    seed and the least variance. Quadratic in the samples: 2 d (n^2 / 2 + m^2 / 2 + n m) operations in float64.

    Args:
        generated, truth: (n_i, d) float arrays, one a case and possibly memory-mapped, or one array.

    Raises:
        TypeError: features that are no arrays of floats.
        ValueError: n < 2, unequal d, values that are not finite.
    """
    first, second = feature_pair(generated, truth)
    for rows in (first, second):
        rows.mean()  # refuses values that are not finite
    n, m = first.count, second.count
    value = (
        _sum_within(first) / (n * (n - 1))
        + _sum_within(second) / (m * (m - 1))
        - 2 * _sum_between(first, second) / (n * m)
    )
    return KernelDistance(value, n, m, first.dimensions)


def _sum_within(rows: FeatureRows) -> float:
    """The kernel's sum over all ordered pairs of two different samples."""
    sums = []
    for i in range(0, rows.count, BLOCK_ROWS):
        block = _block(rows, i)
        kernel = _kernel(block, block)
        sums.append(float(kernel.sum() - kernel.diagonal().sum()))
        for j in range(i + BLOCK_ROWS, rows.count, BLOCK_ROWS):
            sums.append(2 * float(_kernel(block, _block(rows, j)).sum()))
    return math.fsum(sums)


def _sum_between(first: FeatureRows, second: FeatureRows) -> float:
    sums = []
    for i in range(0, first.count, BLOCK_ROWS):
        block = _block(first, i)
        for j in range(0, second.count, BLOCK_ROWS):
            sums.append(float(_kernel(block, _block(second, j)).sum()))
    return math.fsum(sums)


def _block(rows: FeatureRows, start: int) -> torch.Tensor:
    return torch.from_numpy(rows.block(slice(start, start + BLOCK_ROWS)))


def _kernel(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return (first @ second.T).div_(first.shape[1]).add_(1).pow_(3)
