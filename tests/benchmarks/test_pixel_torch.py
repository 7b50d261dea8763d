"""The metrics of pixels by torch are those by numba."""

import numpy as np
import pytest
import torch

from benchmarks.metrics import pixel, pixel_torch


@pytest.mark.parametrize("kind", ["noise", "flat", "bright", "same"])
def test_both_engines_agree(kind: str) -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 256, (3, 30, 41, 3), dtype=np.uint8)
    if kind in ("flat", "bright"):
        truth = np.full_like(truth, 200) + (random.random(truth.shape) < 0.1)
    generated = truth.copy()
    if kind != "same":
        generated = np.clip(truth + random.normal(0, 9, truth.shape), 0, 255).astype(np.uint8)
    mask = random.integers(0, 256, truth.shape[:3], dtype=np.uint8)
    mask[2] = 0
    expected = pixel.scores(pixel.PIXEL_METRICS, generated, truth.astype(np.uint8), mask)
    arrays = (torch.from_numpy(one.astype(np.uint8)) for one in (generated, truth, mask))
    found = pixel_torch.scores(pixel.PIXEL_METRICS, *arrays)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-9, atol=1e-12)


def test_a_mask_is_needed() -> None:
    pictures = torch.zeros(1, 8, 8, 3, dtype=torch.uint8)
    with pytest.raises(ValueError, match="mask is None"):
        pixel_torch.scores(["l1_person"], pictures, pictures)
