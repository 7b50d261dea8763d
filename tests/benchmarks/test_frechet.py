"""The Fréchet distance: closed forms, scipy's square root, the reference's numbers, and sets that add up."""

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.metrics.frechet import (
    FeatureMoments,
    frechet_distance,
    frechet_distance_of_moments,
    moments_of,
)


def features(n: int, d: int, seed: int, *, rank: int | None = None, shift: float = 0.0) -> NDArray[np.float32]:  # fmt: skip
    random = np.random.default_rng(seed)
    inner = rank or d
    mixed = random.normal(0, 1, (n, inner)) @ random.normal(0, 1, (inner, d)) / inner**0.5
    return (mixed + shift).astype(np.float32)


def by_square_root(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """The textbook's formula."""
    from scipy.linalg import sqrtm

    means = first.astype(np.float64).mean(0) - second.astype(np.float64).mean(0)
    one, two = (np.cov(x.astype(np.float64), rowvar=False) for x in (first, second))
    old = "disp" in inspect.signature(sqrtm).parameters
    found = sqrtm(one @ two, disp=False) if old else sqrtm(one @ two)
    root = found[0] if isinstance(found, tuple) else found
    return float(means @ means + np.trace(one + two) - 2 * np.trace(root).real)


def traces(*sets: NDArray[np.float32]) -> float:
    return float(sum(np.var(x.astype(np.float64), axis=0, ddof=1).sum() for x in sets))


@pytest.mark.parametrize(("n", "m", "d"), [(200, 150, 24), (64, 700, 48), (1200, 1100, 32)])
def test_it_is_the_textbooks(n: int, m: int, d: int) -> None:
    first, second = features(n, d, 0), features(m, d, 1, shift=0.3)
    expected = by_square_root(first, second)
    found = frechet_distance([first], [second])
    assert found.value == pytest.approx(expected, rel=1e-9)
    assert (found.n, found.m, found.d, found.warning) == (n, m, d, "")


def test_gaussians_along_the_axes() -> None:
    """Covariances that are known exactly: the distance is that of the standard deviations."""
    signs = np.array([[a, b] for a in (-1, 1) for b in (-1, 1)], float)
    scale = np.sqrt(3 / 4)  # makes the sample's variance 1
    first = signs * scale * [1, 2]
    second = signs * scale * [3, 1] + [1, 1]
    found = frechet_distance([first.astype(np.float32)], [second.astype(np.float32)])
    assert found.value == pytest.approx(2 + (1 - 3) ** 2 + (2 - 1) ** 2, rel=1e-6)


@pytest.mark.parametrize(
    ("n", "d", "rank"), [(30, 512, None), (300, 128, 20), (12, 48, 3), (1100, 40, 7), (2, 9, None)]
)
def test_a_set_is_at_no_distance_from_itself(n: int, d: int, rank: int | None) -> None:
    one = features(n, d, 3, rank=rank)
    order = np.random.default_rng(0).permutation(n)
    found = frechet_distance([one], [one[order]]).value
    assert 0 <= found <= 1e-6 * traces(one, one)


def test_both_ways_are_the_same() -> None:
    first, second = features(50, 80, 0), features(70, 80, 1)
    ways = [frechet_distance([a], [b]).value for a, b in ((first, second), (second, first))]
    assert ways[0] == pytest.approx(ways[1], rel=1e-12)


@pytest.mark.parametrize(("n", "d"), [(90, 200), (600, 40)])
def test_pieces_and_their_order_change_nothing(n: int, d: int) -> None:
    first, second = features(n, d, 0), features(n, d, 1, shift=0.2)
    whole = frechet_distance([first], [second]).value
    pieces = np.array_split(first, 7)
    for order in (pieces, pieces[::-1], [*pieces, first[:0]]):
        assert frechet_distance(order, [second]).value == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize(("n", "d"), [(90, 200), (600, 40)])
def test_moments_of_shards_add_up(n: int, d: int) -> None:
    first, second = features(n, d, 0), features(n, d, 1, shift=0.2)
    whole = frechet_distance([first], [second]).value
    shards = [FeatureMoments.of(part) for part in np.array_split(first, 5)]
    for order in (shards, shards[::-1]):
        total = order[0]
        for shard in order[1:]:
            total = total + shard
        assert total.n == n
        found = frechet_distance_of_moments(total, moments_of([second])).value
        assert found == pytest.approx(whole, rel=1e-9)
        assert len(total.root) <= max(n + 5, d + d // 8 + 1)  # memory does not grow with the set


def test_it_grows_with_the_distortion() -> None:
    truth = features(400, 64, 0)
    noise = np.random.default_rng(1).normal(0, 1, truth.shape).astype(np.float32)
    found = [frechet_distance([truth + s * noise], [truth]).value for s in (0.0, 0.1, 0.5, 2.0)]
    assert found == sorted(found)
    assert found[0] < found[1]


def test_few_samples_are_said_to_be_biased() -> None:
    """Two samples of one distribution: what the warning is about."""
    few = frechet_distance([features(30, 64, 5)], [features(30, 64, 6)])
    many = frechet_distance([features(3000, 64, 5)], [features(3000, 64, 6)])
    assert "bias" in few.warning
    assert not many.warning


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (features(1, 4, 0), features(5, 4, 0), "at least 2"),
        (features(5, 4, 0), features(5, 3, 0), "both sets take"),
        (np.full((5, 4), np.nan, np.float32), features(5, 4, 0), "not finite"),
    ],
)
def test_sets_that_have_no_distance(
    first: NDArray[np.float32], second: NDArray[np.float32], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        frechet_distance([first], [second])


@pytest.mark.parity
def test_the_references_numbers(fixtures_folder: Path) -> None:
    folder = fixtures_folder / "evaluation"
    expected = json.loads((folder / "frechet_expected.json").read_text())
    assert expected
    with np.load(folder / "frechet_feats.npz") as sets:
        for name, values in expected.items():
            first, second = sets[f"{name}_p"], sets[f"{name}_r"]
            found = frechet_distance([first], [second]).value
            exact = values["exact_lowrank_f64"]
            allowed = 1e-8 * max(abs(exact), 1e-2 * traces(first, second))
            assert abs(found - exact) <= allowed, name
            if (reference := values["ref_scipy1.2.1"]) is not None:
                # The reference's square root is ill-posed on rank-deficient sets.
                assert found == pytest.approx(reference, rel=1e-5, abs=2e-6), name


@pytest.mark.slow
def test_12288_dimensions_of_3110_samples_take_under_40_seconds() -> None:
    import time

    first, second = features(3110, 64, 0), features(3110, 64, 1)
    wide = np.random.default_rng(2).normal(0, 1, (64, 12288)).astype(np.float32)
    start = time.process_time()
    found = frechet_distance([first @ wide], [second @ wide])
    assert time.process_time() - start < 80  # of two cores
    assert found.d == 12288
