"""What every metric promises, whatever it computes."""

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.judging import Judges
from benchmarks.metrics import GROUPS, METRICS, Estimates, Metric, Pair, Pictures, score_frames
from benchmarks.selftest import Golden

Arrays = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]
OF_FRAMES = [name for name, metric in METRICS.items() if metric.kind == "frame"]
OF_SETS = [name for name, metric in METRICS.items() if metric.kind == "set" and not metric.window]


def quick_first(names: list[str]) -> list[object]:
    """Large networks of others take minutes together; `lwgan-bench selftest` runs each once in the fast tests, too."""
    quick = [not METRICS[name].judge or METRICS[name].is_synthetic for name in names]
    return [
        name if is_quick else pytest.param(name, marks=pytest.mark.slow)
        for name, is_quick in zip(names, quick, strict=True)
    ]


OF_PIXELS = [name for name in OF_FRAMES if METRICS[name].per_frame and not METRICS[name].judge]
OF_PIXELS = [name for name in OF_PIXELS if set(METRICS[name].needs) <= {"mask"}]
# Judges that others own are asked with random weights: what is promised here holds for any.
JUDGES = Judges()
RANDOM_JUDGES = Judges(random_seed=3)


@pytest.fixture(scope="module")
def golden() -> Golden:
    return Golden.read()


def pair_of(golden: Golden, name: str, generated: NDArray[np.uint8] | None = None, *, first: int = 0, last: int = 4) -> Pair:  # fmt: skip
    """Some of the golden pictures against their truth."""
    part = slice(first, last)
    judges = JUDGES if METRICS[name].is_synthetic else RANDOM_JUDGES
    boxes, faces = (np.array(golden.known[name])[part] for name in ("boxes", "faces"))
    drawn = golden.generated if generated is None else generated
    before = max(first - 1, 0)
    pictures = [
        Pictures(frames[part], judges, boxes, faces, frames[before]) for frames in (drawn, golden.truth)
    ]  # fmt: skip
    follows = (np.arange(len(golden.truth)) > 0)[part]
    found = {
        name: tuple(np.array(one)[part] for one in golden.known[name])
        for name in ("keypoints", "params", "joints")
    }
    return Pair(*pictures, golden.masks[part], follows, Estimates(**found))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def pictures() -> Arrays:
    """Generated, truth and mask of three frames; the last one shows nobody."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 256, (3, 184, 180, 3), dtype=np.uint8)
    generated = np.clip(truth + rng.normal(0, 20, truth.shape), 0, 255).astype(np.uint8)
    mask = np.zeros((3, 184, 180), np.uint8)
    mask[:2, 5:180, 4:175] = 255
    return generated, truth, mask


def worst_pairs() -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Pairs of pictures as unlike as can be."""
    size = 176
    black, white = (
        np.zeros((1, size, size, 3), np.uint8),
        np.full((1, size, size, 3), 255, np.uint8),
    )
    checks = black.copy()
    checks[:, ::2, ::2] = checks[:, 1::2, 1::2] = 255
    return [(black, white), (white, black), (checks, 255 - checks), (255 - checks, checks)]


@pytest.mark.parametrize("name", METRICS)
def test_the_key_is_the_name_and_the_group_is_known(name: str) -> None:
    assert METRICS[name].name == name
    assert METRICS[name].group in GROUPS


def test_titles_tell_metrics_apart() -> None:
    assert len({metric.title for metric in METRICS.values()}) == len(METRICS)


def test_official_forms_have_names_of_their_own() -> None:
    for name, metric in METRICS.items():
        assert metric.is_official == name.endswith("_official")
        assert ("official form" in metric.title) == metric.is_official


@pytest.mark.parametrize("name", OF_PIXELS)
def test_one_score_a_frame(name: str, pictures: Arrays) -> None:
    generated, truth, mask = pictures
    (scores,) = score_frames([METRICS[name]], generated, truth, mask).values()
    assert scores.shape == (3,)
    assert scores.dtype == np.float64
    assert np.isfinite(scores[:2]).all()
    (none,) = score_frames([METRICS[name]], generated[:0], truth[:0], mask[:0]).values()
    assert none.shape == (0,)


@pytest.mark.parametrize("name", OF_PIXELS)
def test_nobody_is_undefined_and_not_zero(name: str, pictures: Arrays) -> None:
    (scores,) = score_frames([METRICS[name]], *pictures).values()
    assert np.isnan(scores[2]) == (METRICS[name].region == "person")


@pytest.mark.parametrize("name", OF_PIXELS)
def test_a_mask_is_needed_exactly_where_the_card_says(name: str, pictures: Arrays) -> None:
    generated, truth, _ = pictures
    metric = METRICS[name]
    if "mask" in metric.needs:
        with pytest.raises(ValueError, match="needs a mask"):
            score_frames([metric], generated, truth, None)
    else:
        (without,) = score_frames([metric], generated, truth, None).values()
        np.testing.assert_array_equal(without, *score_frames([metric], *pictures).values())


@pytest.mark.parametrize("name", OF_PIXELS)
def test_no_picture_scores_worse_than_a_failure(name: str) -> None:
    metric = METRICS[name]
    assert metric.failure_value is not None
    for generated, truth in worst_pairs():
        mask = np.full(truth.shape[:3], 255, np.uint8)
        (score,) = score_frames([metric], generated, truth, mask)[name]
        worst = min if metric.better == "higher" else max
        # Rounding may reach just beyond the bound.
        assert worst(score, metric.failure_value) == pytest.approx(metric.failure_value, abs=1e-12)


def test_together_is_the_same_as_apart(pictures: Arrays) -> None:
    cards = [METRICS[name] for name in OF_PIXELS]
    together = score_frames(cards, *pictures)
    assert list(together) == OF_PIXELS
    for card in cards:
        (alone,) = score_frames([card], *pictures).values()
        np.testing.assert_array_equal(together[card.name], alone)


@pytest.mark.parametrize("name", quick_first(OF_FRAMES))
def test_pieces_and_threads_change_no_bit(name: str, golden: Golden) -> None:
    metric = METRICS[name]
    assert metric.per_frame is not None
    whole = metric.per_frame(pair_of(golden, name))
    pieces = [metric.per_frame(pair_of(golden, name, first=a, last=b)) for a, b in ((0, 1), (1, 4))]
    np.testing.assert_array_equal(whole, np.concatenate(pieces))
    threaded = dataclasses.replace(pair_of(golden, name), threads=3)
    np.testing.assert_array_equal(whole, metric.per_frame(threaded))


@pytest.mark.parametrize("name", quick_first(OF_FRAMES))
def test_better_pictures_score_better_and_the_truth_best(name: str, golden: Golden) -> None:
    metric = METRICS[name]
    if metric.region == "body":
        pytest.skip("looks at estimated poses and not at pictures; see test_body_metrics.py")
    assert metric.per_frame is not None
    sign = 1 if metric.better == "higher" else -1
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, golden.truth.shape)
    scores = []
    for strength in (0, 8, 80):
        noisy = np.clip(golden.truth + strength * noise, 0, 255).astype(np.uint8)
        scores.append(np.nanmean(metric.per_frame(pair_of(golden, name, noisy))))
    assert sign * scores[0] > sign * scores[1] > sign * scores[2]


@pytest.mark.parametrize("name", quick_first(OF_SETS))
def test_sets_know_identical_pictures(name: str, golden: Golden) -> None:
    metric = METRICS[name]
    assert metric.of_set is not None
    assert metric.features is not None
    pair = pair_of(golden, name)
    truth, generated = metric.features(pair.truth), metric.features(pair.generated)
    order = np.random.default_rng(0).permutation(len(generated))
    found = metric.of_set([generated], [truth])
    split = metric.of_set([generated[:1], generated[1:]], [truth[:3], truth[3:]])
    assert split.value == pytest.approx(found.value, rel=1e-9, abs=1e-9)
    assert found.n == 4
    assert found.dimensions > 100
    if found.m and metric.name != "kid":  # the unbiased estimate of no distance is not 0
        same = metric.of_set([truth], [truth]).value
        assert abs(same) <= 1e-6 * np.var(truth, axis=0, ddof=1).sum()
        shuffled = metric.of_set([generated[order]], [truth]).value
        assert shuffled == pytest.approx(found.value, rel=1e-9)
        assert found.value > same


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"title": ""}, "empty title"),
        ({"version": 0}, "start at 1"),
        ({"failure_value": float("nan")}, "a mean needs a number"),
        ({"needs": ("mask",)}, "need a mask"),
        ({"needs": ("luck",)}, "cards know"),
        ({"per_frame": None}, "either frames or sets"),
    ],
)
def test_a_card_checks_itself(change: dict[str, object], message: str) -> None:
    fields = {
        field.name: getattr(METRICS["l1"], field.name) for field in dataclasses.fields(Metric)
    }
    with pytest.raises(ValueError, match=message):
        Metric(**(fields | change))  # type: ignore[arg-type]
