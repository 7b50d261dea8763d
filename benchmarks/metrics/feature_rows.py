"""Sets of features that lie in many arrays, one a case, read in blocks of float64.

The features of a whole benchmark stay on disk in float32; only a block of them is ever in float64.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

# Arrays of (n_i, d) floats, possibly memory-mapped, or one such array. Together they are one set.
Features = NDArray[np.floating] | Sequence[NDArray[np.floating]]

# Values of one block: 64 MiB in float64.
BLOCK_VALUES = 1 << 23


class FeatureRows:
    """The rows of several arrays as one matrix (count, dimensions) that is never held as a whole.

    Args:
        features: (n_i, d) float arrays, or one of them; arrays without rows are allowed.
        title: names the set in errors.
        shift: (d,) float64 that `block` subtracts, or None.

    Raises:
        TypeError: an array is not of numpy or not of floats.
        ValueError: no arrays, a wrong shape, unequal d, or values that are not finite.
    """

    def __init__(
        self,
        features: Features,
        title: str = "features",
        shift: NDArray[np.float64] | None = None,
    ) -> None:
        arrays = [features] if isinstance(features, np.ndarray) else list(features)
        if not arrays:
            raise ValueError(f"{title} holds no arrays; it takes (n, d) floats, one array a case.")
        for i in range(len(arrays)):
            _check(arrays[i], f"{title}[{i}]", arrays[0])
        self.title = title
        self.arrays = arrays
        self.starts = np.cumsum([0] + [len(array) for array in arrays])
        self.count = int(self.starts[-1])
        self.dimensions = int(arrays[0].shape[1])
        self.shift = shift

    def centred(self) -> "FeatureRows":
        """The same rows with their mean subtracted; the mean is its `shift`."""
        return FeatureRows(self.arrays, self.title, self.mean())

    def mean(self) -> NDArray[np.float64]:
        """(d,) float64. Raises ValueError where there are no rows or a value is not finite."""
        if self.count == 0:
            raise ValueError(f"{self.title} holds no rows, so it has no mean.")
        total = np.zeros(self.dimensions)
        for i in range(len(self.arrays)):
            part = self.arrays[i].sum(axis=0, dtype=np.float64)
            # No sum of float32 overflows in float64: it is finite exactly where all of its values are.
            if not np.isfinite(part).all():
                raise ValueError(
                    f"{self.title}[{i}] holds values that are not finite. Features of a frame that "
                    "could not be embedded must be left out and counted, not scored."
                )
            total += part
        return total / self.count

    def block(self, rows: slice, columns: slice = slice(None)) -> NDArray[np.float64]:
        """(rows, columns) float64, a copy, less the shift."""
        start, stop, _ = rows.indices(self.count)
        first = int(np.searchsorted(self.starts, start, side="right")) - 1
        pieces = []
        for i in range(first, len(self.arrays)):
            low, high = start - int(self.starts[i]), stop - int(self.starts[i])
            if high <= 0:
                break
            pieces.append(self.arrays[i][max(low, 0) : high, columns].astype(np.float64))
        block = np.concatenate(pieces)
        if self.shift is not None:
            block -= self.shift[columns]
        return block

    def row_blocks(self, rows: int) -> Iterator[NDArray[np.float64]]:
        """All rows in blocks of at most `rows`: (r, d) float64."""
        for start in range(0, self.count, rows):
            yield self.block(slice(start, start + rows))


def feature_pair(generated: Features, truth: Features) -> tuple[FeatureRows, FeatureRows]:
    """Two sets that can be compared: of one d, with at least two rows each.

    Raises:
        TypeError, ValueError: as `FeatureRows`, and where n < 2 or the sets have unequal d.
    """
    first, second = FeatureRows(generated, "generated"), FeatureRows(truth, "truth")
    if first.dimensions != second.dimensions:
        raise ValueError(
            f"generated has {first.dimensions} dimensions and truth {second.dimensions}; "
            "both sets must come from one network."
        )
    for rows in (first, second):
        if rows.count < 2:
            raise ValueError(
                f"{rows.title} holds {rows.count} rows; a distance of sets needs at least 2."
            )
    return first, second


def _check(array: NDArray, title: str, first: NDArray) -> None:
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        found = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise TypeError(f"{title} is {found}; features are numpy arrays of floats.")
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"{title} is {array.shape}; it must be (n, d).")
    if array.shape[1] != first.shape[1]:
        raise ValueError(
            f"{title} has {array.shape[1]} dimensions and the first array {first.shape[1]}; "
            "features of one set come from one network."
        )
