"""The Inception score, and the official package's number of that name."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.metrics.inception_score import (
    inception_score,
    inception_score_of_probabilities,
    inception_score_official,
)


def test_sure_and_different_pictures_score_the_number_of_classes() -> None:
    logits = np.eye(5, dtype=np.float32)[np.arange(50) % 5] * 200
    assert inception_score(logits, splits=1).mean == pytest.approx(5)
    assert inception_score(logits, splits=10).mean == pytest.approx(5)


def test_pictures_that_are_all_alike_score_1() -> None:
    logits = np.tile(np.random.default_rng(0).normal(0, 3, 7), (30, 1))
    found = inception_score(logits, splits=3)
    assert found.mean == pytest.approx(1)
    assert found.std == pytest.approx(0, abs=1e-12)


def test_parts_are_consecutive() -> None:
    logits = np.random.default_rng(0).normal(0, 2, (40, 6))
    parts = [inception_score(part, splits=1).mean for part in np.split(logits, 4)]
    found = inception_score(logits, splits=4)
    assert found.mean == pytest.approx(np.mean(parts))
    assert found.std == pytest.approx(np.std(parts))


def test_torch_fidelity_says_the_same() -> None:
    theirs = pytest.importorskip("torch_fidelity.metric_isc").isc_features_to_metric
    logits = np.random.default_rng(1).normal(0, 3, (43, 12))
    expected = theirs(torch.from_numpy(logits), splits=10, shuffle=False)
    found = inception_score(logits)
    assert found.mean == pytest.approx(expected["inception_score_mean"], rel=1e-12)
    assert found.std == pytest.approx(expected["inception_score_std"], rel=1e-12)
    assert (found.splits, found.n) == (10, 43)


def test_probabilities_may_be_0() -> None:
    logits = np.random.default_rng(1).normal(0, 3, (20, 6))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    whole = inception_score_of_probabilities(shares, splits=2)
    assert whole.mean == pytest.approx(inception_score(logits, splits=2).mean, rel=1e-12)
    assert inception_score_of_probabilities(np.eye(4), splits=1).mean == pytest.approx(4)
    with pytest.raises(ValueError, match="sum to 1"):
        inception_score_of_probabilities(logits, splits=2)


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (np.zeros((3, 4)), "3 pictures cannot make 10 splits"),
        (np.full((20, 4), np.inf), "not finite"),
        (np.zeros(20), r"\(20,\); it must be \(N, K\)"),
    ],
)
def test_what_has_no_score(logits: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        inception_score(logits)


@pytest.mark.parity
def test_the_references_number(fixtures_folder: Path) -> None:
    folder = fixtures_folder / "evaluation"
    expected = json.loads((folder / "misc_expected.json").read_text())["is"]
    with np.load(folder / "misc_inputs.npz") as inputs:
        logs = np.log(
            inputs["softmax"].astype(np.float64)
        )  # of which the softmax is the input again
    assert inception_score_official(logs) == pytest.approx(expected, abs=1e-6)
