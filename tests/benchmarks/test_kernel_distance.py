"""The unbiased kernel distance: written out, and against torchmetrics."""

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


def test_torchmetrics_says_the_same() -> None:
    torch = pytest.importorskip("torch")
    kid = pytest.importorskip("torchmetrics.image.kid")
    first, second = features(40, 0), features(40, 1, 0.3)
    theirs = kid.poly_mmd(*(kid_kernels(kid, torch, first, second)))
    assert kernel_distance([first], [second]).value == pytest.approx(float(theirs), rel=1e-5)


def kid_kernels(kid: object, torch: object, first: NDArray, second: NDArray) -> list[object]:
    one, two = (torch.from_numpy(x.astype(np.float64)) for x in (first, second))  # type: ignore[attr-defined]
    pairs = ((one, one), (one, two), (two, two))
    return [kid.poly_kernel(a, b, 3, None, 1.0) for a, b in pairs]  # type: ignore[attr-defined]


def test_of_one_distribution_it_is_around_nothing_however_few_there_are() -> None:
    few = [kernel_distance([features(20, s)], [features(20, s + 500)]).value for s in range(200)]
    assert abs(np.mean(few)) < 4 * np.std(few) / len(few) ** 0.5
    assert min(few) < 0 < max(few)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = features(30, 0), features(25, 1, 0.2)
    whole = kernel_distance([first], [second]).value
    monkeypatch.setattr("benchmarks.metrics.kernel_distance._ROWS", 7)
    assert kernel_distance([first], [second]).value == pytest.approx(whole, rel=1e-12)
