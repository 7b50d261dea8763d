"""What every metric promises, whatever it computes."""

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.metrics import METRICS, Metric, score_frames

Pictures = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    """Generated, truth and mask of three frames; the last one shows nobody."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 256, (3, 24, 20, 3), dtype=np.uint8)
    generated = np.clip(truth + rng.normal(0, 20, truth.shape), 0, 255).astype(np.uint8)
    mask = np.zeros((3, 24, 20), np.uint8)
    mask[:2, 5:20, 4:15] = 255
    return generated, truth, mask


def worst_pairs() -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Pairs of pictures as unlike as can be."""
    black, white = np.zeros((1, 24, 24, 3), np.uint8), np.full((1, 24, 24, 3), 255, np.uint8)
    checks = black.copy()
    checks[:, ::2, ::2] = checks[:, 1::2, 1::2] = 255
    return [(black, white), (white, black), (checks, 255 - checks), (255 - checks, checks)]


@pytest.mark.parametrize("name", METRICS)
def test_the_key_is_the_name(name: str) -> None:
    assert METRICS[name].name == name


def test_titles_tell_metrics_apart() -> None:
    assert len({metric.title for metric in METRICS.values()}) == len(METRICS)


@pytest.mark.parametrize("name", METRICS)
def test_one_score_a_frame(name: str, pictures: Pictures) -> None:
    generated, truth, mask = pictures
    scores = METRICS[name].per_frame(generated, truth, mask)
    assert scores.shape == (3,)
    assert scores.dtype == np.float64
    assert np.isfinite(scores[:2]).all()
    assert METRICS[name].per_frame(generated[:0], truth[:0], mask[:0]).shape == (0,)


@pytest.mark.parametrize("name", METRICS)
def test_nobody_is_undefined_and_not_zero(name: str, pictures: Pictures) -> None:
    last = METRICS[name].per_frame(*pictures)[2]
    assert np.isnan(last) == (METRICS[name].region == "person")


@pytest.mark.parametrize("name", METRICS)
def test_a_mask_is_needed_exactly_where_the_card_says(name: str, pictures: Pictures) -> None:
    generated, truth, mask = pictures
    if "mask" in METRICS[name].needs:
        with pytest.raises(ValueError, match="needs a mask"):
            METRICS[name].per_frame(generated, truth, None)
    else:
        without = METRICS[name].per_frame(generated, truth, None)
        np.testing.assert_array_equal(without, METRICS[name].per_frame(generated, truth, mask))


@pytest.mark.parametrize("name", METRICS)
def test_better_pictures_score_better(name: str, pictures: Pictures) -> None:
    generated, truth, mask = pictures
    nearer = ((generated.astype(int) + truth) // 2).astype(np.uint8)
    sign = 1 if METRICS[name].better == "higher" else -1
    gain = sign * (
        METRICS[name].per_frame(nearer, truth, mask)
        - METRICS[name].per_frame(generated, truth, mask)
    )
    assert (gain[:2] > 0).all()


@pytest.mark.parametrize("name", METRICS)
def test_no_picture_scores_worse_than_a_failure(name: str) -> None:
    metric = METRICS[name]
    mask = np.full((1, 24, 24), 255, np.uint8)
    for generated, truth in worst_pairs():
        score = metric.per_frame(generated, truth, mask)[0]
        worst = min if metric.better == "higher" else max
        # Rounding may reach just beyond the bound.
        assert worst(score, metric.failure_value) == pytest.approx(metric.failure_value, abs=1e-12)


def test_together_is_the_same_as_apart(pictures: Pictures) -> None:
    together = score_frames(list(METRICS.values()), *pictures)
    assert list(together) == list(METRICS)
    for name, metric in METRICS.items():
        np.testing.assert_array_equal(together[name], metric.per_frame(*pictures))


def test_a_metric_that_shares_nothing_is_scored_too(pictures: Pictures) -> None:
    alone = dataclasses.replace(METRICS["l1"], name="alone", together=None)
    scores = score_frames([METRICS["psnr"], alone], *pictures)
    assert list(scores) == ["psnr", "alone"]
    np.testing.assert_array_equal(scores["alone"], METRICS["l1"].per_frame(*pictures))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"title": ""}, "empty title"),
        ({"version": 0}, "start at 1"),
        ({"failure_value": float("nan")}, "a mean needs a number"),
        ({"needs": ("mask",)}, "need a mask"),
    ],
)
def test_a_card_checks_itself(change: dict[str, object], message: str) -> None:
    fields = {
        field.name: getattr(METRICS["l1"], field.name) for field in dataclasses.fields(Metric)
    }
    with pytest.raises(ValueError, match=message):
        Metric(**(fields | change))
