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
    root = sqrtm(one @ two, disp=False)[0] if old else sqrtm(one @ two)
    return float(means @ means + np.trace(one + two) - 2 * np.trace(root).real)


def traces(*sets: NDArray[np.float32]) -> float:
    return float(sum(np.var(x.astype(np.float64), axis=0, ddof=1).sum() for x in sets))


@pytest.mark.parametrize(("n", "m", "d"), [(200, 150, 24), (64, 700, 48), (1200, 1100, 32)])
def test_it_is_the_textbooks(n: int, m: int, d: int) -> None:
    first, second = features(n, d, 0), features(m, d, 1, shift=0.3)
    expected = by_square_root(first, second)
    found = frechet_distance([first], [second])
    assert found.value == pytest.approx(expected, rel=1e-9)
    assert (found.n, found.m, found.d, found.warning) == (n, m, d, None)


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
    shards = [FeatureMoments.from_features(part) for part in np.array_split(first, 5)]
    for order in (shards, shards[::-1]):
        total = order[0]
        for shard in order[1:]:
            total = total.merge(shard)
        at_once = order[0].merge(*order[1:])
        for merged in (total, at_once):
            assert merged.n == n
            found = frechet_distance_of_moments(merged, FeatureMoments.from_features([second]))
            assert found.value == pytest.approx(whole, rel=1e-9)
            assert len(merged.root) <= d  # memory does not grow with the set
            np.testing.assert_allclose(
                merged.scatter, np.cov(first.T.astype(np.float64)) * (n - 1), atol=1e-9
            )


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
    assert few.warning is not None
    assert "bias" in few.warning
    assert many.warning is None


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (features(1, 4, 0), features(5, 4, 0), "at least 2"),
        (features(5, 4, 0), features(5, 3, 0), "both sets must come"),
        (np.full((5, 4), np.nan, np.float32), features(5, 4, 0), "not finite"),
    ],
)
def test_sets_that_have_no_distance(
    first: NDArray[np.float32], second: NDArray[np.float32], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        frechet_distance([first], [second])


def test_what_is_no_set_of_features() -> None:
    one = features(5, 4, 0)
    with pytest.raises(ValueError, match="generated holds no arrays"):
        frechet_distance([], [one])
    with pytest.raises(ValueError, match=r"truth\[0\] is \(5,\)"):
        frechet_distance(one, one[:, 0])
    with pytest.raises(ValueError, match=r"generated\[1\] has 3 dimensions"):
        frechet_distance([one, one[:, :3]], one)
    with pytest.raises(TypeError, match="int64"):
        frechet_distance(one.astype(np.int64), one)
    with pytest.raises(ValueError, match=r"truth\[1\] holds values that are not finite"):
        frechet_distance(one, [one, np.full_like(one, np.inf)])
    with pytest.raises(ValueError, match="of 4 and of 3 dimensions"):
        FeatureMoments.from_features(one).merge(FeatureMoments.from_features(one[:, :3]))
    single = FeatureMoments.from_features(one[:1])
    with pytest.raises(ValueError, match="at least 2"):
        frechet_distance_of_moments(single, FeatureMoments.from_features(one))
    assert single.merge(FeatureMoments.from_features(one[1:])).n == 5


@pytest.mark.parametrize(("n", "m", "d"), [(90, 50, 70), (90, 50, 200), (500, 600, 40)])
def test_eigenvalues_stand_for_singular_values(
    n: int, m: int, d: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The faster form of large sets, in blocks of a few rows and columns, against the exact one."""
    first, second = features(n, d, 0), features(m, d, 1, shift=0.2)
    same = features(n, d, 2, rank=5)
    expected = frechet_distance(first, second).value
    monkeypatch.setattr("benchmarks.metrics.frechet.SVD_ROWS", 10)
    monkeypatch.setattr("benchmarks.metrics.frechet.BLOCK_VALUES", 1000)
    assert frechet_distance(first, second).value == pytest.approx(expected, rel=1e-6)
    # Their lost digits would put this below 0; the exact form then decides.
    assert 0 <= frechet_distance(same, same).value <= 1e-6 * traces(same, same)


@pytest.mark.parametrize("d", [30, 3000])
def test_features_on_disk(tmp_path: Path, d: int) -> None:
    first, second = features(64, d, 0), features(70, d, 1)
    paths = [tmp_path / f"{i}.npy" for i in range(3)]
    for path, part in zip(paths, np.split(first, [20, 21]), strict=True):
        np.save(path, part)
    mapped = [np.load(path, mmap_mode="r") for path in paths]
    expected = frechet_distance(first, second).value
    assert frechet_distance(mapped, second).value == pytest.approx(expected, rel=1e-9)


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
