"""Intervals over people: against SciPy, by property, and by simulation."""

import numpy as np
import pytest
from scipy import stats

from benchmarks.intervals import mean_interval, paired_difference, ranks


def test_interval_is_scipys() -> None:
    values = np.random.default_rng(3).normal(2, 1, 14)
    ours = mean_interval(values)
    low, high = stats.t.interval(0.95, 13, values.mean(), stats.sem(values))
    assert ours.n == 14
    np.testing.assert_allclose([ours.mean, ours.low, ours.high], [values.mean(), low, high])


def test_people_without_a_value_are_not_counted() -> None:
    values = np.array([1.0, np.nan, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert mean_interval(values) == mean_interval(values[~np.isnan(values)])
    assert mean_interval(values).n == 6


@pytest.mark.parametrize("n", range(6))
def test_few_people_have_no_interval(n: int) -> None:
    found = mean_interval(np.arange(n, dtype=float))
    assert (found.n, found.low, found.high, found.half_width) == (n, None, None, None)
    assert np.isnan(found.mean) == (n == 0)


def test_pairing_removes_what_people_share() -> None:
    generator = np.random.default_rng(0)
    people = generator.normal(0, 5, 10)
    first, second = people + 1 + generator.normal(0, 0.1, 10), people
    difference = paired_difference(first, second)
    assert difference.low is not None
    assert 0.8 < difference.low < 1 < 1.2
    apart = mean_interval(first)
    assert apart.half_width is not None
    assert apart.half_width > 10 * (difference.half_width or 0)
    with pytest.raises(ValueError, match="cannot be paired"):
        paired_difference(first, second[:5])


def test_ranks_are_shared_where_the_data_do_not_tell() -> None:
    generator = np.random.default_rng(1)
    people = generator.normal(0, 1, 12)
    scores = {
        "good": people + 1 + generator.normal(0, 0.05, 12),
        "twin": people + 1 + generator.normal(0, 0.05, 12),
        "bad": people,
        "worse": people - 1 + generator.normal(0, 0.05, 12),
    }
    assert ranks(scores, "higher") == {"good": 1, "twin": 1, "bad": 3, "worse": 4}
    assert ranks(scores, "lower") == {"good": 3, "twin": 3, "bad": 2, "worse": 1}
    few = {name: values[:5] for name, values in scores.items()}
    assert set(ranks(few, "higher").values()) == {None}
    with pytest.raises(ValueError, match="higher"):
        ranks(scores, "up")  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_interval_covers_the_mean_of_all_people() -> None:
    """1000 draws of 14 people with 2 clips of 60 frames each, neighbouring frames much alike."""
    generator = np.random.default_rng(2026)
    draws, people, clips, frames = 1000, 14, 2, 60
    covered = over_frames = 0
    for _ in range(draws):
        person = generator.normal(0, 1, (people, 1, 1))
        clip = generator.normal(0, 0.5, (people, clips, 1))
        noise = generator.normal(0, 1, (people, clips, frames))
        # First-order autoregression: frames of a clip agree with each other.
        frame = stats.zscore(np.cumsum(noise, axis=-1), axis=-1) * 0.7
        scores = 20 + person + clip + frame
        found = mean_interval(scores.mean(-1).mean(-1))
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 20 <= found.high
        flat = mean_interval(scores.ravel())
        assert flat.low is not None
        assert flat.high is not None
        over_frames += flat.low <= 20 <= flat.high
    # Three standard errors of a share of .95 in 1000 draws are .02.
    assert 0.93 <= covered / draws <= 0.97
    # Counting frames as if they were people claims far too much: the reason for all this.
    assert over_frames / draws < 0.5
