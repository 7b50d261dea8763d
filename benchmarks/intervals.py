"""Intervals, paired differences and ranks over people.

Frames of one clip agree with each other, and so do clips of one person: they are no independent sample.
The unit here is the person, and all arrays hold one number a person. These functions know no pictures.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Literal

import numpy as np
from scipy import stats

# Below this many people an interval would say more than is known (t is 2.6 and more times the standard error).
FEWEST_SUBJECTS = 6


@dataclass(frozen=True)
class Mean:
    """A mean over people. `low` and `high` bound its interval; None with fewer than `FEWEST_SUBJECTS` people."""

    mean: float
    n: int
    low: float | None
    high: float | None

    @property
    def half_width(self) -> float | None:
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def mean_interval(per_subject: np.ndarray, confidence: float = 0.95) -> Mean:
    """Mean and Student-t interval over people.

    Args:
        per_subject: (n,) float, one mean a person; NaN where the person has none (not counted).
        confidence: coverage of the interval.
    """
    values = np.asarray(per_subject, np.float64)
    values = values[~np.isnan(values)]
    n = len(values)
    mean = float(values.mean()) if n else float("nan")
    if n < FEWEST_SUBJECTS:
        return Mean(mean, n, None, None)
    error = float(values.std(ddof=1)) / np.sqrt(n)
    half = _quantile((1 + confidence) / 2, n - 1) * error
    return Mean(mean, n, mean - half, mean + half)


@cache
def _quantile(probability: float, freedom: int) -> float:
    """Of Student's t; kept, because a board of many methods asks for the same one many thousand times."""
    return float(stats.t.ppf(probability, freedom))


def paired_difference(first: np.ndarray, second: np.ndarray, confidence: float = 0.95) -> Mean:
    """Mean and interval of `first - second` over the people that both have: (n,) and (n,), same order."""
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape:
        raise ValueError(
            f"{first.shape} and {second.shape} cannot be paired; give one value a person."
        )
    return mean_interval(first - second, confidence)


def ranks(
    per_subject: Mapping[str, np.ndarray], better: Literal["higher", "lower"]
) -> dict[str, int | None]:
    """Place of each method: 1 + how many are better by a paired interval that excludes zero.

    Methods that the data do not tell apart share a place. None for all with fewer than
    `FEWEST_SUBJECTS` people, and for a method that cannot be paired with that many.
    """
    if better not in ("higher", "lower"):
        raise ValueError(f"better is {better!r}; it takes 'higher' or 'lower'.")
    ranked = {
        name: values
        for name, values in per_subject.items()
        if mean_interval(values).low is not None
    }
    places: dict[str, int | None] = {name: 1 if name in ranked else None for name in per_subject}
    for (name, values), (other, other_values) in combinations(per_subject.items(), 2):
        difference = paired_difference(values, other_values)
        if difference.low is None or difference.high is None:
            continue
        is_above, is_below = difference.low > 0, difference.high < 0
        worse = name if (is_below if better == "higher" else is_above) else None
        worse = other if (is_above if better == "higher" else is_below) else worse
        place = places.get(worse) if worse is not None else None
        if worse is not None and place is not None:
            places[worse] = place + 1
    return places
