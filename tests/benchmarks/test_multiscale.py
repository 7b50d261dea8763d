"""MS-SSIM against torchmetrics and a slow map of its own."""

from functools import partial

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from benchmarks.metrics import multiscale


def pair(height: int, width: int, noise: float = 40, seed: int = 0) -> tuple[NDArray, NDArray]:
    """A smooth picture with texture, and a blurred and noisy one: (1, H, W, 3) uint8 each."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)
    truth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    truth = np.clip(truth + rng.normal(0, 12, truth.shape), 0, 255)
    generated = np.clip(truth * 0.8 + rng.normal(0, noise, truth.shape), 0, 255)
    return generated.astype(np.uint8)[None], truth.astype(np.uint8)[None]


def halve(values: NDArray) -> NDArray:
    height, width = values.shape[0] // 2 * 2, values.shape[1] // 2 * 2
    values = values[:height, :width]
    return (values[::2, ::2] + values[1::2, ::2] + values[::2, 1::2] + values[1::2, 1::2]) / 4


def slow_person(generated: NDArray, truth: NDArray, person: NDArray) -> float:
    """The person form by scikit-image: contrast-structure is SSIM over SSIM's luminance."""
    product, sigma = 1.0, 1.5
    first, second, inside = generated.astype(float), truth.astype(float), person.astype(float)
    for scale, weight in enumerate(multiscale.WEIGHTS):
        if scale:
            first, second, inside = halve(first), halve(second), halve(inside)
        maps = structural_similarity(
            first, second, channel_axis=-1, data_range=255, full=True, gaussian_weights=True,
            sigma=sigma, use_sample_covariance=False,
        )[1]  # fmt: skip
        if scale < 4:
            kernel = cv2.getGaussianKernel(11, sigma)
            x, y = (cv2.sepFilter2D(picture, -1, kernel, kernel) for picture in (first, second))
            maps /= (2 * x * y + 2.55**2) / (x**2 + y**2 + 2.55**2)
        product *= maps[5:-5, 5:-5][inside[5:-5, 5:-5] >= 0.5].mean() ** weight
    return float(product)


@pytest.mark.parametrize(("height", "width"), [(176, 176), (200, 187), (256, 224)])
def test_is_torchmetrics(height: int, width: int) -> None:
    functional = pytest.importorskip("torchmetrics.functional.image")
    generated, truth = pair(height, width)
    tensors = [torch.from_numpy(p).permute(0, 3, 1, 2).double() for p in (generated, truth)]
    # Put together from its single scales: its own MS-SSIM averages the coarsest SSIM over reflected borders too, which
    # is up to 3e-4 off on small pictures, while every other scale takes valid windows alone.
    expected = 1.0
    for scale, weight in enumerate(multiscale.WEIGHTS):
        measure = partial(
            functional.structural_similarity_index_measure, *tensors, data_range=255.0
        )
        if scale < 4:
            expected *= float(measure(return_contrast_sensitivity=True)[1]) ** weight
        else:
            whole = measure(return_full_image=True)[1]
            expected *= float(whole[..., 5:-5, 5:-5].mean()) ** weight
        tensors = [torch.nn.functional.avg_pool2d(one, 2) for one in tensors]
    assert multiscale.ms_ssim(generated, truth)[0] == pytest.approx(expected, abs=1e-9)
    assert 0.2 < expected < 0.98


def test_the_person_form_is_the_maps_mean_over_the_mask() -> None:
    generated, truth = pair(207, 230)
    mask = np.zeros((1, 207, 230), np.uint8)
    cv2.circle(mask[0], (101, 110), 61, 255, -1)
    mask[0, :, ::7] = 200
    expected = slow_person(generated[0], truth[0], mask[0] >= 128)
    score = multiscale.ms_ssim_person(generated, truth, mask)[0]
    assert score == pytest.approx(expected, abs=1e-9)
    assert abs(score - multiscale.ms_ssim(generated, truth)[0]) > 1e-4


def test_a_full_mask_gives_the_frames_score() -> None:
    generated, truth = pair(180, 176)
    found = multiscale.scores(
        multiscale.MULTISCALE_METRICS, generated, truth, np.full((1, 180, 176), 128, np.uint8)
    )
    assert found["ms_ssim_person"][0] == found["ms_ssim"][0]


def test_identical_pictures_opposite_pictures_and_nobody() -> None:
    _, truth = pair(176, 190)
    mask = np.zeros((1, 176, 190), np.uint8)
    found = multiscale.scores(multiscale.MULTISCALE_METRICS, truth, truth, mask)
    assert found["ms_ssim"][0] == pytest.approx(1, abs=1e-12)
    assert np.isnan(found["ms_ssim_person"][0])
    # A person too small for the coarsest scale.
    mask[0, 80:90, 80:90] = 255
    assert np.isnan(multiscale.ms_ssim_person(truth, truth, mask)[0])
    assert multiscale.ms_ssim(255 - truth, truth)[0] == 0


def test_a_batch_is_its_pairs() -> None:
    pairs = [pair(176, 180, seed=seed) for seed in range(3)]
    generated, truth = (np.concatenate(pictures) for pictures in zip(*pairs, strict=True))
    alone = [multiscale.ms_ssim(*one)[0] for one in pairs]
    assert multiscale.ms_ssim(generated, truth).tolist() == alone


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"names": ["ssim"]}, ValueError, "Choose of: ms_ssim"),
        ({"mask": None}, ValueError, "needs a mask"),
        ({"truth": np.zeros((1, 180, 180, 3), np.float32)}, TypeError, "float32"),
        ({"truth": np.zeros((2, 180, 180, 3), np.uint8)}, ValueError, "must be equal"),
        ({"mask": np.zeros((1, 180, 181), np.uint8)}, ValueError, "must be"),
    ],
)
def test_wrong_input_is_named(change: dict, error: type[Exception], words: str) -> None:
    frames = np.zeros((1, 180, 180, 3), np.uint8)
    given = {
        "names": ["ms_ssim_person"],
        "generated": frames,
        "truth": frames,
        "mask": frames[..., 0],
    }
    with pytest.raises(error, match=words):
        multiscale.scores(**{**given, **change})


def test_pictures_too_small_for_five_scales_are_refused() -> None:
    frames = np.zeros((1, 175, 300, 3), np.uint8)
    with pytest.raises(ValueError, match="176 pixels"):
        multiscale.ms_ssim(frames, frames)
