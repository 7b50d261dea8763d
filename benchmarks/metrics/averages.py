"""The official package's way of averaging scores of frames, for tables that are to be compared with its own."""

import numpy as np

from benchmarks.metrics.arrays import Scores

OFFICIAL_BATCH = 16


def mean_of_batch_means(values: Scores, batch: int = OFFICIAL_BATCH) -> float:
    """Mean of the means of consecutive batches: a short last batch weighs as much as a full one.

    Args:
        values: (N,) float64, one a frame, in the order of the frames.
        batch: frames a batch.

    Returns:
        A number; NaN or infinite if one of the values is. NaN of no values.

    Raises:
        ValueError: values are not (N,), or batch is below 1.
    """
    if values.ndim != 1:
        raise ValueError(f"values is {values.shape}; it must be (N,), one number a frame.")
    if batch < 1:
        raise ValueError(f"batch is {batch}; a batch holds at least one frame.")
    if not len(values):
        return float("nan")
    return float(np.mean([values[k : k + batch].mean() for k in range(0, len(values), batch)]))
