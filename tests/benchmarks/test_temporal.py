"""Motion: what is carried along a known flow, what flickers, and the windows of videos."""

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.metrics.temporal import (
    flicker,
    reference_flow,
    tlpips,
    video_features,
    warping_error,
)


@pytest.fixture(scope="module")
def moving() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A soft pattern, and the same moved right by 3 and down by 2 pixels."""
    noise = np.random.default_rng(0).integers(0, 256, (100, 110, 3), dtype=np.uint8)
    soft = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 4), None, 0, 255, cv2.NORM_MINMAX)
    before, frame = soft[10:90, 10:90], soft[8:88, 7:87]
    return before[None].astype(np.uint8), frame[None].astype(np.uint8)


def test_the_flow_of_a_shift_is_found(moving: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    flow, visible = reference_flow(*moving)
    inner = flow[0, 15:-15, 15:-15]
    np.testing.assert_allclose(np.median(inner, (0, 1)), [-3, -2], atol=0.2)
    assert visible[0, 15:-15, 15:-15].mean() > 0.95
    assert not visible[0, 0].any()  # it came from outside


def test_what_moves_with_the_truth_has_no_error(
    moving: tuple[NDArray[np.uint8], NDArray[np.uint8]],
) -> None:
    before, frame = moving
    flow, visible = reference_flow(before, frame)
    still = warping_error(frame, before, flow, visible)[0]
    stuck = warping_error(before, before, flow, visible)[0]
    assert still < 1e-3 < stuck
    mask = np.zeros(frame.shape[:3], np.uint8)
    assert np.isnan(warping_error(frame, before, flow, visible, mask)[0])
    mask[0, 20:60, 20:60] = 255
    assert warping_error(frame, before, flow, visible, mask)[0] < stuck


def test_flicker_is_what_changes_beside_the_truths_change() -> None:
    random = np.random.default_rng(0)
    truth, before = random.integers(0, 200, (2, 1, 9, 9, 3), dtype=np.uint8)
    assert flicker(truth, before, truth, before)[0] == 0
    brighter = (truth + 51).astype(np.uint8)
    assert flicker(brighter, before, truth, before)[0] == pytest.approx(0.2)
    assert flicker(brighter, (before + 51).astype(np.uint8), truth, before)[0] == pytest.approx(0)


def test_tlpips_is_the_difference_of_distances() -> None:
    np.testing.assert_allclose(tlpips(np.array([0.3, 0.1]), np.array([0.1, 0.4])), [0.2, 0.3])


class _Video(nn.Module):
    def forward(
        self, x: Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False
    ) -> Tensor:
        assert not rescale
        assert not resize
        assert return_features
        return x.mean((3, 4)).flatten(1)


def test_videos_come_as_the_network_takes_them() -> None:
    windows = np.zeros((2, 16, 30, 20, 3), np.uint8)
    windows[1, ..., 0] = 255
    found = video_features(torch.jit.script(_Video()), windows)
    assert found.shape == (2, 48)
    np.testing.assert_allclose(found[0], -1)
    np.testing.assert_allclose(found[1], [1] * 16 + [-1] * 32, atol=1e-6)
