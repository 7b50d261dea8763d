"""The Inception score, and the official package's number of that name."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.metrics.inception_score import inception_score, inception_score_official


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


@pytest.mark.parametrize("logits", [np.zeros((3, 4)), np.full((20, 4), np.inf), np.zeros(20)])
def test_what_has_no_score(logits: np.ndarray) -> None:
    with pytest.raises(ValueError, match="Inception score takes"):
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
