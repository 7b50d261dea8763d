"""Pixel metrics against scikit-image, closed forms and the official package's numbers."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from benchmarks.metrics import pixel

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def noise_pair(height: int, width: int, seed: int = 0) -> Pair:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.clip(truth + rng.normal(0, 30, truth.shape), 0, 255).astype(np.uint8), truth


def smooth_pair(height: int, width: int) -> Pair:
    """Flat and nearly flat regions, where rounding hurts most."""
    rows, columns = np.mgrid[:height, :width]
    truth = np.stack([200 + rows // 9, 255 - columns // 7, np.full_like(rows, 250)], -1)
    generated = truth.copy()
    generated[height // 3 : height // 2] -= 2
    return generated.astype(np.uint8), truth.astype(np.uint8)


def skimage_map(generated: NDArray, truth: NDArray, data_range: float) -> NDArray[np.float64]:
    """SSIM at the centres of the valid windows: (H - 6, W - 6, 3)."""
    _, full = structural_similarity(
        generated, truth, channel_axis=-1, data_range=data_range, full=True
    )
    return full[3:-3, 3:-3]


def to_signed(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    return picture / 255 * 2 - 1


def half_mask(height: int, width: int, seed: int = 1) -> NDArray[np.uint8]:
    """Soft values on both sides of the threshold, up to the border."""
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


PAIRS = [noise_pair(40, 40), noise_pair(7, 7), noise_pair(8, 31, 4), smooth_pair(50, 36)]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: "x".join(map(str, pair[0].shape[:2])))
def test_ssim_is_scikit_images(pair: Pair) -> None:
    generated, truth = pair
    expected = structural_similarity(generated, truth, channel_axis=-1)
    assert pixel.ssim(generated[None], truth[None])[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: "x".join(map(str, pair[0].shape[:2])))
def test_official_ssim_is_scikit_images_on_signed_pictures(pair: Pair) -> None:
    generated, truth = pair
    expected = skimage_map(to_signed(generated), to_signed(truth), 2).mean()
    assert pixel.ssim_official(generated[None], truth[None])[0] == pytest.approx(expected, abs=1e-9)


def test_ssim_of_the_person_is_the_maps_mean_over_the_mask() -> None:
    generated, truth = noise_pair(40, 32)
    mask = half_mask(40, 32)
    windows = skimage_map(generated, truth, 255)
    expected = windows[mask[3:-3, 3:-3] >= 128].mean()
    score = pixel.ssim_person(generated[None], truth[None], mask[None])[0]
    assert score == pytest.approx(expected, abs=1e-12)


def test_a_full_mask_gives_the_frames_scores() -> None:
    generated, truth = noise_pair(20, 24)
    full = np.full((1, 20, 24), 255, np.uint8)
    scores = pixel.scores(pixel.PIXEL_METRICS, generated[None], truth[None], full)
    for name in ("ssim", "psnr", "l1"):
        assert scores[f"{name}_person"] == pytest.approx(scores[name], rel=1e-14)


def test_psnr_and_l1_are_their_formulas() -> None:
    generated, truth = noise_pair(33, 21)
    mask = half_mask(33, 21)
    scores = pixel.scores(pixel.PIXEL_METRICS, generated[None], truth[None], mask[None])
    difference = generated.astype(float) - truth
    person = difference[mask >= 128]
    assert scores["psnr"][0] == pytest.approx(
        peak_signal_noise_ratio(truth, generated, data_range=255)
    )
    assert scores["psnr_person"][0] == pytest.approx(10 * np.log10(255**2 / (person**2).mean()))
    assert scores["l1"][0] == pytest.approx(np.abs(difference).mean() / 255)
    assert scores["l1_person"][0] == pytest.approx(np.abs(person).mean() / 255)


def test_large_differences_do_not_overflow() -> None:
    black, white = np.zeros((1, 300, 300, 3), np.uint8), np.full((1, 300, 300, 3), 255, np.uint8)
    assert pixel.psnr(black, white)[0] == 0
    assert pixel.l1(black, white)[0] == 1
    expected = 0.01**2 / (1 + 0.01**2)
    assert pixel.ssim(black, white)[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("darkest", [127, 128])
def test_official_psnr_guesses_its_range_from_the_truth(darkest: int) -> None:
    generated, truth = (np.maximum(picture, darkest) for picture in noise_pair(16, 16))
    truth[5, 5, 1] = darkest
    signed = to_signed(truth)
    expected = peak_signal_noise_ratio(
        signed, to_signed(generated), data_range=2 if signed.min() < 0 else 1
    )
    assert pixel.psnr_official(generated[None], truth[None])[0] == pytest.approx(expected)
    gap = pixel.psnr(generated[None], truth[None]) - pixel.psnr_official(
        generated[None], truth[None]
    )
    assert gap[0] == pytest.approx(20 * np.log10(2) if darkest == 128 else 0)


def test_identical_pictures() -> None:
    _, truth = noise_pair(20, 20)
    mask = half_mask(20, 20)
    scores = pixel.scores(pixel.PIXEL_METRICS, truth[None], truth[None], mask[None])
    for name in pixel.PIXEL_METRICS:
        expected = {
            "psnr": 10 * np.log10(255**2 * truth.size),
            "psnr_person": 10 * np.log10(255**2 * 3 * (mask >= 128).sum()),
            "psnr_official": np.inf,
        }.get(name, {"s": 1.0, "l": 0.0}.get(name[0]))
        assert scores[name][0] == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("name", ["psnr", "psnr_person"])
def test_psnr_is_finite_and_never_lower_for_more_alike_pictures(name: str) -> None:
    _, truth = noise_pair(20, 20)
    full = np.full((1, 20, 20), 255, np.uint8)
    falling = []
    for grey_levels, count in ((0, 0), (1, 1), (1, 2), (2, 1), (2, 5)):
        generated = truth.copy()
        flat = generated.reshape(-1)
        flat[:count] = np.where(
            flat[:count] < 100, flat[:count] + grey_levels, flat[:count] - grey_levels
        )
        falling.append(pixel.scores([name], generated[None], truth[None], full)[name][0])
    assert np.isfinite(falling).all()
    assert falling == sorted(falling, reverse=True)
    assert len(set(falling)) == 4  # identical counts as one grey level in one value


def test_a_person_only_near_the_border_has_no_window_but_has_pixels() -> None:
    generated, truth = noise_pair(20, 20)
    mask = np.zeros((1, 20, 20), np.uint8)
    mask[:, :3] = 255
    scores = pixel.scores(pixel.PIXEL_METRICS, generated[None], truth[None], mask)
    assert np.isnan(scores["ssim_person"][0])
    assert np.isfinite([scores["psnr_person"][0], scores["l1_person"][0]]).all()


def test_pictures_that_do_not_lie_in_one_piece_and_threads() -> None:
    frames = np.stack([np.stack(noise_pair(24, 24, seed)) for seed in range(6)])
    generated, truth = frames[:, 0, ::2, ::-1], frames[:, 1, ::2, ::-1]
    mask = np.stack([half_mask(24, 24, seed) for seed in range(6)])[:, ::2]
    whole = pixel.scores(pixel.PIXEL_METRICS, generated, truth, mask)
    with ThreadPoolExecutor(3) as pool:
        parts = list(
            pool.map(
                lambda i: pixel.scores(
                    pixel.PIXEL_METRICS,
                    generated[i : i + 1].copy(),
                    truth[i : i + 1].copy(),
                    mask[i : i + 1].copy(),
                ),
                range(6),
            )
        )
    for name in pixel.PIXEL_METRICS:
        np.testing.assert_array_equal(whole[name], np.concatenate([part[name] for part in parts]))


def test_wrong_input_is_named() -> None:
    frame = np.zeros((1, 8, 8, 3), np.uint8)
    mask = np.zeros((1, 8, 8), np.uint8)
    with pytest.raises(ValueError, match="Unknown pixel metric 'lpips'"):
        pixel.scores(["lpips"], frame, frame)
    with pytest.raises(TypeError, match="generated is float32"):
        pixel.ssim(frame.astype(np.float32), frame)
    with pytest.raises(ValueError, match=r"truth is \(8, 8, 3\)"):
        pixel.ssim(frame, frame[0])
    with pytest.raises(ValueError, match="no frame may be missing"):
        pixel.ssim(frame, np.concatenate([frame, frame]))
    with pytest.raises(ValueError, match="7 pixels a side"):
        pixel.ssim(frame[:, :6], frame[:, :6])
    with pytest.raises(TypeError, match="mask is bool"):
        pixel.l1_person(frame, frame, mask.astype(bool))
    with pytest.raises(ValueError, match=r"it must be \(1, 8, 8\)"):
        pixel.l1_person(frame, frame, mask[:, :4])


@pytest.mark.parity
def test_the_official_packages_numbers(fixtures_folder: Path) -> None:
    expected = json.loads((fixtures_folder / "evaluation/ssim_psnr_expected.json").read_text())
    assert len(expected["names"]) == 8
    with np.load(fixtures_folder / "evaluation/image_pairs.npz") as pairs:
        for i in range(len(expected["names"])):
            generated, truth = pairs[f"pred_{i}"][None], pairs[f"ref_{i}"][None]
            scores = pixel.scores(
                ["ssim", "ssim_official", "psnr", "psnr_official"], generated, truth
            )
            for name, column, tolerance in (
                ("ssim_official", "ssim", 1e-6),
                ("psnr_official", "psnr", 1e-4),
                ("ssim", "ssim_standard_01", 1e-6),
                ("psnr", "psnr_standard_255", 1e-4),
            ):
                official = float(expected[column][i])
                if name == "psnr" and official == np.inf:
                    official = 10 * np.log10(255**2 * truth.size)  # ours stays finite
                assert scores[name][0] == pytest.approx(official, abs=tolerance)
