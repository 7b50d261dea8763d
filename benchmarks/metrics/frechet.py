"""Fréchet distance of two sets of features, exact, and the mergeable statistics that it needs.

``d^2 = |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)`` (Dowson and Landau 1982; Heusel et al. 2017), with
sample covariances (n - 1). The covariances are never formed: with any X, Y such that ``X^T X = (n - 1) S1`` and
``Y^T Y = (m - 1) S2``, the eigenvalues of S1 S2 are the squared singular values of X Y^T, so that

    tr (S1 S2)^(1/2) = (sum of the singular values of X Y^T) / sqrt((n - 1)(m - 1)).

X is the centred features where they have no more rows than columns, else their triangle (QR), which keeps the digits
that squaring into a covariance loses. No square root of a matrix is taken: that of S1 S2 is ill-posed where samples
are fewer than dimensions, and the routine for it differs between versions of scipy.

The official evaluation package of iPER computes the same quantity by a square root of the matrix and with means in
float32: 1e-7 to 4e-5 off this one, -1e-6 for identical sets. Its definition is no other, so it has no function here.
It gives 0 for an empty set, which is refused here: 0 is the best score.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.metrics.feature_rows import BLOCK_VALUES, FeatureRows, Features, feature_pair

# A negative value this close to 0, as a share of tr S1 + tr S2, is rounding and counts as 0.
ROUNDING_BAND = 1e-6
# Up to here singular values are computed as such. Above, they are roots of the eigenvalues of M M^T: five times
# faster at 3110, and 1.2e-7 of the trace off there.
SVD_ROWS = 1000


@dataclass(frozen=True)
class FrechetDistance:
    """A distance and what it was computed from. Values compare only at equal n, m and network."""

    value: float  # >= 0
    n: int  # generated samples
    m: int  # true samples
    d: int  # dimensions
    warning: str | None  # where samples are too few for the value to mean much


@dataclass(frozen=True)
class FeatureMoments:
    """Mean and scatter of a set of features; those of parts merge into those of the whole.

    The scatter is held as a root R of it, ``R^T R = sum (x - mean)(x - mean)^T``, with at most d rows: few samples
    take little room, and many lose no digits.
    """

    n: int
    mean: NDArray[np.float64]  # (d,)
    root: NDArray[np.float64]  # (r, d), r <= d

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n is {self.n}; moments are of at least one sample.")
        if self.mean.ndim != 1 or self.root.ndim != 2 or self.root.shape[1] != len(self.mean):
            raise ValueError(
                f"mean is {self.mean.shape} and root {self.root.shape}; they must be (d,) and (r, d)."
            )

    @property
    def scatter(self) -> NDArray[np.float64]:
        """(d, d) float64: the sum of squares and products about the mean."""
        return self.root.T @ self.root

    @classmethod
    def from_features(cls, features: Features, title: str = "features") -> "FeatureMoments":
        """Moments of (n_i, d) float arrays or of one, read in blocks. Errors as of `FeatureRows`."""
        rows = FeatureRows(features, title).centred()
        assert rows.shift is not None
        # Blocks longer than wide, so that most of each triangle's work is on new rows.
        length = max(2 * rows.dimensions, BLOCK_VALUES // rows.dimensions)
        return cls(rows.count, rows.shift, _triangle(rows.row_blocks(length), rows.dimensions))

    def merge(self, *others: "FeatureMoments") -> "FeatureMoments":
        """Moments of the union (Chan, Golub and LeVeque 1983, for any number of parts at once).

        Merging many parts in one call is much cheaper than one after the other.
        """
        parts = (self, *others)
        dimensions = len(self.mean)
        for part in others:
            if len(part.mean) != dimensions:
                raise ValueError(
                    f"Moments of {dimensions} and of {len(part.mean)} dimensions cannot be merged; "
                    "both must come from one network."
                )
        n = sum(part.n for part in parts)
        mean = np.sum([part.mean * (part.n / n) for part in parts], axis=0)
        between = np.stack([math.sqrt(part.n) * (part.mean - mean) for part in parts])
        return FeatureMoments(
            n, mean, _triangle((*(part.root for part in parts), between), dimensions)
        )


def frechet_distance(generated: Features, truth: Features) -> FrechetDistance:
    """Fréchet distance of two sets of features.

    Args:
        generated, truth: (n_i, d) float arrays, one a case and possibly memory-mapped, or one array.

    Returns:
        The distance in float64. Identical sets give 0 within `ROUNDING_BAND` of the traces' sum.

    Raises:
        TypeError: features that are no arrays of floats.
        ValueError: n < 2, unequal d, values that are not finite.
        ArithmeticError: a value below 0 by more than rounding explains.
    """
    first, second = feature_pair(generated, truth)
    if min(first.count, second.count) > first.dimensions:
        return frechet_distance_of_moments(
            FeatureMoments.from_features(generated, "generated"),
            FeatureMoments.from_features(truth, "truth"),
        )
    first, second = first.centred(), second.centred()
    assert first.shift is not None
    assert second.shift is not None
    return _distance(
        first, second, first.shift - second.shift, first.count, second.count, first.dimensions
    )


def frechet_distance_of_moments(
    generated: FeatureMoments, truth: FeatureMoments
) -> FrechetDistance:
    """`frechet_distance` of the sets that the moments were taken of. Errors as there."""
    d = len(generated.mean)
    if len(truth.mean) != d:
        raise ValueError(
            f"generated has {d} dimensions and truth {len(truth.mean)}; "
            "both sets must come from one network."
        )
    for title, moments in (("generated", generated), ("truth", truth)):
        if moments.n < 2:
            raise ValueError(
                f"{title} holds {moments.n} rows; a distance of sets needs at least 2."
            )
    first, second = FeatureRows(generated.root, "generated"), FeatureRows(truth.root, "truth")
    return _distance(first, second, generated.mean - truth.mean, generated.n, truth.n, d)


def _distance(
    first: FeatureRows, second: FeatureRows, shift: NDArray[np.float64], n: int, m: int, d: int
) -> FrechetDistance:
    """The formula, of roots of the two scatters and the difference of the means."""
    apart = float(shift @ shift)
    spread = _sum_of_squares(first) / (n - 1) + _sum_of_squares(second) / (m - 1)
    scale = 2 / math.sqrt((n - 1) * (m - 1))
    small, large = sorted((first, second), key=lambda rows: rows.count)
    value = math.nan
    for exact in (small.count <= SVD_ROWS, True):
        roots = _nuclear_norm(large, small) if exact else _nuclear_norm_squared(large, small)
        value = apart + spread - scale * roots
        # Sets as alike as this, and of low rank, are where the eigenvalues' lost digits show.
        if value >= -ROUNDING_BAND * spread:
            return FrechetDistance(max(value, 0.0), n, m, d, _warning(n, m, d))
    raise ArithmeticError(
        f"The Fréchet distance came out as {value} where the traces sum to {spread}; rounding does "
        "not explain this. Please report it with the features."
    )


def _sum_of_squares(rows: FeatureRows) -> float:
    length = max(1, BLOCK_VALUES // rows.dimensions)
    return math.fsum(float(np.vdot(block, block)) for block in rows.row_blocks(length))


def _nuclear_norm(large: FeatureRows, small: FeatureRows) -> float:
    """Sum of the singular values of X Y^T."""
    product = _product(large, small, slice(None))
    return float(torch.linalg.svdvals(product).sum())


def _nuclear_norm_squared(large: FeatureRows, small: FeatureRows) -> float:
    """The same by the eigenvalues of Y X^T X Y^T, of which only (small, small) is ever held.

    Clamped at 0 but without a threshold: a usual one (n eps times the largest) is 5e-5 of the trace off.
    """
    squared = torch.zeros(small.count, small.count, dtype=torch.float64)
    length = max(1, BLOCK_VALUES // small.count)
    for start in range(0, large.count, length):
        product = _product(large, small, slice(start, start + length))
        squared.addmm_(product.T, product)
    return float(torch.linalg.eigvalsh(squared).clamp_(min=0).sqrt_().sum())


def _product(large: FeatureRows, small: FeatureRows, rows: slice) -> torch.Tensor:
    """X Y^T of some rows of X, (rows, small) float64, summed over blocks of columns."""
    num_rows = len(range(*rows.indices(large.count)))
    product = torch.zeros(num_rows, small.count, dtype=torch.float64)
    width = max(1, BLOCK_VALUES // max(num_rows, small.count))
    for start in range(0, large.dimensions, width):
        columns = slice(start, start + width)
        left = torch.from_numpy(large.block(rows, columns))
        right = torch.from_numpy(small.block(slice(None), columns))
        product.addmm_(left, right.T)
    return product


def _triangle(blocks: Iterable[NDArray[np.float64]], dimensions: int) -> NDArray[np.float64]:
    """At most `dimensions` rows with the same R^T R as all rows of the blocks."""
    held: list[NDArray[np.float64]] = []
    for block in blocks:
        held.append(block)
        if sum(map(len, held)) > 3 * dimensions:
            held = [_square(held)]
    return _square(held) if sum(map(len, held)) > dimensions else np.concatenate(held)


def _square(held: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    stacked = torch.from_numpy(np.concatenate(held))
    return torch.linalg.qr(stacked, mode="r").R.numpy()


def _warning(n: int, m: int, d: int) -> str | None:
    if min(n, m) > d:
        return None
    return (
        f"{n} and {m} samples in {d} dimensions: with no more samples than dimensions the bias of "
        "the sample size dominates this value. Compare it only with values of the same n and m."
    )
