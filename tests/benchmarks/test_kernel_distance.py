"""The unbiased kernel distance: written out, and against torch-fidelity."""

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.metrics.kernel_distance import kernel_distance


def features(n: int, seed: int, shift: float = 0.0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).normal(0, 1, (n, 16)) + shift).astype(np.float32)


def written_out(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    def kernel(x: NDArray, y: NDArray) -> float:
        return (float(x.astype(float) @ y.astype(float)) / len(x) + 1) ** 3

    def within(one: NDArray) -> float:
        pairs = [kernel(x, y) for i, x in enumerate(one) for j, y in enumerate(one) if i != j]
        return float(np.mean(pairs))

    between = np.mean([kernel(x, y) for x in first for y in second])
    return within(first) + within(second) - 2 * float(between)


def test_it_is_the_formula() -> None:
    first, second = features(9, 0), features(13, 1, 0.5)
    found = kernel_distance([first[:4], first[4:]], [second])
    assert found.value == pytest.approx(written_out(first, second), rel=1e-12)
    assert (found.n, found.m, found.d) == (9, 13, 16)


def test_torch_fidelity_says_the_same() -> None:
    theirs = pytest.importorskip("torch_fidelity.metric_kid").kernel_mmd
    first, second = features(40, 0), features(40, 1, 0.3)
    kernel = {"kid_kernel": "poly", "kid_kernel_poly_degree": 3, "kid_kernel_poly_coef0": 1}
    expected = theirs(first.astype(np.float64), second.astype(np.float64), **kernel)
    assert kernel_distance([first], [second]).value == pytest.approx(expected, rel=1e-12)


def test_of_one_distribution_it_is_around_nothing_however_few_there_are() -> None:
    few = [kernel_distance([features(20, s)], [features(20, s + 500)]).value for s in range(200)]
    assert abs(np.mean(few)) < 4 * np.std(few) / len(few) ** 0.5
    assert min(few) < 0 < max(few)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = features(30, 0), features(25, 1, 0.2)
    whole = kernel_distance([first], [second]).value
    monkeypatch.setattr("benchmarks.metrics.kernel_distance.BLOCK_ROWS", 7)
    assert kernel_distance([first], [second]).value == pytest.approx(whole, rel=1e-12)


def test_sets_that_have_no_distance() -> None:
    one = features(5, 0)
    with pytest.raises(ValueError, match="at least 2"):
        kernel_distance(one, one[:1])
    with pytest.raises(ValueError, match="not finite"):
        kernel_distance(one, one * np.float32(np.nan))
